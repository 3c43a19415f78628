"""Calls of the lane that do not end with one answer: ModelStreamInfer, reflection, and watching health."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from export.contracts.errors import HardcaseError, InvalidRequest, PayloadTooLarge, Unavailable
from serving.grpc.calls import PREFIX, GrpcCall, InferCall
from serving.grpc.heads import OK_TRAILERS, CallHead
from serving.grpc.http2 import STREAM_WINDOW
from serving.grpc.reflection import REFLECT, ReflectionStream
from serving.grpc.service import INFER, STREAM_INFER, WATCH
from serving.grpc.stream import IN_FLIGHT, InferStream
from serving.http_limits import inflate

if TYPE_CHECKING:
    from serving.grpc.connection import GrpcConnection


class StreamCall(GrpcCall):
    """ModelStreamInfer."""

    __slots__ = ("_stream", "_taking")

    def __init__(self, connection: GrpcConnection, stream: int, head: CallHead, window: int) -> None:
        super().__init__(connection, stream, head, window)
        self._taking = False
        self._stream = self._open(connection, head)

    def _open(self, connection: GrpcConnection, head: CallHead) -> InferStream | ReflectionStream:
        return InferStream(connection.service, head.metadata, self._send, head.timeout_ns)

    def data(self, payload: bytes, ended: bool) -> None:
        """Payload of a DATA frame: any part of any number of messages."""
        if self.gone:
            return
        self.ended = self.ended or ended
        self.connection.buffered += len(payload)
        self.parts.append(payload)
        self.size += len(payload)
        self._take()

    def end(self) -> None:
        """No more requests; the call ends behind the last answer."""
        if not self.gone:
            self.ended = True
            self._take()

    def _take(self) -> None:
        """Hand over what there is room for, once: an answer that is ready at once asks for the next from within."""
        if not self._taking:
            self._taking = True
            self._take_whole()
            self._taking = False
            self._go_on()

    def _take_whole(self) -> None:
        """Hand over every whole message for which there is room."""
        limit = self.connection.limits.body_bytes
        while self.size >= PREFIX and self._stream.in_flight + len(self.out) < IN_FLIGHT and not self.gone:
            if len(self.parts[0]) < PREFIX:
                self.parts = [b"".join(self.parts)]
            length = int.from_bytes(self.parts[0][1:PREFIX], "big")
            if length > limit:
                self.refuse(PayloadTooLarge(f"request: the message is over the limit of {limit} bytes"))
                return
            if self.size < PREFIX + length:
                break
            data = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            rest = data[PREFIX + length :]
            self.connection.buffered -= self.size - len(rest)
            self.parts, self.size = ([rest], len(rest)) if rest else ([], 0)
            self.since = 0.0
            self._one(data[0], data[PREFIX : PREFIX + length])

    def _go_on(self) -> None:
        """After what was whole is handed over: wait for more, or end."""
        if self.gone:
            return
        whole_waits = self._stream.in_flight + len(self.out) >= IN_FLIGHT
        self.since = 0.0 if not self.size or whole_waits else self.since or monotonic()
        if self.ended and not self._stream.in_flight and not whole_waits:
            if self.size:
                self.fail_now(InvalidRequest("request: the stream ends within a message"))
            elif self.trailers is None:
                self.trailers = OK_TRAILERS
                self.connection.pump(self)
        elif not whole_waits and self.room < STREAM_WINDOW // 2:
            self.connection.widen(self)

    def _one(self, compressed: int, body: bytes) -> None:
        if compressed:
            try:
                if compressed > 1 or not self.head.encoding:
                    raise InvalidRequest("request: the message's compression is not the one of 'grpc-encoding'")
                body = inflate(body, self.head.encoding, self.connection.limits.body_bytes)
            except HardcaseError as error:
                self.fail_now(error)
                return
        self._stream.take(body)

    def _send(self, answer: bytes) -> None:
        if not self.gone:
            self.connection.send(self, answer, None)
            self.drained()

    def drained(self) -> None:
        """An answer is out: there may be room for another request, or nothing left to do."""
        if not self.gone and (self.size or self.ended):
            self._take()

    def leave(self) -> None:
        """The server stops: end, once every request is answered."""
        if not self._stream.in_flight and not self.size and not self.out:
            self.fail_now(Unavailable("the server is stopping"))

    def fail_now(self, error: BaseException) -> None:
        """End the whole stream with an error."""
        if not self.gone:
            super().fail_now(error)
            self._stream.cancel()

    def cancel(self) -> None:
        """The client is gone."""
        super().cancel()
        self._stream.cancel()


class ReflectionCall(StreamCall):
    """ServerReflectionInfo."""

    __slots__ = ()

    def _open(self, connection: GrpcConnection, head: CallHead) -> ReflectionStream:
        return ReflectionStream(self._send)


class WatchCall(GrpcCall):
    """`grpc.health.v1.Health/Watch`: answers until the client, or the server, goes."""

    __slots__ = ()

    def message(self, body: bytes) -> None:
        """The HealthCheckRequest."""
        self.run(self._watch(body))

    def leave(self) -> None:
        """The server stops."""
        self.fail_now(Unavailable("the server is stopping"))

    async def _watch(self, body: bytes) -> None:
        async for answer in self.connection.service.watch_health(body):
            self.connection.send(self, answer, None)


_KINDS: dict[str, type[GrpcCall]] = {
    INFER: InferCall,
    STREAM_INFER: StreamCall,
    WATCH: WatchCall,
    **dict.fromkeys(REFLECT, ReflectionCall),
}


def new_call(connection: GrpcConnection, stream: int, head: CallHead, window: int) -> GrpcCall:
    """The call that a head begins."""
    return _KINDS.get(head.path, GrpcCall)(connection, stream, head, window)
