"""A subscriber as existing ones are: connects, says nothing, prints what comes; in the clear, or with
certificates over mutual TLS.

usage: ws_sub.py HOST PORT COUNT [CERTDIR]
"""

import asyncio
import ssl
import sys

import websockets


def client_context(certs: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=f"{certs}/ca.pem")
    context.check_hostname = False  # a publisher is known by its key, which this client ignores
    context.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    return context


async def main() -> None:
    host, port, count, *certs = sys.argv[1:]
    context = client_context(certs[0]) if certs else None
    uri = f"{'wss' if certs else 'ws'}://{host}:{port}/ws"
    async with websockets.connect(uri, ssl=context, open_timeout=5) as socket:
        for _ in range(int(count)):
            print(await asyncio.wait_for(socket.recv(), 20), flush=True)


asyncio.run(main())
