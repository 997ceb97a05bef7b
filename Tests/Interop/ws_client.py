"""Calls a worker with Python's websockets over mutual TLS and prints the reply.

usage: ws_client.py HOST PORT CERTDIR MESSAGE
"""

import asyncio
import ssl
import sys

import websockets


async def main() -> None:
    host, port, certs, message = sys.argv[1:5]
    context = ssl.create_default_context(cafile=f"{certs}/ca.pem")
    context.check_hostname = False  # a worker is known by its service, which this client ignores
    context.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    uri = f"wss://{host}:{port}/ws"
    async with websockets.connect(uri, ssl=context, open_timeout=5) as socket:
        await socket.send(message)
        print(await asyncio.wait_for(socket.recv(), 5))


asyncio.run(main())
