"""A client's connection of HTTP/2 for unary calls whose headers are always the same."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Protocol, cast

from deploy.loadtest.http2 import (
    ACK,
    CANCEL,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Frame,
    FrameReader,
    Kind,
    frame,
    without_padding,
)

_ACK_BYTES = 1 << 24  # how much may come before we tell the server that it may send more
_LOST = "connection lost"
_STREAMS = 1 << 30  # a connection's numbers end at 2**31; half of them are ours


class Caller(Protocol):
    """Who makes calls, one at a time.

    Attributes:
        open: Can call.
        busy: A call is under way, on `stream`.
        size: Bytes of the answer so far.
        waiting: Of the message, what flow control does not let us send yet.
        window: Bytes that the server takes on the stream now.
    """

    open: bool
    busy: bool
    stream: int
    size: int
    waiting: bytes
    window: int

    def end(self, reason: str) -> None:
        """The call has ended."""
        ...


class Http2Connection(asyncio.Protocol):
    """A client's side of HTTP/2 for unary calls: streams, flow control, pings.

    Args:
        block: The header block of every call.
        outcome: Why a call failed, or OK, by its trailers.

    Attributes:
        ready: Done when the server's settings are known.
        usable: New calls can be begun.
        lanes: Who is on it.
    """

    def __init__(self, block: bytes, outcome: Callable[[bytes], str]) -> None:
        self._block_sent = block
        self._outcome = outcome
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._streams: dict[int, Caller] = {}
        self._next = 1
        self._window = 65_535  # RFC 9113, 6.9.2
        self._stream_window = 65_535
        self._frame_bytes = 16_384
        self._received = 0
        self._block = b""  # of a header block that goes on in a CONTINUATION
        self._block_flags = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.usable = True
        self.lanes: set[Caller] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._transport.write(PREFACE)

    def connection_lost(self, error: Exception | None) -> None:
        """All calls have failed."""
        self.usable = False
        self._transport = None
        if not self.ready.done():
            self.ready.set_exception(ConnectionResetError("the server closed the connection"))
        self._streams.clear()
        for lane in list(self.lanes):
            lane.open = False
            if lane.busy:
                lane.end(_LOST)
        self.lanes.clear()

    def call(self, lane: Caller, message: bytes) -> None:
        """Begin a call on a stream of its own."""
        assert self._transport is not None
        number = self._next
        self._next = number + 2
        self.usable = self.usable and number < _STREAMS
        self._streams[number] = lane
        lane.stream, lane.waiting, lane.window = number, b"", self._stream_window
        size = len(message)
        head = frame(Kind.HEADERS, END_HEADERS, number, self._block_sent)
        if size <= self._frame_bytes and size <= self._window and size <= lane.window:
            self._window -= size
            self._transport.write(head + frame(Kind.DATA, END_STREAM, number, message))
            return
        self._transport.write(head)
        lane.waiting = message
        self._pump(lane)

    def cancel(self, lane: Caller) -> None:
        """Tell the server that nobody waits any more."""
        if self._streams.pop(lane.stream, None) is not None and self._transport is not None:
            self._transport.write(frame(Kind.RST_STREAM, 0, lane.stream, CANCEL))

    def abort(self) -> None:
        """Close at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take frames."""
        try:
            for one in self._reader.feed(data):
                self._take(one)
        except (ValueError, IndexError, struct.error):
            self.abort()

    def _take(self, one: Frame) -> None:
        kind, flags, stream, payload = one
        if kind == Kind.DATA:
            self._data(flags, stream, len(payload))
        elif kind in (Kind.HEADERS, Kind.CONTINUATION):
            if kind == Kind.HEADERS:
                self._block, self._block_flags = without_padding(flags, payload), flags
            else:
                self._block += payload
            if flags & END_HEADERS and self._block_flags & END_STREAM:
                self._done(stream, self._outcome(self._block))
        elif kind == Kind.SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == Kind.WINDOW_UPDATE:
            self._grow(stream, struct.unpack(">I", payload)[0] & 0x7FFFFFFF)
        elif kind == Kind.PING and not flags & ACK:
            self._write(frame(Kind.PING, ACK, 0, payload))
        elif kind == Kind.RST_STREAM:
            self._done(stream, f"grpc stream reset ({struct.unpack('>I', payload)[0]})")
        elif kind == Kind.GOAWAY:
            self._leave(struct.unpack(">I", payload[:4])[0] & 0x7FFFFFFF)

    def _data(self, flags: int, stream: int, size: int) -> None:
        lane = self._streams.get(stream)
        if lane is not None:
            lane.size += size
        self._received += size
        if self._received >= _ACK_BYTES:
            self._write(frame(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received)))
            self._received = 0
        if flags & END_STREAM:
            self._done(stream, "grpc no status")

    def _done(self, stream: int, reason: str) -> None:
        lane = self._streams.pop(stream, None)
        if lane is not None:
            if not self.usable:
                lane.open = False
                self.lanes.discard(lane)
            lane.end(reason)

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[at : at + 6])
            if name == 4:  # INITIAL_WINDOW_SIZE changes the windows of open streams, too
                for lane in self._streams.values():
                    lane.window += value - self._stream_window
                self._stream_window = value
            elif name == 5:
                self._frame_bytes = value
        self._write(frame(Kind.SETTINGS, ACK, 0, b""))
        if not self.ready.done():
            self.ready.set_result(None)
        self._pump_all()

    def _grow(self, stream: int, more: int) -> None:
        if stream == 0:
            self._window += more
            self._pump_all()
        elif (lane := self._streams.get(stream)) is not None:
            lane.window += more
            self._pump(lane)

    def _pump_all(self) -> None:
        for lane in list(self._streams.values()):
            if lane.waiting:
                self._pump(lane)

    def _pump(self, lane: Caller) -> None:
        """Send as much of a large message as flow control allows."""
        while lane.waiting and (room := min(self._window, lane.window, self._frame_bytes)) > 0:
            part, lane.waiting = lane.waiting[:room], lane.waiting[room:]
            self._window -= len(part)
            lane.window -= len(part)
            self._write(frame(Kind.DATA, 0 if lane.waiting else END_STREAM, lane.stream, part))

    def _leave(self, last: int) -> None:
        """The server goes away: it finishes calls up to `last`; nobody begins another here."""
        self.usable = False
        for number in [n for n in self._streams if n > last]:
            self._done(number, _LOST)
        for lane in list(self.lanes):
            if not lane.busy:
                lane.open = False
                self.lanes.discard(lane)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
