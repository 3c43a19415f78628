"""One HTTP/2 connection of the lane: frames in, calls, frames out. `docs/decisions/0080-grpc-lane.md` says why.

What a connection may cost is bounded everywhere: frame and head sizes, calls under way, bytes that wait in either
direction, resets and control frames a second, time to receive, time without anything, time without being read.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

from serving.drain import Drain
from serving.grpc import http2
from serving.grpc.calls import GrpcCall
from serving.grpc.heads import CallHead, HeadReader
from serving.grpc.http2 import Code, Http2Error, Setting
from serving.grpc.reader import MAX_HEAD_BYTES, FrameReader
from serving.grpc.service import GrpcService
from serving.grpc.stream_calls import new_call

if TYPE_CHECKING:
    from serving.grpc.lane import GrpcLane

_LAST_CALLS_S = 0.1  # how long calls may be on their way to us after the client heard that we leave
_LINGER_S = 0.25


class GrpcConnection(FrameReader):
    """One connection.

    Args:
        service: Answers.
        lane: Keeps the open connections.

    Attributes:
        buffered: Bytes of messages that are not whole yet.
    """

    def __init__(self, service: GrpcService, lane: GrpcLane) -> None:
        super().__init__(lane.loop, HeadReader(service, service.plane.options.limits.head_bytes))
        self.service = service
        self.limits = service.plane.options.limits
        self.buffered = 0
        self._lane = lane
        self._rest = b""
        self._leaving = False
        self._active = False
        self._active_at = monotonic()
        self._drain = Drain()

    # connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = cast("asyncio.Transport", transport)
        self._lane.open.add(self)
        self.service.plane.stats.connections += 1
        self.write(
            http2.settings(
                {
                    Setting.MAX_CONCURRENT_STREAMS: http2.MAX_STREAMS,
                    Setting.INITIAL_WINDOW_SIZE: http2.STREAM_WINDOW,
                    Setting.MAX_FRAME_SIZE: http2.MAX_FRAME,
                    Setting.MAX_HEADER_LIST_SIZE: min(self.limits.head_bytes, MAX_HEAD_BYTES),
                }
            ),
            http2.window_update(0, http2.CONNECTION_WINDOW - http2.FIRST_WINDOW),
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: nobody waits for these answers any more."""
        self.dead = True
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.cancel()
        self._rest, self._waiting = b"", []
        self._lane.open.discard(self)
        self.service.plane.stats.connections -= 1

    def pause_writing(self) -> None:
        """The client reads slowly: read nothing from it."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client caught up."""
        self.transport.resume_reading()

    # frames in

    def data_received(self, data: bytes) -> None:
        """Called by the loop with whatever has arrived."""
        if self.dead:
            return
        self._active = True
        if self._rest:
            data = self._rest + data
        try:
            at = self.frames(data)
        except Http2Error as error:
            self._break(error)
            return
        self._rest = data[at:] if at < len(data) else b""

    def new_call(self, stream: int, head: CallHead) -> GrpcCall:
        """The call that a head begins."""
        return new_call(self, stream, head, self.stream_window)

    # the end

    def leave(self) -> None:
        """Finish what is under way, tell the client to take its next calls elsewhere, and close."""
        self.write(http2.goaway(http2.LARGEST_WINDOW, Code.NO_ERROR))
        self._lane.loop.call_later(_LAST_CALLS_S, self._leave_now)

    def _leave_now(self) -> None:
        """Calls that were on their way when the client heard of it have come by now."""
        if self.dead:
            return
        self._leaving = True
        for call in list(self.calls.values()):
            call.leave()
        self.flush_soon()
        self._lane.loop.call_later(_LAST_CALLS_S, self._leave_now)

    def idle(self) -> None:
        """Called when everything is written and no call is under way."""
        if self._leaving:
            self._say_goodbye(Code.NO_ERROR)

    def _say_goodbye(self, code: Code) -> None:
        if not self.dead:
            self.dead = True
            if not self.transport.is_closing():
                self.transport.write(http2.goaway(self.last, code))
                self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.dead = True
        self.transport.abort()

    def _break(self, error: Http2Error) -> None:
        """The peer cannot be understood any more: say why, and hang up."""
        self.flush()
        if not self.dead and not self.transport.is_closing():
            self.dead = True
            self.transport.write(http2.goaway(self.last, error.code))
            # closing at once, with its bytes unread, would make the kernel take back what we have just said
            self._lane.loop.call_later(_LINGER_S, self.transport.close)

    # time

    def sweep(self, now: float, *, second: bool) -> None:
        """Called every quarter second, with `second` once a second: cut what takes too long."""
        if second:
            self.commotion = 0
        unsent = self.transport.get_write_buffer_size()
        unsent += sum(len(part) for call in self.calls.values() for part in call.out)
        if self._drain.is_stuck(now, unsent, self.limits.receive_s):
            self.abort()
            return
        for call in list(self.calls.values()):
            error = call.late(now)
            if error is not None:
                call.refuse(error)
        if self._active or self.calls:
            self._active, self._active_at = False, now
        elif not self.greeted and now - self._active_at > self.limits.receive_s:
            self.abort()
        elif now - self._active_at > self.limits.idle_s:
            self._leaving = True
            self.flush_soon()
