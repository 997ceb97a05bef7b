"""Calls a worker with Python's websockets, in the clear or over mutual TLS: sends all messages, then prints
as many replies as they come, those in binary messages with "bytes:" in front.

usage: ws_client.py HOST PORT [--certs CERTDIR] [--binary] MESSAGE...
"""

import argparse
import asyncio
import ssl

import websockets


def client_context(certs: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=f"{certs}/ca.pem")
    context.check_hostname = False  # a worker is known by its service, which this client ignores
    context.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    return context


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port")
    parser.add_argument("--certs")
    parser.add_argument("--binary", action="store_true")
    parser.add_argument("messages", nargs="+")
    options = parser.parse_args()
    context = client_context(options.certs) if options.certs else None
    uri = f"{'wss' if context else 'ws'}://{options.host}:{options.port}/ws"
    async with websockets.connect(uri, ssl=context, open_timeout=5) as socket:
        for message in options.messages:
            await socket.send(message.encode() if options.binary else message)
        for _ in options.messages:
            reply = await asyncio.wait_for(socket.recv(), 20)
            print(reply if isinstance(reply, str) else f"bytes:{reply.decode()}", flush=True)


asyncio.run(main())
