"""Speaks KRPC to a grape, datagram by datagram, and checks what comes back.

usage: krpc_probe.py HOST PORT                 prints "ok" and the number of checks, or what is wrong
       krpc_probe.py HOST PORT KEYS PEERS      the same, of a node that keeps so many keys, and so many
                                               announcements of one address: errors 201 and 202
"""

import hashlib
import os
import socket
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HOST, PORT = sys.argv[1], int(sys.argv[2])
LIMITS = [int(word) for word in sys.argv[3:]]
ID = os.urandom(20)
checks = 0
faults = []


def encode(value) -> bytes:
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, str):
        return encode(value.encode())
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    return b"d" + b"".join(encode(k) + encode(value[k]) for k in sorted(value)) + b"e"


def decode(data: bytes, index: int = 0):
    kind = data[index : index + 1]
    if kind == b"i":
        end = data.index(b"e", index)
        return int(data[index + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items, index = [], index + 1
        while data[index : index + 1] != b"e":
            item, index = decode(data, index)
            items.append(item)
        if kind == b"l":
            return items, index + 1
        return dict(zip(items[::2], items[1::2])), index + 1
    colon = data.index(b":", index)
    end = colon + 1 + int(data[index:colon])
    return data[colon + 1 : end], end


class Node:
    """One address that asks, and answers pings, so that it may be known."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    def raw(self, datagram: bytes, wait: float = 2.0):
        """Sends; gives the first message that is no query, or None."""
        self.socket.sendto(datagram, (HOST, PORT))
        self.socket.settimeout(wait)
        try:
            while True:
                message, _ = decode(self.socket.recv(65536))
                if message[b"y"] != b"q":
                    return message
                answer = {"t": message[b"t"], "y": "r", "r": {"id": ID}}
                self.socket.sendto(encode(answer), (HOST, PORT))
        except TimeoutError:
            return None

    def ask(self, method: str, transaction: bytes = b"aa", **arguments):
        query = {"t": transaction, "y": "q", "q": method, "a": {"id": ID, **arguments}}
        return self.raw(encode(query))


def check(what: str, condition) -> None:
    global checks
    checks += 1
    if not condition:
        faults.append(what)


def code(message):
    return message[b"e"][0] if message and message.get(b"y") == b"e" else None


def main() -> None:
    node = Node()
    check("ping", node.ask("ping")[b"r"][b"id"])
    for transaction in (b"", b"x", b"12345678"):
        check("t is echoed", node.ask("ping", transaction)[b"t"] == transaction)
    check("find_node", b"nodes" in node.ask("find_node", target=os.urandom(20))[b"r"])

    # Tokens: good for their address, and for nothing else.
    key = os.urandom(20)
    first = node.ask("get_peers", info_hash=key)[b"r"]
    token = first[b"token"]
    check("nodes or values", b"nodes" in first and b"values" not in first)
    wrong = node.ask("announce_peer", info_hash=key, port=5, token=b"wrong")
    check("203 for a bad token", code(wrong) == 203)
    good = node.ask("announce_peer", info_hash=key, port=5, token=token)
    check("announced", good[b"y"] == b"r")
    values = node.ask("get_peers", info_hash=key)[b"r"][b"values"]
    check("values", values == [socket.inet_aton("127.0.0.1") + b"\x00\x05"])
    implied = node.ask("announce_peer", info_hash=key, port=9, implied_port=1, token=token)
    port = node.socket.getsockname()[1].to_bytes(2, "big")
    values = node.ask("get_peers", info_hash=key)[b"r"][b"values"]
    check("implied_port", implied[b"y"] == b"r" and any(v[4:] == port for v in values))
    gone = node.ask("grenache_withdraw_peer", info_hash=key, port=5, token=token)
    values = node.ask("get_peers", info_hash=key)[b"r"][b"values"]
    check("withdrawn", gone[b"y"] == b"r" and all(v[4:] == port for v in values))
    bad = node.ask("grenache_withdraw_peer", info_hash=key, port=5, token=b"x")
    check("203 for a withdrawal without token", code(bad) == 203)

    # Errors: BEP 5 and BEP 44.
    check("203 without target", code(node.ask("find_node")) == 203)
    check("203 for a number", code(node.ask("get_peers", info_hash=5)) == 203)
    check("203 for port 0", code(node.ask("announce_peer", info_hash=key, port=0, token=token)) == 203)
    check("204", code(node.ask("dance")) == 204)
    check("put with a bad token", code(node.ask("put", v="x", token=b"x")) == 203)
    check("1,000 bytes", node.ask("put", v=b"x" * 1000, token=token)[b"y"] == b"r")
    check("205", code(node.ask("put", v=b"x" * 1001, token=token)) == 205)
    target = hashlib.sha1(encode(b"x" * 1000)).digest()
    check("got", node.ask("get", target=target)[b"r"][b"v"] == b"x" * 1000)
    mutable(node, token)
    oversized(node)

    # What is no message is dropped, and harms nobody.
    rubbish = [b"", b"garbage", b"d", b"le", b"i1e", b"d1:y1:qe", b"\x00" * 1500, b"l" * 5000]
    rubbish += [encode({"t": b"aa", "y": "q", "q": "ping", "a": {"id": b"short"}})]
    rubbish += [b"d1:ad2:id20:" + b"a" * 20 + b"e1:q4:ping1:t9999999999:aa1:y1:qe"]
    rubbish += [encode({"t": b"aa", "y": "q", "q": "get_peers", "a": {"id": ID, "info_hash": b"k" * 60000}})]
    for datagram in rubbish:
        check(f"dropped: {datagram[:40]!r}", node.raw(datagram, 0.05) is None)
    for _ in range(2000):
        datagram = bytearray(encode({"t": b"aa", "y": "q", "q": "get_peers", "a": {"id": ID, "info_hash": key}}))
        for _ in range(3):
            datagram[os.urandom(1)[0] % len(datagram)] = os.urandom(1)[0]
        node.socket.sendto(bytes(datagram), (HOST, PORT))
    after = Node()
    check("still there", after.ask("ping")[b"y"] == b"r")


def mutable(node: Node, token: bytes) -> None:
    """The key and the signatures of BEP 44's table."""
    k = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
    sig = bytes.fromhex(
        "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
        "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
    )
    item = {"k": k, "v": "Hello World!", "sig": sig, "seq": 1, "token": token}
    check("206", code(node.ask("put", **{**item, "seq": 2})) == 206)
    check("207", code(node.ask("put", **item, salt=b"s" * 65)) == 207)
    check("mutable put", node.ask("put", **item)[b"y"] == b"r")
    check("301", code(node.ask("put", **item, cas=7)) == 301)
    other = {**item, "v": "Hello World?"}
    check("206 for another value", code(node.ask("put", **other)) == 206)
    target = hashlib.sha1(k).digest()
    got = node.ask("get", target=target)[b"r"]
    check("mutable get", got[b"v"] == b"Hello World!" and got[b"seq"] == 1 and got[b"sig"] == sig)
    newer = node.ask("get", target=target, seq=1)[b"r"]
    check("nothing newer", b"v" not in newer and newer[b"seq"] == 1)
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()

    def put(seq: int, value: bytes):
        signature = private.sign(b"3:seqi%de1:v" % seq + encode(value))
        return node.ask("put", k=public, v=value, sig=signature, seq=seq, token=token)

    check("seq 2", put(2, b"two")[b"y"] == b"r")
    check("302", code(put(1, b"one")) == 302)
    check("302 for the same number", code(put(2, b"other")) == 302)


def limits(keys: int, peers: int) -> None:
    """Announces up to both limits, and one past each."""
    node = Node()
    names = [os.urandom(20) for _ in range(keys + 1)]
    token = node.ask("get_peers", info_hash=names[0])[b"r"][b"token"]

    def announce(name: bytes, port: int):
        return node.ask("announce_peer", info_hash=name, port=port, token=token)

    for name in names[:keys]:
        check("a key at the limit", announce(name, 1)[b"y"] == b"r")
    past = announce(names[keys], 1)
    check("202 for a key past the limit", code(past) == 202)
    check("an error has a text", past[b"e"][1:] and past[b"t"] == b"aa")
    for port in range(2, 2 + peers - keys):
        check("an announcement at the limit", announce(names[0], port)[b"y"] == b"r")
    check("201 for one past the limit of an address", code(announce(names[0], 60000)) == 201)
    check("201 for a new key as well", code(announce(names[keys], 1)) == 201)
    check("renewing is no new one", announce(names[0], 1)[b"y"] == b"r")
    gone = node.ask("grenache_withdraw_peer", info_hash=names[0], port=2, token=token)
    check("withdrawn", gone[b"y"] == b"r")
    check("what is withdrawn makes room", announce(names[1], 7)[b"y"] == b"r")


def oversized(node: Node) -> None:
    """A datagram at the limit of 8,192 bytes is read, one past it is not; 65,507 is the most of UDP."""

    def padded(size: int) -> bytes:
        query = {"t": b"aa", "y": "q", "q": "ping", "a": {"id": ID}, "z": b""}
        for length in range(size - len(encode(query)) - 8, size):
            datagram = encode({**query, "z": b"x" * length})
            if len(datagram) == size:
                return datagram
        raise ValueError(size)

    check("8,192 bytes", node.raw(padded(8192))[b"y"] == b"r")
    for size in (8193, 65507):
        check(f"{size} bytes", node.raw(padded(size), 0.1) is None)
    longest = node.ask("get_peers", info_hash=b"k" * 4096)
    check("a key at its limit", longest[b"y"] == b"r")
    check("203 for a key past it", code(node.ask("get_peers", info_hash=b"k" * 4097)) == 203)
    check("a transaction at its limit", node.ask("ping", b"t" * 64)[b"t"] == b"t" * 64)
    past = encode({"t": b"t" * 65, "y": "q", "q": "ping", "a": {"id": ID}})
    check("a transaction past it", node.raw(past, 0.1) is None)


if LIMITS:
    limits(*LIMITS)
else:
    main()
print("\n".join(faults) if faults else f"ok {checks}")
sys.exit(1 if faults else 0)
