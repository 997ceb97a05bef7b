"""An independent DHT node, libtorrent's, beside a grape.

usage: libtorrent_node.py HOST DHTPORT        bootstraps from the grape and obeys lines on standard input:

    announce HEX PORT      announces an info-hash
    get_peers HEX          prints "peers" and what it finds
    put TEXT               stores an immutable value, prints "put" and its target
    get HEX                prints "got" and the value
    mput TEXT              stores a mutable value by BEP 44's key, prints "mput" and the public key
    mget HEX               prints "mgot" and the value of a public key

It prints "ready" once it knows a node that the grape has named, and ends when standard input does.
"""

import sys
import time

import libtorrent as lt

HOST, PORT = sys.argv[1], int(sys.argv[2])
session = lt.session(
    {
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": True,
        "dht_bootstrap_nodes": f"{HOST}:{PORT}",
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_ignore_dark_internet": False,
        "dht_enforce_node_id": False,
        "dht_prefer_verified_node_ids": False,
        "allow_multiple_connections_per_ip": True,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "alert_mask": lt.alert.category_t.dht_notification
        | lt.alert.category_t.dht_operation_notification
        | lt.alert.category_t.stats_notification,
    }
)

# The key pair of BEP 44's table.
PUBLIC = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
PRIVATE = bytes.fromhex(
    "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d"
    "b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d"
)


def say(*words) -> None:
    print(*words, flush=True)


def wait(kind, seconds: float = 15.0, accept=lambda alert: True):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        session.wait_for_alert(200)
        for alert in session.pop_alerts():
            if isinstance(alert, kind) and accept(alert):
                return alert
    return None


def nodes() -> int:
    session.post_dht_stats()
    alert = wait(lt.dht_stats_alert, 2.0)
    return sum(bucket["num_nodes"] for bucket in alert.routing_table) if alert else 0


deadline = time.monotonic() + 20
while nodes() == 0 and time.monotonic() < deadline:
    time.sleep(0.1)
say("ready" if nodes() else "nobody")

for line in sys.stdin:
    command, *words = line.split()
    if command == "announce":
        session.dht_announce(lt.sha1_hash(bytes.fromhex(words[0])), int(words[1]), 0)
        say("announced")
    elif command == "get_peers":
        target = lt.sha1_hash(bytes.fromhex(words[0]))
        session.dht_get_peers(target)
        alert = wait(lt.dht_get_peers_reply_alert, accept=lambda a: a.num_peers() > 0)
        say("peers", *[f"{ip}:{port}" for ip, port in alert.peers()] if alert else [])
    elif command == "put":
        target = session.dht_put_immutable_item(words[0])
        alert = wait(lt.dht_put_alert)
        say("put", target, alert.num_success if alert else 0)
    elif command == "get":
        session.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(words[0])))
        alert = wait(lt.dht_immutable_item_alert)
        value = alert.item if alert else b""
        say("got", value.decode() if isinstance(value, bytes) else value)
    elif command == "mput":
        session.dht_put_mutable_item(PRIVATE, PUBLIC, words[0].encode(), b"")
        wait(lt.dht_put_alert)
        say("mput", PUBLIC.hex())
    elif command == "mget":
        session.dht_get_mutable_item(bytes.fromhex(words[0]), b"")
        alert = wait(lt.dht_mutable_item_alert)
        value = alert.item if alert else b""
        say("mgot", value.decode() if isinstance(value, bytes) else value)
