"""Calls a worker with Python's http.client, in the clear or over mutual TLS, all calls over one connection.

usage: http_client.py HOST PORT SERVICE [CERTDIR]
prints what it got: plain, chunked, gzip, and a stream
"""

import gzip
import http.client
import json
import ssl
import sys


def connect(host: str, port: int, certs: str | None) -> http.client.HTTPConnection:
    if certs is None:
        return http.client.HTTPConnection(host, port, timeout=10)
    context = ssl.create_default_context(cafile=f"{certs}/ca.pem")
    context.check_hostname = False  # a worker is known by its service, which this client ignores
    context.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    return http.client.HTTPSConnection(host, port, context=context, timeout=10)


def main() -> None:
    host, port, service, *certs = sys.argv[1:]
    connection = connect(host, int(port), certs[0] if certs else None)
    body = json.dumps(["r1", service, "hello"]).encode()

    def call(data, headers, **options) -> bytes:
        connection.request("POST", "/", data, headers, **options)
        response = connection.getresponse()
        assert response.status == 200, response.status
        return response.read()

    print(call(body, {"grc-compress": "none"}).decode())
    socket = connection.sock
    print(call(iter([body[:5], body[5:]]), {}, encode_chunked=True).decode())
    compressed = call(gzip.compress(body), {"grc-compress": "gzip"})
    assert compressed[:2] == b"\x1f\x8b"
    print(gzip.decompress(compressed).decode())
    assert connection.sock is socket, "the connection was not kept"
    stream = {"_gr": json.dumps(["r2", f"{service}"]), "connection": "close"}
    print(call(iter([b"one ", b"two"]), stream, encode_chunked=True).decode())


main()
