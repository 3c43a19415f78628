"""HTTP/1.1 with kept-alive connections, read as leanly as correctness allows, so that the server is what is slow."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import httptools

from deploy.loadtest.lanes import OK, Ended

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_HEADS_KEPT = 512
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Head:
    """What matters of a response head. `length` is -1 when only a full parser can tell where the body ends."""

    status: int
    length: int
    closes: bool


def read_head(head: bytes) -> _Head:
    """Read status and length of a response head, without its final empty line.

    Raises:
        ValueError: not a head of HTTP/1.
    """
    if not head.startswith(b"HTTP/1.") or len(head) < 12 or not head[9:12].isdigit():
        raise ValueError("not an HTTP/1 answer")
    found = _LENGTH.search(head)
    status = int(head[9:12])
    bodiless = status in (204, 304)
    return _Head(status, int(found[1]) if found else 0 if bodiless else -1, _CLOSE.search(head) is not None)


class HttpRoad:
    """Connections to one server.

    Args:
        host: Name or address.
        port: TCP port.
        tls: Speak TLS, with the system's certificates.
        requests: Whole requests, head and body, ready to be written.
    """

    def __init__(self, host: str, port: int, requests: Sequence[bytes], *, tls: bool = False) -> None:
        self.host = host
        self.port = port
        self.requests = requests
        self.tls = ssl.create_default_context() if tls else None
        self.heads: dict[bytes, _Head] = {}

    def lane(self, ended: Ended) -> HttpLane:
        """A connection that is not made yet."""
        return HttpLane(self, ended)

    async def close(self) -> None:
        """Nothing is shared."""


class HttpLane(asyncio.Protocol):
    """One connection. See `lanes.Lane`."""

    __slots__ = (
        "_buffer",
        "_closes",
        "_ended",
        "_missing",
        "_parser",
        "_road",
        "_size",
        "_status",
        "_transport",
        "busy",
        "open",
        "start_ns",
    )

    def __init__(self, road: HttpRoad, ended: Ended) -> None:
        self._road = road
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._parser: _SlowParser | None = None
        self._buffer = b""
        self._missing = 0  # bytes of the body that have not come yet
        self._size = 0
        self._status = 0
        self._closes = False
        self.open = False
        self.busy = False
        self.start_ns = 0

    async def connect(self) -> None:
        """Open the connection."""
        road = self._road
        name = road.host if road.tls else None
        async with asyncio.timeout(_CONNECT_S):
            await asyncio.get_running_loop().create_connection(
                lambda: self, road.host, road.port, ssl=road.tls, server_hostname=name
            )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._buffer, self._missing, self._parser = b"", 0, None
        self.open = True

    def connection_lost(self, error: Exception | None) -> None:
        """The server, or we, closed."""
        self.open = False
        self._transport = None
        if self.busy:
            if self._parser is not None and self._parser.complete_at_end():
                self._done(self._parser.status)
            else:
                self._end("connection lost")

    def send(self, request: int) -> None:
        """Write a whole request."""
        assert self._transport is not None
        self.busy = True
        self._size = 0
        self._transport.write(self._road.requests[request])

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer, usually all of it."""
        self._size += len(data)
        if self._missing:
            self._missing -= len(data)
            if self._missing <= 0:
                self._whole(self._status, self._missing < 0)
            return
        if self._parser is not None:
            self._feed(data)
            return
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        at = data.find(b"\r\n\r\n")
        if at < 0:
            self._buffer = data
            return
        raw = data[:at]
        head = self._road.heads.get(raw)
        if head is None:
            try:
                head = self._read(raw)
            except ValueError:
                self.give_up("not HTTP")
                return
        if head.status == 100:
            self._size -= at + 4
            self._buffer = b""
            self.data_received(data[at + 4 :])
            return
        self._closes = head.closes
        if head.length < 0:
            self._parser = _SlowParser()
            self._feed(data)
            return
        self._status = head.status
        missing = head.length - (len(data) - at - 4)
        if missing > 0:
            self._missing = missing
        else:
            self._whole(head.status, missing < 0)

    def give_up(self, reason: str) -> None:
        """Cut the connection."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()
        if self.busy:
            self._end(reason)

    def close(self) -> None:
        """Cut the connection without telling anybody."""
        self.busy = False
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def _read(self, raw: bytes) -> _Head:
        head = read_head(raw)
        if len(self._road.heads) >= _HEADS_KEPT:
            self._road.heads.clear()
        self._road.heads[raw] = head
        return head

    def _feed(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed(data)
        except httptools.HttpParserError:
            self.give_up("not HTTP")
            return
        if self._parser.complete:
            self._done(self._parser.status)

    def _whole(self, status: int, too_much: bool) -> None:
        """An answer is complete; bytes behind it mean that we no longer know where the next one begins."""
        if too_much or not self.busy:
            self.give_up("not HTTP")
        else:
            self._done(status)

    def _done(self, status: int) -> None:
        self._missing, self._parser = 0, None
        if self._closes:
            self.open = False
            if self._transport is not None:
                self._transport.close()
        self._end(OK if 200 <= status < 300 else f"http {status}")

    def _end(self, reason: str) -> None:
        self.busy = False
        self._ended(self, reason, self._size)


class _SlowParser:
    """Answers that are chunked, or that end with the connection: a full parser."""

    def __init__(self) -> None:
        self.complete = False
        self._headers = False
        self._parser = httptools.HttpResponseParser(self)

    @property
    def status(self) -> int:
        """The status, once the head was read."""
        return int(self._parser.get_status_code())

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._parser.feed_data(data)

    def complete_at_end(self) -> bool:
        """Whether the end of the connection was the end of the body, and not in the middle of it."""
        with contextlib.suppress(httptools.HttpParserError):
            return self._headers and not self._parser.should_keep_alive()
        return False

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._headers = True

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.complete = True
