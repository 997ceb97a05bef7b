"""An echo server made of Python's websockets, in the clear, which compresses; ends when standard input does.

usage: ws_echo_server.py [FRAGMENT]     prints its port; with FRAGMENT answers in parts of so many bytes
"""

import asyncio
import sys

import websockets


async def echo(socket) -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    async for message in socket:
        if size and len(message) > size:
            await socket.send(
                [message[start : start + size] for start in range(0, len(message), size)])
        else:
            await socket.send(message)


async def main() -> None:
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
