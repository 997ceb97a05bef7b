"""A publisher as existing ones are: a plain WebSocket server that sends what it reads on standard input,
line by line, to everybody who is connected. Ends when standard input does.

usage: ws_pub.py        prints the port it listens on; each line is sent once there is a subscriber
"""

import asyncio
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


async def main() -> None:
    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await arrived.wait()
            for socket in list(subscribers):
                await socket.send(line.rstrip("\n"))


asyncio.run(main())
