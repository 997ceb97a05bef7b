"""Talks to an echo server of ours with Python's websockets over mutual TLS, with and without compression.

usage: ws_compression.py HOST PORT CERTDIR      prints one line for each way of talking
"""

import asyncio
import random
import ssl
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

WAYS = {
    "plain": None,
    "default": "deflate",
    "own context": [ClientPerMessageDeflateFactory(client_max_window_bits=True)],
    "small windows": [
        ClientPerMessageDeflateFactory(
            server_max_window_bits=9, client_max_window_bits=9)
    ],
    "no context": [
        ClientPerMessageDeflateFactory(
            server_no_context_takeover=True, client_no_context_takeover=True)
    ],
}


def messages() -> list:
    generator = random.Random(7)
    words = ["grape", "lookup", "κόσμε", "😀", "service", '"', "\\", "\n"]
    texts = ["", "a", "hello"]
    for count in (100, 2_000, 20_000, 200_000):
        texts.append(" ".join(generator.choice(words) for _ in range(count)))
    noise = [generator.randbytes(size) for size in (1, 126, 65_536, 1 << 20)]
    return texts + noise + [b"\0" * 60_000, b"x" * (4 << 20), texts[4], texts[4]]


async def fragments(message):
    """The message in up to 40 fragments; cut between characters, which websockets wants for text."""
    size = max(1, len(message) // 39)
    for start in range(0, max(len(message), 1), size):
        yield message[start : start + size]


async def talk(uri: str, context: ssl.SSLContext, way: str) -> str:
    choice = WAYS[way]
    arguments = {"compression": choice} if choice in (None, "deflate") else {
        "compression": None, "extensions": choice}
    count = 0
    async with websockets.connect(
        uri, ssl=context, open_timeout=20, max_size=None, ping_interval=None, **arguments
    ) as socket:
        extensions = [one.name for one in socket.protocol.extensions]
        for message in messages():
            # Zeros by the megabyte are a bomb to the other end.
            if extensions and isinstance(message, bytes) and len(message) > 1 << 20:
                continue
            await socket.send(message)
            await socket.send(fragments(message) if message else message)
            for _ in range(2):
                reply = await asyncio.wait_for(socket.recv(), 30)
                if reply != message:
                    raise SystemExit(f"{way}: {len(message)} sent, {len(reply)} came back")
                count += 1
        await asyncio.wait_for(await socket.ping(), 20)
    return f"{way}: {count} messages, {extensions or 'no extension'}, closed {socket.close_code}"


async def bomb(uri: str, context: ssl.SSLContext) -> str:
    """10 MiB of zeros, in about 10 KiB: refused with 1009."""
    async with websockets.connect(
        uri, ssl=context, open_timeout=20, max_size=None, ping_interval=None
    ) as socket:
        await socket.send(b"\0" * (10 << 20))
        try:
            await asyncio.wait_for(socket.recv(), 30)
        except websockets.ConnectionClosed:
            return f"bomb: closed {socket.close_code}"
    return "bomb: taken"


async def main() -> None:
    host, port, certs = sys.argv[1:4]
    context = ssl.create_default_context(cafile=f"{certs}/ca.pem")
    context.check_hostname = False
    context.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    uri = f"wss://{host}:{port}/"
    for way in WAYS:
        print(await talk(uri, context, way))
    print(await bomb(uri, context))


asyncio.run(main())
