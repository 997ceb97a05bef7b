"""Reads what a server of ours emits with h11 and wsproto, parsers that share nothing with ours.

usage: framing_peers.py HOST PORT       of `grenache echo --insecure-plaintext`; prints a line a protocol
"""

import random
import socket
import sys

import h11
import wsproto
import wsproto.events as events
from wsproto.extensions import PerMessageDeflate


def connect() -> socket.socket:
    return socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)


def one_cycle(stream, connection, request, parts):
    """Sends a request and reads its response: head, body, and the trailers that there must not be."""
    stream.sendall(connection.send(request))
    for part in parts:
        stream.sendall(connection.send(h11.Data(data=part)))
    stream.sendall(connection.send(h11.EndOfMessage()))
    head, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(stream.recv(65_536))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return head, body
        elif isinstance(event, h11.ConnectionClosed):
            raise SystemExit("closed in the middle of a response")


def http() -> str:
    host = ("Host", "x")
    bodies = [b"", b"a", b"hello " * 10_000, bytes(range(256)) * 100]
    count = 0
    with connect() as stream:
        connection = h11.Connection(h11.CLIENT)
        for body in bodies:
            for fields, parts in [
                ([("Content-Length", str(len(body)))], [body]),
                ([("Transfer-Encoding", "chunked")],
                 [body[start : start + 999] for start in range(0, len(body), 999)]),
            ]:
                request = h11.Request(method="POST", target="/", headers=[host] + fields)
                head, answer = one_cycle(stream, connection, request, [p for p in parts if p])
                if head.status_code != 200 or answer != body:
                    raise SystemExit(f"{head.status_code}, {len(answer)} bytes for {len(body)}")
                if not dict(head.headers).get(b"date"):
                    raise SystemExit("no Date")
                connection.start_next_cycle()
                count += 1
        request = h11.Request(method="HEAD", target="/", headers=[host])
        head, answer = one_cycle(stream, connection, request, [])
        if head.status_code != 200 or answer:
            raise SystemExit("HEAD with a body")
        connection.start_next_cycle()
        request = h11.Request(method="GET", target="/", headers=[host, ("Connection", "close")])
        head, _ = one_cycle(stream, connection, request, [])
        if stream.recv(1) != b"" or connection.our_state is not h11.MUST_CLOSE:
            raise SystemExit("not closed")
    with connect() as stream:
        stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[host]))
        connection.receive_data(stream.recv(65_536))
        refusal = connection.next_event()
        if refusal.status_code != 400:
            raise SystemExit(f"{refusal.status_code} for a request without Host")
    return f"h11: {count} bodies on one connection, HEAD, close, refusal"


def websocket(extensions) -> str:
    with connect() as stream:
        connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        request = events.Request(host="x", target="/", extensions=extensions)
        stream.sendall(connection.send(request))
        generator = random.Random(3)
        words = [generator.choice(["κόσμε", "😀", "grape", "a", "\n"]) for _ in range(20_000)]
        texts = ["", "a", " ".join(words), "x" * 50_000, " ".join(words)]
        received, current, state = [], "", "opening"
        while state != "closed":
            connection.receive_data(stream.recv(65_536))
            for event in connection.events():
                if isinstance(event, events.AcceptConnection):
                    chosen = [one.name for one in event.extensions]
                    for text in texts:
                        middle = len(text) // 2
                        stream.sendall(
                            connection.send(
                                events.TextMessage(data=text[:middle], message_finished=False)))
                        stream.sendall(connection.send(events.Ping(payload=b"p")))
                        stream.sendall(connection.send(events.TextMessage(data=text[middle:])))
                elif isinstance(event, events.TextMessage):
                    current += event.data
                    if event.message_finished:
                        received.append(current)
                        current = ""
                    if len(received) == len(texts) and state == "opening":
                        state = "closing"
                        stream.sendall(
                            connection.send(events.CloseConnection(code=1000, reason="done")))
                elif isinstance(event, events.CloseConnection):
                    state = "closed"
                    if event.code != 1000:
                        raise SystemExit(f"closed with {event.code}")
        if received != texts:
            raise SystemExit("messages came back changed")
        return f"wsproto: {len(received)} messages, {chosen or 'no extension'}, closed"


print(http())
print(websocket([]))
print(websocket([PerMessageDeflate()]))
