"""A worker made of Python's http.server, in the clear or over mutual TLS, which answers as existing peers
do: 200, in chunks, compressed when the request was; "boom" with an error. Ends when standard input does.

usage: http_server.py [CERTDIR]        prints the port it listens on
"""

import gzip
import http.server
import json
import ssl
import sys
import threading


class Worker(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            return self.stream()
        body = self.rfile.read(int(self.headers["content-length"]))
        compresses = "gzip" in self.headers.get("grc-compress", "")
        if compresses:
            body = gzip.decompress(body)
        rid, _key, payload = json.loads(body)
        result = "world" if payload == "hello" else payload
        parts = [rid, "boom", None] if payload == "boom" else [rid, None, result]
        reply = json.dumps(parts, separators=(",", ":")).encode()
        self.begin()
        self.chunk(gzip.compress(reply) if compresses else reply)
        self.chunk(b"")

    def stream(self) -> None:
        assert json.loads(self.headers["_gr"])[1]
        self.begin()
        while size := int(self.rfile.readline(), 16):
            self.chunk(self.rfile.read(size).upper())
            self.rfile.readline()
        self.rfile.readline()
        self.chunk(b"")
        self.close_connection = True

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *arguments) -> None:
        pass


def server_context(certs: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{certs}/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    return context


def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Worker)
    if len(sys.argv) > 1:
        context = server_context(sys.argv[1])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


main()
