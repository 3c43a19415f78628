"""An open-loop load generator for one process: requests are due at fixed times, whether or not others were answered.

Every latency counts from when the request was due, so a server that stalls is not spared the requests that it delayed.
One connection carries one request at a time; when none is free, due requests wait, and `Samples.backlog` says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

TICK_S = 0.001


@dataclass(kw_only=True, slots=True)
class Samples:
    """What came back.

    Attributes:
        due_s: When each request was due, seconds since the load began.
        latency_s: From then to the last byte of its answer.
        status: HTTP status; 0 when the connection broke.
        backlog: Most requests that were due and found no free connection.
    """

    due_s: list[float] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    backlog: int = 0

    def latencies(self, status: int, begin_s: float = 0.0, end_s: float = 1e9) -> list[float]:
        """Sorted latencies of the answers with a status, of requests that were due in a span of time."""
        rows = zip(self.due_s, self.latency_s, self.status, strict=True)
        return sorted(latency for due, latency, s in rows if s == status and begin_s <= due < end_s)

    def answered_in(self, begin_s: float, end_s: float, status: int = 200) -> int:
        """Answers with a status that arrived in a span of time."""
        rows = zip(self.due_s, self.latency_s, self.status, strict=True)
        return sum(s == status and begin_s <= due + latency < end_s for due, latency, s in rows)


class Line(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, free: Callable[[Line], None]) -> None:
        self._free = free
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._done: Callable[[int, bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, done: Callable[[int, bytes], None]) -> None:
        """Send a request; `done` gets its status and the answer's head."""
        self._done = done
        assert self._transport is not None  # connected before it is handed out
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end]
        at = head.lower().find(b"\r\ncontent-length:")
        size = int(head[at + 17 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + size:
            return
        self._buffer = self._buffer[end + 4 + size :]
        done, self._done = self._done, None
        if done is not None:
            done(int(head[9:12]), head)
        self._free(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop."""
        if self._done is not None:
            self._done(0, b"")

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class Lines:
    """The connections of one client.

    Args:
        port: On loopback.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._all: list[Line] = []
        self.free: deque[Line] = deque()

    async def open(self, count: int) -> None:
        """Open connections."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, line = await loop.create_connection(lambda: Line(self.free.append), "127.0.0.1", self._port)
            self._all.append(line)
            self.free.append(line)

    async def settled(self, timeout_s: float = 10.0) -> None:
        """Wait until every connection is free.

        Raises:
            TimeoutError: an answer is missing.
        """
        async with asyncio.timeout(timeout_s):
            while len(self.free) < len(self._all):
                await asyncio.sleep(0.01)

    def close(self) -> None:
        """Close them all."""
        for line in self._all:
            line.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Requests of one client: which, over which connections, how many a second."""

    lines: Lines
    request: bytes
    rate: float


async def open_loop(streams: Sequence[Stream], seconds: float, patience_s: float = 5.0) -> list[Samples]:
    """Send at fixed rates for some seconds, then wait for what is under way.

    Returns:
        For each stream what came back.
    """
    found = [Samples() for _ in streams]
    waiting: list[deque[float]] = [deque() for _ in streams]
    sent = [0] * len(streams)
    under_way = [0] * len(streams)
    begin = perf_counter()

    def send(index: int, due_s: float) -> None:
        stream, samples = streams[index], found[index]
        under_way[index] += 1

        def done(status: int, head: bytes) -> None:
            under_way[index] -= 1
            samples.due_s.append(due_s)
            samples.latency_s.append(perf_counter() - begin - due_s)
            samples.status.append(status)

        stream.lines.free.popleft().send(stream.request, done)

    while (now := perf_counter() - begin) < seconds or any(waiting) or any(under_way):
        if now > seconds + patience_s:
            break
        for index, stream in enumerate(streams):
            due = int(min(now, seconds) * stream.rate)
            waiting[index].extend((i + 1) / stream.rate for i in range(sent[index], due))
            sent[index] = max(sent[index], due)
            while waiting[index] and stream.lines.free:
                send(index, waiting[index].popleft())
            found[index].backlog = max(found[index].backlog, len(waiting[index]))
        await asyncio.sleep(TICK_S)
    return found


async def closed_loop(lines: Lines, request: bytes, count: int, seconds: float) -> Samples:
    """Keep `count` requests under way for some seconds."""
    samples, begin = Samples(), perf_counter()

    async def client() -> None:
        while (due := perf_counter() - begin) < seconds:
            over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            lines.free.popleft().send(request, lambda status, head, over=over: over.set_result(status))  # type: ignore[misc]
            status = await over
            samples.due_s.append(due)
            samples.latency_s.append(perf_counter() - begin - due)
            samples.status.append(status)

    await asyncio.gather(*(client() for _ in range(count)))
    return samples


async def obedient(lines: Lines, request: bytes, clients: int) -> tuple[int, int, list[int]]:
    """Clients that come together and, when turned away, wait as long as they are told.

    Returns:
        How many were turned away at first, how many of those a second time, and the seconds that they were told.
    """
    told: list[int] = []
    again = 0

    async def ask() -> tuple[int, bytes]:
        over: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        lines.free.popleft().send(request, lambda status, head: over.set_result((status, head)))
        return await over

    async def client() -> None:
        nonlocal again
        status, head = await ask()
        if status == 503:
            at = head.lower().find(b"\r\nretry-after:")
            told.append(int(head[at + 14 :].split(b"\r\n", 1)[0]))
            await asyncio.sleep(told[-1])
            again += (await ask())[0] == 503

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(told), again, sorted(told)
