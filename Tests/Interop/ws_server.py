"""A worker made of Python's websockets over mutual TLS; ends when standard input does.

usage: ws_server.py CERTDIR        prints the port it listens on
"""

import asyncio
import json
import ssl
import sys

import websockets


async def serve(socket) -> None:
    async for message in socket:
        rid, _key, payload = json.loads(message)
        result = "world" if payload == "hello" else payload
        await socket.send(json.dumps([rid, None, result], separators=(",", ":")))


async def main() -> None:
    certs = sys.argv[1]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{certs}/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    async with websockets.serve(serve, "127.0.0.1", 0, ssl=context) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
