"""Clients that watch which version answers: over kept-alive HTTP, a new connection a request, and gRPC.

Each client sends one request after the other, so the versions that it sees must follow the order of the flips: after a
flip, never the version before it until the next flip. `Clients` runs many on one loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import Any

from tests.support import wire
from tests.support.traffic import digits

_VERSION = b'"model_version":"'


class Way(StrEnum):
    """How a client asks."""

    KEEP_ALIVE = "http keep-alive"
    NEW_CONNECTION = "http new connections"
    GRPC = "grpc"


@dataclass
class Client:
    """What one client saw.

    Attributes:
        runs: Versions in order, each with the number of answers in a row and the time of the first and last.
        failures: Texts, at most ten.
    """

    way: Way
    requests: int = 0
    failed: int = 0
    runs: list[tuple[str, int, float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def saw(self, version: str, at: float) -> None:
        """Count an answer."""
        self.requests += 1
        if self.runs and self.runs[-1][0] == version:
            _, count, first, _ = self.runs[-1]
            self.runs[-1] = (version, count + 1, first, at)
        else:
            self.runs.append((version, 1, at, at))

    def fail(self, text: str) -> None:
        """Count a request without an answer."""
        self.requests += 1
        self.failed += 1
        if len(self.failures) < 10:
            self.failures.append(text)


def steps_back(runs: Sequence[str], flips: Sequence[str]) -> int:
    """How often a client saw a version that the flips do not explain.

    Args:
        runs: The versions that it saw, equal neighbours joined.
        flips: The version at the start, and after each flip.

    Example:
        >>> steps_back(["1", "2", "1"], ["1", "2", "1"]), steps_back(["1", "2", "1", "2"], ["1", "2", "3"])
        (0, 2)
    """
    at, back = 0, 0
    for version in runs:
        later = [i for i in range(at, len(flips)) if flips[i] == version]
        if later:
            at = later[0]
        else:
            back += 1
    return back


class Clients:
    """Clients that ask a model without naming a version.

    Args:
        targets: HTTP ports; clients are spread over them.
        grpc_ports: gRPC ports, may be empty.
        mix: Clients of each way.
    """

    def __init__(self, targets: Sequence[int], grpc_ports: Sequence[int], mix: dict[Way, int]) -> None:
        self.clients = [Client(way) for way, count in mix.items() for _ in range(count)]
        self._ports, self._grpc_ports = targets, grpc_ports
        headers, body = wire.request(digits())
        head = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        head = f"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._stop = threading.Event()

    @property
    def requests(self) -> int:
        """All so far."""
        return sum(c.requests for c in self.clients)

    def by_way(self) -> dict[str, int]:
        """Requests by way."""
        count: Counter[str] = Counter()
        for client in self.clients:
            count[client.way] += client.requests
        return dict(count)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send until the block ends."""
        thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(60)

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(i, client) for i, client in enumerate(self.clients)))

    async def _one(self, index: int, client: Client) -> None:
        if client.way is Way.GRPC:
            await self._grpc(self._grpc_ports[index % len(self._grpc_ports)], client)
            return
        port = self._ports[index % len(self._ports)]
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stop.is_set():
            fresh = connection is None
            try:
                connection = connection or await asyncio.open_connection("127.0.0.1", port)
                status, body = await asyncio.wait_for(self._exchange(*connection), 30)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                connection = None
                # a server may close an idle connection: what meets the close unanswered is sent once more
                unanswered = isinstance(error, asyncio.IncompleteReadError) and not error.partial
                if fresh or not (unanswered or isinstance(error, ConnectionResetError)):
                    client.fail(repr(error))
                continue
            if status != 200:
                client.fail(f"{status} {body[:200]!r}")
            else:
                client.saw(body.split(_VERSION, 1)[1].split(b'"', 1)[0].decode(), monotonic())
            if client.way is Way.NEW_CONNECTION:
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        return int(head[9:12]), await reader.readexactly(length)

    async def _grpc(self, port: int, client: Client) -> None:
        import grpc
        import tritonclient.grpc as triton
        import tritonclient.grpc.aio as triton_aio

        tensor = digits()[0]
        wanted = triton.InferInput("x", list(tensor.array.shape), "FP32")
        wanted.set_data_from_numpy(tensor.array)
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as caller:
            while not self._stop.is_set():
                try:
                    answer: Any = await caller.infer("digits", [wanted], client_timeout=30)
                    client.saw(answer.get_response().model_version, monotonic())
                except (triton.InferenceServerException, grpc.RpcError) as error:
                    client.fail(str(error))
