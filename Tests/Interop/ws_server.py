"""A worker made of Python's websockets, in the clear or over mutual TLS; ends when standard input does.

usage: ws_server.py [CERTDIR]        prints the port it listens on

What it is called with says how it answers: "hello" with "world", "boom" with an error, "data" with an error
and a result beside it, "binary" in a binary message, {"of": N} not before N of these have come, the last
of them first; all else with itself.
"""

import asyncio
import json
import ssl
import sys

import websockets


def server_context(certs: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{certs}/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    return context


def encoded(*parts) -> str:
    return json.dumps(parts, separators=(",", ":"))


async def serve(socket) -> None:
    held = []
    async for message in socket:
        rid, _key, payload, *_ = json.loads(message)
        if payload == "boom":
            await socket.send(encoded(rid, "boom", None))
        elif payload == "data":
            await socket.send(encoded(rid, "ERR_DATA: é", {"a": 1}))
        elif payload == "binary":
            await socket.send(encoded(rid, None, payload).encode())
        elif isinstance(payload, dict) and "of" in payload:
            held.append((rid, payload))
            if len(held) == payload["of"]:
                for each in reversed(held):
                    await socket.send(encoded(each[0], None, each[1]))
                held = []
        else:
            await socket.send(encoded(rid, None, "world" if payload == "hello" else payload))


async def main() -> None:
    context = server_context(sys.argv[1]) if len(sys.argv) > 1 else None
    async with websockets.serve(serve, "127.0.0.1", 0, ssl=context) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
