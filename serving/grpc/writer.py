"""The sending half of a connection of the lane: answers into frames, as far as the peer's windows allow."""

from __future__ import annotations

import asyncio

from serving.grpc import http2
from serving.grpc.calls import GrpcCall
from serving.grpc.heads import RESPONSE_HEAD
from serving.grpc.http2 import Code, Kind

_ANSWER_HEAD = len(RESPONSE_HEAD).to_bytes(3, "big") + bytes((Kind.HEADERS, http2.END_HEADERS))


class FrameWriter(asyncio.Protocol):
    """Everything about a connection that sends.

    Args:
        loop: The connection's.

    Attributes:
        calls: Under way, by stream.
        window: Bytes that the peer allows us to send on the connection.
        stream_window: The same for each new stream.
        max_frame: Largest payload of a frame that the peer takes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.calls: dict[int, GrpcCall] = {}
        self.window = http2.FIRST_WINDOW
        self.stream_window = http2.FIRST_WINDOW
        self.max_frame = http2.SMALLEST_MAX_FRAME
        self.transport: asyncio.Transport
        self._loop = loop
        self._waiting: list[bytes | memoryview] = []
        self._flushing = False

    def send(self, call: GrpcCall, message: bytes, trailers: bytes | None) -> None:
        """Send one message; with trailers, the last one of the call."""
        size = len(message) + 5
        if call.out or size > call.window or size > self.window or size > self.max_frame:
            call.out.append(memoryview(b"\x00" + len(message).to_bytes(4, "big") + message))
            call.trailers = trailers
            self.pump(call)
            return
        call.window -= size
        self.window -= size
        number = call.id.to_bytes(4, "big")
        parts = self._waiting
        if not call.headed:
            call.headed = True
            parts += (_ANSWER_HEAD, number, RESPONSE_HEAD)
        parts += (
            size.to_bytes(3, "big"),
            b"\x00\x00",
            number,
            b"\x00",
            len(message).to_bytes(4, "big"),
            message,
        )
        if trailers is not None:
            parts.append(http2.frame(Kind.HEADERS, http2.END_HEADERS | http2.END_STREAM, call.id, trailers))
            self.calls.pop(call.id, None)
        self.flush_soon()

    def finish(self, call: GrpcCall, trailers: bytes, *, whole: bool) -> None:
        """End a call with an error; `whole` when the peer has sent everything that it wanted to."""
        self.calls.pop(call.id, None)
        call.out.clear()
        block = trailers if call.headed else RESPONSE_HEAD + trailers
        self.write(http2.frame(Kind.HEADERS, http2.END_HEADERS | http2.END_STREAM, call.id, block))
        if not whole:
            self.write(http2.reset(call.id, Code.NO_ERROR))

    def pump(self, call: GrpcCall) -> None:
        """Send what the windows allow of a call's messages, and its trailers behind the last one."""
        if not call.headed and (call.out or call.trailers is not None):
            call.headed = True
            self.write(http2.frame(Kind.HEADERS, http2.END_HEADERS, call.id, RESPONSE_HEAD))
        sent = False
        while call.out:
            part = call.out[0]
            size = min(len(part), call.window, self.window, self.max_frame)
            if size <= 0:
                return
            call.window -= size
            self.window -= size
            self.write(size.to_bytes(3, "big") + b"\x00\x00" + call.id.to_bytes(4, "big"), part[:size])
            if size == len(part):
                call.out.popleft()
                sent = True
            else:
                call.out[0] = part[size:]
        if call.trailers is not None:
            self.write(http2.frame(Kind.HEADERS, http2.END_HEADERS | http2.END_STREAM, call.id, call.trailers))
            self.calls.pop(call.id, None)
        elif sent:
            call.drained()

    def pump_all(self) -> None:
        """The windows have grown: send what waits for that."""
        for call in list(self.calls.values()):
            if call.out:
                self.pump(call)

    def widen(self, call: GrpcCall) -> None:
        """Let the peer send a whole window on a stream again."""
        self.write(http2.window_update(call.id, http2.STREAM_WINDOW - call.room))
        call.room = http2.STREAM_WINDOW

    def write(self, *parts: bytes | memoryview) -> None:
        """Write frames, at the end of this turn of the loop."""
        self._waiting += parts
        self.flush_soon()

    def flush_soon(self) -> None:
        """Write once for everything that one turn of the loop brings: all answers of a batch, for example."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write everything that waits for it."""
        self._flushing = False
        if self._waiting and not self.transport.is_closing():
            self.transport.write(b"".join(self._waiting))
        self._waiting.clear()
        if not self.calls:
            self.idle()

    def idle(self) -> None:
        """Called when everything is written and no call is under way."""
