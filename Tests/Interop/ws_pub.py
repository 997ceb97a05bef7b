"""A publisher as existing ones are: a plain WebSocket server that sends what it reads on standard input,
line by line, to everybody who is connected; in the clear, or with certificates over mutual TLS. Ends when
standard input does.

usage: ws_pub.py [CERTDIR]        prints the port it listens on; each line is sent once there is a subscriber
"""

import asyncio
import ssl
import sys

import websockets

subscribers = set()
arrived = asyncio.Event()


async def serve(socket) -> None:
    subscribers.add(socket)
    arrived.set()
    async for _ in socket:
        pass
    subscribers.discard(socket)


def server_context(certs: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{certs}/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    return context


async def main() -> None:
    context = server_context(sys.argv[1]) if len(sys.argv) > 1 else None
    async with websockets.serve(serve, "127.0.0.1", 0, ssl=context) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await arrived.wait()
            for socket in list(subscribers):
                await socket.send(line.rstrip("\n"))


asyncio.run(main())
