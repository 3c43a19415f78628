"""A real S3-compatible server (moto's) as a process, and a proxy in front of it that does harm on request."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.processes import free_ports
from export.storage.retry import Budget, Retry
from export.storage.s3 import S3Options, S3Store

BUCKET = "hardcase-test"
KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip


class Harm(StrEnum):
    """What the proxy does to a request."""

    ERROR = "error"  # 503 SlowDown, and the store never hears of it
    SILENCE = "silence"  # nothing comes back within the client's patience
    TRUNCATE = "truncate"  # half of the answer's body, then the connection ends
    FLIP = "flip"  # one byte of the answer's body is another
    LOSE_ACK = "lose_ack"  # the store does it, and nobody is told
    CUT_UPLOAD = "cut_upload"  # the store gets half of the body


@dataclass
class Proxy:
    """Attributes: port, and what was done how often (the positive control)."""

    port: int
    done: Counter[Harm] = field(default_factory=Counter)
    planned: deque[tuple[Harm, str]] = field(default_factory=deque)
    requests: int = 0

    def harm(self, *harms: Harm, method: str = "") -> None:
        """Do these to the next requests (of a method), one each."""
        self.planned.extend((h, method) for h in harms)

    def take(self, method: str) -> Harm | None:
        self.requests += 1
        if self.planned and self.planned[0][1] in ("", method):
            harm = self.planned.popleft()[0]
            self.done[harm] += 1
            return harm
        return None


def moto_process(host: str = "127.0.0.1", port: int = 0, prefix: tuple[str, ...] = ()) -> tuple[str, subprocess.Popen]:
    """Start moto's server; returns its URL and its process, once it answers."""
    if port == 0:
        (port,) = free_ports(1)
    program = "from moto.server import main; main()"
    process = subprocess.Popen(
        [*prefix, sys.executable, "-W", "ignore", "-c", program, "-H", host, "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        env=os.environ | KEYS,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, port), 0.5).close()
            return f"http://{host}:{port}", process
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("moto did not start") from None
            time.sleep(0.1)


@contextmanager
def moto() -> Iterator[str]:
    """A server with an empty bucket; gives its URL. Sets the credentials of this process for as long."""
    pytest.importorskip("moto")
    url, process = moto_process()
    before = {name: os.environ.get(name) for name in KEYS}
    os.environ.update(KEYS)
    try:
        make_bucket(url)
        yield url
    finally:
        process.kill()
        process.wait()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def make_bucket(url: str) -> None:
    """As an operator would."""
    import botocore.session

    client = botocore.session.get_session().create_client("s3", endpoint_url=url, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)


def store(url: str, prefix: str = "p", *, attempts: int = 4, read_s: float = 5.0, budget: int = 500) -> S3Store:
    """A store with short pauses."""
    retry = Retry(attempts=attempts, first_pause_s=0.01, budget=Budget(budget))
    return S3Store(S3Options(url=f"s3://{BUCKET}/{prefix}", endpoint=url, read_s=read_s), retry=retry)


@contextmanager
def harmful_proxy(upstream: str) -> Iterator[Proxy]:
    """An HTTP proxy in front of the server."""
    host, port = upstream.removeprefix("http://").split(":")
    proxy = Proxy(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            if self.headers.get("Expect"):
                self.send_response_only(100)
                self.end_headers()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            harm = proxy.take(self.command)
            if harm is Harm.ERROR:
                text = b"<Error><Code>SlowDown</Code></Error>"
                self.send_response(503)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
                return
            if harm is Harm.SILENCE:
                time.sleep(2.0)
                self.close_connection = True
                return
            if harm is Harm.CUT_UPLOAD:
                self._cut(body)
                return
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            headers = {k: v for k, v in self.headers.items() if k != "Expect"}
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if harm is Harm.LOSE_ACK:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            if answer.status not in (204, 304) and length is not None:
                self.send_header("Content-Length", length)
            self.end_headers()
            if harm is Harm.TRUNCATE:
                data, self.close_connection = data[: len(data) // 2], True
            elif harm is Harm.FLIP and data:
                data = bytes([data[0] ^ 1]) + data[1:]
            self.wfile.write(data)

        def _cut(self, body: bytes) -> None:
            head = f"{self.command} {self.path} HTTP/1.1\r\n" + "".join(
                f"{k}: {v}\r\n" for k, v in self.headers.items() if k != "Expect"
            )
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(head.encode() + b"\r\n" + body[: len(body) // 2])
                connection.shutdown(socket.SHUT_WR)
                time.sleep(0.2)
            self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _any

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
