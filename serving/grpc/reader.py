"""The receiving half of a connection of the lane: frames in, calls begun, fed and cancelled."""

from __future__ import annotations

import asyncio

from serving.grpc import http2
from serving.grpc.calls import GrpcCall, check_room
from serving.grpc.heads import CallHead, HeadReader
from serving.grpc.http2 import Code, Http2Error, Kind, Setting
from serving.grpc.writer import FrameWriter

MAX_HEAD_BYTES = 16_384  # of an encoded header block; gRPC's own clients and servers stop at 8 or 16 KiB
_CALM = 2000  # resets, or control frames, that a peer may send in a second


class FrameReader(FrameWriter):
    """Everything about a connection that receives.

    Args:
        loop: The connection's.
        heads: Reads header blocks.

    Attributes:
        greeted: The preface has come.
        dead: Nothing is read any more.
        last: Highest stream of the peer's.
        commotion: Resets and control frames of this second.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, heads: HeadReader) -> None:
        super().__init__(loop)
        self.greeted = False
        self.dead = False
        self.last = 0
        self.commotion = 0
        self._heads = heads
        self._block: list[bytes] = []  # of a head that is not whole
        self._block_of = 0
        self._block_flags = 0
        self._room = http2.CONNECTION_WINDOW

    def new_call(self, stream: int, head: CallHead) -> GrpcCall:
        """The call that a head begins."""
        raise NotImplementedError

    def frames(self, data: bytes) -> int:
        """Handle every whole frame; returns where the rest begins."""
        at, end = 0, len(data)
        if not self.greeted:
            if end < len(http2.PREFACE) and http2.PREFACE.startswith(data):
                return 0
            if not data.startswith(http2.PREFACE):
                raise Http2Error(Code.PROTOCOL_ERROR, "not the preface of HTTP/2")
            self.greeted, at = True, len(http2.PREFACE)
        unpack = http2.FRAME.unpack_from
        while end - at >= http2.FRAME_BYTES and not self.dead:
            word, flags, stream = unpack(data, at)
            size, kind = word >> 8, word & 0xFF
            if size > http2.MAX_FRAME:
                raise Http2Error(Code.FRAME_SIZE_ERROR, "frame over the limit")
            start = at + http2.FRAME_BYTES
            at = start + size
            if at > end:
                return start - http2.FRAME_BYTES
            if self._block_of and kind != Kind.CONTINUATION:
                raise Http2Error(Code.PROTOCOL_ERROR, "a head is interrupted")
            if kind == Kind.DATA:
                self._on_data(stream & http2.LARGEST_WINDOW, flags, data[start:at])
            elif kind == Kind.HEADERS:
                self._on_headers(stream & http2.LARGEST_WINDOW, flags, data[start:at])
            else:
                self._on_other(kind, stream & http2.LARGEST_WINDOW, flags, data[start:at])
        return at

    def _on_data(self, stream: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        self._room -= size
        if self._room < 0:
            raise Http2Error(Code.FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        if self._room < http2.CONNECTION_WINDOW // 2:
            self.write(http2.window_update(0, http2.CONNECTION_WINDOW - self._room))
            self._room = http2.CONNECTION_WINDOW
        call = self.calls.get(stream)
        if call is None:
            if stream > self.last or not stream:
                raise Http2Error(Code.PROTOCOL_ERROR, "data on a stream that does not exist")
            return
        check_room(call, size)
        if flags & http2.PADDED:
            payload = http2.unpadded(payload, flags)
        if not payload:
            if flags & http2.END_STREAM:
                call.end()
            else:
                self._stir()
            return
        call.data(payload, bool(flags & http2.END_STREAM))

    def _on_headers(self, stream: int, flags: int, payload: bytes) -> None:
        if flags & (http2.PADDED | http2.PRIORITY_FLAG):
            payload = http2.unpadded(payload, flags, headers=True)
        if flags & http2.END_HEADERS:
            self._begin(stream, flags, payload)
        else:
            self._block_of, self._block_flags, self._block = stream, flags, [payload]

    def _begin(self, stream: int, flags: int, block: bytes) -> None:
        """A whole head: of a new call, or the trailers of one."""
        if len(block) > MAX_HEAD_BYTES:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, "head over the limit")
        head = self._heads.read(block)
        known = self.calls.get(stream)
        if known is not None:
            if not flags & http2.END_STREAM:
                raise Http2Error(Code.PROTOCOL_ERROR, "trailers that do not end the stream")
            known.end()
            return
        if not stream & 1:
            raise Http2Error(Code.PROTOCOL_ERROR, "clients' streams have odd numbers")
        if stream <= self.last:
            return  # trailers of a call that has ended
        self.last = stream
        if len(self.calls) >= http2.MAX_STREAMS:
            self._stir()
            self.write(http2.reset(stream, Code.REFUSED_STREAM))
            return
        self._start(self.new_call(stream, head), head, flags)

    def _start(self, call: GrpcCall, head: CallHead, flags: int) -> None:
        self.calls[call.id] = call
        if head.http_status != 200:
            del self.calls[call.id]
            status = http2.header_block(((b":status", b"%d" % head.http_status),))
            self.write(http2.frame(Kind.HEADERS, http2.END_HEADERS | http2.END_STREAM, call.id, status))
            if not flags & http2.END_STREAM:
                self.write(http2.reset(call.id, Code.NO_ERROR))
        elif head.refusal is not None:
            call.fail_now(head.refusal)
        elif flags & http2.END_STREAM:
            call.end()

    def _on_other(self, kind: int, stream: int, flags: int, payload: bytes) -> None:
        """Everything that is neither data nor a new head."""
        if kind == Kind.WINDOW_UPDATE:
            self._on_window_update(stream, payload)
        elif kind == Kind.CONTINUATION:
            self._on_continuation(stream, flags, payload)
        elif kind == Kind.RST_STREAM:
            self._on_reset(stream, payload)
        elif kind == Kind.SETTINGS:
            self._on_settings(stream, flags, payload)
        elif kind == Kind.PING:
            if len(payload) != 8 or stream:
                raise Http2Error(Code.FRAME_SIZE_ERROR, "PING")
            if not flags & http2.ACK:
                self._stir()
                self.write(http2.frame(Kind.PING, http2.ACK, 0, payload))
        elif kind == Kind.PUSH_PROMISE:
            raise Http2Error(Code.PROTOCOL_ERROR, "clients do not push")
        else:
            self._stir()  # PRIORITY, GOAWAY and what nobody knows mean nothing to us

    def _on_continuation(self, stream: int, flags: int, payload: bytes) -> None:
        if not self._block_of or stream != self._block_of:
            raise Http2Error(Code.PROTOCOL_ERROR, "a continuation of nothing")
        self._stir()
        self._block.append(payload)
        if sum(map(len, self._block)) > MAX_HEAD_BYTES:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, "head over the limit")
        if flags & http2.END_HEADERS:
            block, self._block, self._block_of = b"".join(self._block), [], 0
            self._begin(stream, self._block_flags, block)

    def _on_reset(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(Code.FRAME_SIZE_ERROR, "RST_STREAM")
        if not stream or stream > self.last:
            raise Http2Error(Code.PROTOCOL_ERROR, "reset of a stream that does not exist")
        self._stir()
        call = self.calls.pop(stream, None)
        if call is not None:
            call.cancel()

    def _on_settings(self, stream: int, flags: int, payload: bytes) -> None:
        if stream:
            raise Http2Error(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & http2.ACK:
            return
        self._stir()
        for key, value in http2.read_settings(payload):
            if key == Setting.MAX_FRAME_SIZE:
                self.max_frame = value
            elif key == Setting.INITIAL_WINDOW_SIZE:
                for call in self.calls.values():
                    call.window += value - self.stream_window
                self.stream_window = value
        self.write(http2.frame(Kind.SETTINGS, http2.ACK, 0))
        self.pump_all()

    def _on_window_update(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE")
        more = int.from_bytes(payload, "big") & http2.LARGEST_WINDOW
        if not more:
            raise Http2Error(Code.PROTOCOL_ERROR, "window update of nothing")
        if not stream:
            self.window += more
            if self.window > http2.LARGEST_WINDOW:
                raise Http2Error(Code.FLOW_CONTROL_ERROR, "window over 2^31 - 1")
            self.pump_all()
            return
        call = self.calls.get(stream)
        if call is not None:
            call.window += more
            if call.window > http2.LARGEST_WINDOW:
                raise Http2Error(Code.FLOW_CONTROL_ERROR, "window over 2^31 - 1")
            if call.out:
                self.pump(call)

    def _stir(self) -> None:
        """Count what costs us and brings nobody further; too much of it in a second ends the connection."""
        self.commotion += 1
        if self.commotion > _CALM:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, "too many control frames")
