"""One call of the lane, from its first byte to its trailers: inference, streams of it, and everything else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from export.contracts.errors import HardcaseError, InvalidRequest, PayloadTooLarge, Unavailable
from serving.entry import Entry
from serving.grpc.heads import OK_TRAILERS, CallHead, trailers_of
from serving.grpc.http2 import STREAM_WINDOW, Code, Http2Error
from serving.grpc.status import status_of
from serving.http_limits import inflate, receive_timeout

if TYPE_CHECKING:
    from serving.grpc.connection import GrpcConnection

PREFIX = 5  # bytes of a message: compressed or not, and its length
_INLINE_INFLATE = 1 << 18  # compressed bytes that are inflated on the loop; more go to a thread


class GrpcCall:
    """A call with one request message. Receives it, hands it over, and is the reply of the data plane.

    Attributes:
        id: The stream's.
        window: Bytes that the peer allows us to send on this stream.
        room: Bytes that we allow the peer to send on it.
        out: What waits for the peer to allow more.
        trailers: What ends the call once `out` is empty; None while it goes on.
        since: When the message that is arriving began; 0 while none is.
        headed: The response's headers are out.
        ended: The peer sends nothing more.
        gone: Whatever comes now has no use.
        parts, size: What has come of a message, and how much that is.
    """

    __slots__ = (
        "_task",
        "connection",
        "ended",
        "entry",
        "gone",
        "head",
        "headed",
        "id",
        "out",
        "parts",
        "room",
        "since",
        "size",
        "trailers",
        "window",
    )

    def __init__(self, connection: GrpcConnection, stream: int, head: CallHead, window: int) -> None:
        self.connection = connection
        self.id = stream
        self.head = head
        self.window = window
        self.room = STREAM_WINDOW
        self.out: deque[memoryview] = deque()
        self.trailers: bytes | None = None
        self.headed = False
        self.since = monotonic()
        self.entry: Entry | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.ended = False
        self.gone = False
        self._task: asyncio.Task[None] | None = None

    # bytes in

    def data(self, payload: bytes, ended: bool) -> None:
        """Payload of a DATA frame."""
        if self.gone:
            return
        self.ended = ended
        if ended and not self.size:
            self._whole(payload)
            return
        if self._keep(payload) and ended:
            self._whole(self._taken())

    def end(self) -> None:
        """The peer sends nothing more, and said so without data."""
        if not self.ended and not self.gone:
            self.ended = True
            self._whole(self._taken())

    def _keep(self, payload: bytes) -> bool:
        """Hold a part of a message; False when it is, or is going to be, too large, and was refused."""
        self.parts.append(payload)
        self.size += len(payload)
        self.connection.buffered += len(payload)
        limit = self.connection.limits.body_bytes
        if self.size >= PREFIX and len(self.parts[0]) < PREFIX:
            self.parts = [b"".join(self.parts)]
        announced = int.from_bytes(self.parts[0][1:PREFIX], "big") if self.size >= PREFIX else 0
        if announced > limit or self.size > limit + PREFIX:
            self.refuse(PayloadTooLarge(f"request: the message is over the limit of {limit} bytes"))
        elif self.connection.buffered > 4 * limit:
            self.refuse(Unavailable("too many large messages are arriving on this connection at once"))
        elif not self.ended and self.room < STREAM_WINDOW // 2:
            self.connection.widen(self)
        return not self.gone

    def _taken(self) -> bytes:
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.let_go()
        return body

    def let_go(self) -> None:
        """Forget what has come of a message."""
        self.connection.buffered -= self.size
        self.parts, self.size = [], 0

    def _whole(self, data: bytes) -> None:
        """Everything that the peer sends has come."""
        self.since = 0.0
        if len(data) < PREFIX or len(data) - PREFIX != int.from_bytes(data[1:PREFIX], "big") or data[0] > 1:
            self.fail_now(InvalidRequest("request: the call does not hold exactly one message"))
        elif data[0]:
            self.run(self._inflated(data[PREFIX:]))
        else:
            self.message(data[PREFIX:])

    async def _inflated(self, data: bytes) -> None:
        """A compressed message, off the loop where that takes long."""
        if not self.head.encoding:
            raise InvalidRequest("request: the message is compressed, and metadata 'grpc-encoding' does not say how")
        limit = self.connection.limits.body_bytes
        if len(data) <= _INLINE_INFLATE:
            body = inflate(data, self.head.encoding, limit)
        else:
            body = await asyncio.to_thread(inflate, data, self.head.encoding, limit)
        if not self.gone:
            self.message(body)

    # to the service

    def message(self, body: bytes) -> None:
        """The request message."""
        self.run(self._unary(body))

    async def _unary(self, body: bytes) -> None:
        answer = await self.connection.service.unary(self.head.path, body)
        self.connection.send(self, answer, OK_TRAILERS)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that takes time; an error ends the call."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self.fail_now(error)

        self._task = asyncio.get_running_loop().create_task(guarded())

    # answers

    def fail_now(self, error: BaseException) -> None:
        """End the call with an error."""
        if not self.gone:
            self.gone = True
            self.let_go()
            self.connection.finish(self, trailers_of(status_of(error)), whole=self.ended)

    def refuse(self, error: HardcaseError) -> None:
        """End the call before its message was whole."""
        self.fail_now(error)

    def cancel(self) -> None:
        """The client is gone, or does not want the answer any more."""
        self.gone = True
        self.let_go()
        if self._task is not None:
            self._task.cancel()

    def drained(self) -> None:
        """A message that waited in `out` is sent."""

    def leave(self) -> None:
        """The server stops: end the call if it would not end by itself."""

    def late(self, now: float) -> HardcaseError | None:
        """The error for a message that has been arriving for too long."""
        limits = self.connection.limits
        if self.since and now - self.since > limits.receive_s:
            return receive_timeout(limits, "body")
        return None


class InferCall(GrpcCall):
    """ModelInfer."""

    __slots__ = ()

    def message(self, body: bytes) -> None:
        """The ModelInferRequest."""
        service = self.connection.service
        try:
            self.entry = service.infer(body, self.head.metadata, self, self.head.timeout_ns)
        except HardcaseError as error:
            self.fail_now(error)
        else:
            service.plane.stats.in_flight += 1

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        """Called by the data plane: the request succeeded."""
        if not self.gone:
            self.gone = True
            self.connection.service.plane.stats.in_flight -= 1
            self.connection.send(self, body, OK_TRAILERS)

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        """Called by the data plane: the request ended with an error."""
        if not self.gone:
            self.connection.service.plane.stats.in_flight -= 1
            self.fail_now(error)

    def refuse(self, error: HardcaseError) -> None:
        """A request that will never be whole is a request all the same: it is counted and recorded."""
        self.connection.service.refuse(self.head.metadata, error)
        super().refuse(error)

    def cancel(self) -> None:
        """The client is gone."""
        if self.entry is not None and not self.gone:
            self.entry.cancelled = True
            self.connection.service.plane.stats.in_flight -= 1
        super().cancel()


def check_room(call: GrpcCall, size: int) -> None:
    """Take received bytes off what the peer may send.

    Raises:
        Http2Error: it has sent more.
    """
    call.room -= size
    if call.room < 0:
        raise Http2Error(Code.FLOW_CONTROL_ERROR, "more data than the stream's window allows")
