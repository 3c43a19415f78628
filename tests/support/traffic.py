"""A traffic driver: threads that send one request after the other while a test does something to the server."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.support import wire
from tests.support.wire import Tensor


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One request and how it ended: its HTTP status, or 0 when the connection broke.

    `resent` is what every HTTP client does: a server may close an idle connection at any moment, so a request that
    meets the close on a connection used before, and got no byte back, is sent once more (RFC 9110, 9.3.1).
    """

    at: float
    seconds: float
    status: int
    version: str = ""
    error: str = ""
    resent: bool = False


@dataclass
class Traffic:
    """Running traffic. `sent` grows while it runs; `mark` notes a moment."""

    sent: list[Sent] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)

    def mark(self, name: str) -> None:
        """Remember now under a name."""
        self.marks[name] = time.monotonic()

    def failed(self) -> list[Sent]:
        """Requests that did not end with 200."""
        return [s for s in self.sent if s.status != 200]

    def after(self, mark: str) -> list[Sent]:
        """Requests that were sent after a mark."""
        return [s for s in self.sent if s.at >= self.marks[mark]]

    def versions(self) -> Counter[str]:
        """Answered requests by version."""
        return Counter(s.version for s in self.sent if s.status == 200)

    def wait_for(self, count: int, timeout_s: float = 30) -> None:
        """Wait until that many more requests have ended."""
        target, deadline = len(self.sent) + count, time.monotonic() + timeout_s
        while len(self.sent) < target:
            assert time.monotonic() < deadline, f"{len(self.sent)} of {target} requests"
            time.sleep(0.01)


@contextmanager
def driving(
    port: int,
    model: str,
    tensors: list[Tensor],
    *,
    threads: int = 4,
    keep_alive: bool = True,
    pause_s: float = 0.0,
    host: str = "127.0.0.1",
    token: str | None = None,
) -> Iterator[Traffic]:
    """Send requests to `model` from `threads` threads until the block ends.

    Args:
        port: Of a server.
        model: The model; the plan chooses the version.
        tensors: The request's inputs.
        threads: How many requests at a time.
        keep_alive: False opens a connection for each request.
        pause_s: Between the requests of a thread.
        host: Where the server is.
        token: Bearer token.
    """
    traffic = Traffic()
    headers, body = wire.request(tensors)
    if token is not None:
        headers = {**headers, "Authorization": f"Bearer {token}"}

    def drive() -> None:
        connection: http.client.HTTPConnection | None = None
        resent = False
        while not traffic.stopped.is_set():
            started = time.monotonic()
            used = connection is not None
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(host, port, timeout=30)
                connection.request("POST", f"/v2/models/{model}/infer", body=body, headers=headers)
                response = connection.getresponse()
                data = response.read()
                outcome = replace(_outcome(started, response, data), resent=resent)
                resent = False
            except http.client.RemoteDisconnected as error:
                outcome = Sent(at=started, seconds=time.monotonic() - started, status=0, error=repr(error))
                if used and not resent and connection is not None:
                    connection.close()
                    connection, resent = None, True
                    continue
                resent = False
            except (OSError, http.client.HTTPException) as error:
                outcome = Sent(at=started, seconds=time.monotonic() - started, status=0, error=repr(error))
            if connection is not None and (not keep_alive or outcome.status == 0):
                connection.close()
                connection = None
            traffic.sent.append(outcome)
            if pause_s:
                time.sleep(pause_s)
        if connection is not None:
            connection.close()

    workers = [threading.Thread(target=drive, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        traffic.wait_for(threads)
        yield traffic
    finally:
        traffic.stopped.set()
        for worker in workers:
            worker.join(35)


def _outcome(started: float, response: http.client.HTTPResponse, data: bytes) -> Sent:
    seconds = time.monotonic() - started
    if response.status != 200:
        return Sent(at=started, seconds=seconds, status=response.status, error=data[:200].decode(errors="replace"))
    length = response.headers.get(wire.HEADER)
    plain: dict[str, Any] = json.loads(data[: int(length)] if length else data)
    return Sent(at=started, seconds=seconds, status=200, version=plain["model_version"])


def digits(rows: int = 1) -> list[Tensor]:
    """Inputs of `digits_like_package`."""
    from export.contracts.datatypes import Datatype

    x = np.random.default_rng().random((rows, 1, 8, 8), dtype=np.float32)
    return [Tensor(name="x", datatype=Datatype.FP32, array=x)]
