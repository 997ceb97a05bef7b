"""Sends every request of the corpus to nginx, haproxy and our server, and compares what they take.

usage: smuggling.py HOST PORT       of our server, in the clear

Prints a line for each disagreement that matters: something that we take and nginx or haproxy refuses, or
that the corpus says otherwise of. The last line counts. Ends with 1 after disagreements, and with 2 when
nginx or haproxy is not there: that is a fault of the setup, not a reason to skip.
"""

import asyncio
import pathlib
import re
import shutil
import signal
import socket
import sys
import tempfile

ANSWER_SECONDS = 5.0
QUIET_SECONDS = 0.7
CONNECTIONS_AT_ONCE = 24

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log crit;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_timeout 5;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1; proxy_ignore_client_abort on;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 512
defaults
  mode http
  option http-buffer-request
  timeout connect 5s
  timeout client 5s
  timeout server 5s
  timeout http-request 5s
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server one 127.0.0.1:{backend}
"""


def escaped(text: str) -> bytes:
    def one(match: re.Match) -> str:
        code = match.group(1)
        simple = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}
        return simple.get(code) or chr(int(code[1:], 16))

    return re.sub(r"\\(r|n|t|\\|x[0-9a-f]{2})", one, text).encode("latin-1")


def corpus() -> list[tuple[str, str, bytes]]:
    path = pathlib.Path(__file__).with_name("smuggling-corpus.txt")
    lines = path.read_text().splitlines()
    cases = [line.split(" ", 2) for line in lines if line and not line.startswith("#")]
    return [(name, expected, escaped(text)) for expected, name, text in cases]


class Verdict:
    """How many requests were answered well, and whether something was refused then."""

    def __init__(self, received: bytes, ended: bool) -> None:
        statuses = [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3})", received)]
        final = [status for status in statuses if status >= 200]
        self.accepted = 0
        while self.accepted < len(final) and final[self.accepted] < 400:
            self.accepted += 1
        failed = [status for status in final if status >= 400]
        # A connection that closes without a word refuses, too.
        self.refused = bool(failed) or (ended and not final)
        self.text = f"{final or 'nothing'}{', closed' if ended else ''}"


async def ask(address: tuple[str, int], request: bytes) -> Verdict:
    reader, writer = await asyncio.open_connection(*address)
    received = b""
    ended = False
    try:
        writer.write(request)
        await writer.drain()
        while True:
            wait = QUIET_SECONDS if received else ANSWER_SECONDS / 4
            data = await asyncio.wait_for(reader.read(65536), wait)
            if not data:
                ended = True
                break
            received += data
    except (asyncio.TimeoutError, TimeoutError):
        pass
    except ConnectionError:
        ended = True
    finally:
        writer.close()
    return Verdict(received, ended)


async def backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes whatever a proxy lets through: one good answer for each connection."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        await asyncio.wait_for(reader.read(), 0.2)
    except (asyncio.TimeoutError, TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        pass
    except asyncio.LimitOverrunError:
        pass
    finally:
        writer.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def stop(process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), 5)
    except (asyncio.TimeoutError, TimeoutError):
        process.kill()
        await process.wait()


async def start(template: str, name: str, folder: str, backend_port: int, *arguments: str):
    """Starts a proxy on a port that was free just now; another one if it is not any more."""
    for _ in range(5):
        port = free_port()
        path = pathlib.Path(folder) / f"{name}-{port}.conf"
        path.write_text(template.format(folder=folder, port=port, backend=backend_port))
        process = await asyncio.create_subprocess_exec(
            *arguments, str(path), stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE)
        for _ in range(200):
            if process.returncode is not None:
                break
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return process, ("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
        await stop(process)
        message = (await process.stderr.read()).decode(errors="replace")
    sys.exit(f"{name} does not start: {message}")


def judge(name: str, expected: str, ours: Verdict, others: dict[str, Verdict], good: int):
    """What is wrong with our answer."""
    for other, verdict in others.items():
        if verdict.refused and ours.accepted > verdict.accepted:
            yield f"{name}: {other} refuses it ({verdict.text}), we take it ({ours.text})"
    if expected == "accept" and (ours.refused or ours.accepted == 0):
        yield f"{name}: everybody takes it, we do not ({ours.text})"
    if expected == "accept":
        for other, verdict in others.items():
            if verdict.refused or verdict.accepted == 0:
                yield f"{name}: the corpus errs, {other} refuses it ({verdict.text})"
    if expected == "refuse" and ours.accepted > good:
        yield f"{name}: it is to be refused, we take it ({ours.text})"


async def main() -> int:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if not nginx or not haproxy:
        print("nginx and haproxy are needed: make setup", file=sys.stderr)
        return 2
    # Whoever started this may block signals, and a proxy that inherits that cannot be ended.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    ours = (sys.argv[1], int(sys.argv[2]))
    server = await asyncio.start_server(backend, "127.0.0.1", 0)
    backend_port = server.sockets[0].getsockname()[1]
    cases = corpus()
    room = asyncio.Semaphore(CONNECTIONS_AT_ONCE)

    async def one(address, request):
        async with room:
            return await ask(address, request)

    with tempfile.TemporaryDirectory() as folder:
        first, nginx_address = await start(
            NGINX, "nginx", folder, backend_port, nginx, "-p", folder, "-c")
        second, haproxy_address = await start(
            HAPROXY, "haproxy", folder, backend_port, haproxy, "-db", "-f")
        try:
            addresses = {"nginx": nginx_address, "haproxy": haproxy_address, "ours": ours}
            tasks = {
                (name, who): asyncio.create_task(one(address, request))
                for name, _, request in cases for who, address in addresses.items()
            }
            verdicts = {key: await task for key, task in tasks.items()}
        finally:
            for process in (first, second):
                await stop(process)
    wrong = 0
    refused = {"nginx": 0, "haproxy": 0, "ours": 0}
    for name, expected, _ in cases:
        both = {who: verdicts[name, who] for who in ("nginx", "haproxy")}
        # Before the last request of a pipeline comes one that is good.
        good = 1 if name.startswith("second-") else 0
        for who in refused:
            refused[who] += verdicts[name, who].refused
        for line in judge(name, expected, verdicts[name, "ours"], both, good):
            wrong += 1
            print(line)
    counts = ", ".join(f"{who} refuses {count}" for who, count in refused.items())
    print(f"{len(cases)} cases, {wrong} disagreements; {counts}")
    return 1 if wrong else 0


sys.exit(asyncio.run(main()))
