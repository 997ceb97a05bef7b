"""A subscriber as existing ones are: connects in the clear, says nothing, prints what comes.

usage: ws_sub.py HOST PORT COUNT
"""

import asyncio
import sys

import websockets


async def main() -> None:
    host, port, count = sys.argv[1:4]
    async with websockets.connect(f"ws://{host}:{port}/ws", open_timeout=5) as socket:
        for _ in range(int(count)):
            print(await asyncio.wait_for(socket.recv(), 20), flush=True)


asyncio.run(main())
