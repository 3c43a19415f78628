"""ModelStreamInfer, free of any server: many requests under way at once, answers in the order of the requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter_ns

from export.contracts.errors import HardcaseError
from serving.entry import Entry
from serving.grpc.answer import varint
from serving.grpc.messages import messages
from serving.grpc.scan import scan
from serving.grpc.service import GrpcService, Metadata
from serving.grpc.status import status_of

IN_FLIGHT = 256  # requests of one stream that may be under way; more are not read before one of these is answered
_INFER_RESPONSE = b"\x12"  # ModelStreamInferResponse.infer_response


def stream_answer(body: bytes) -> bytes:
    """A ModelInferResponse as an answer of the stream."""
    return b"".join((_INFER_RESPONSE, varint(len(body)), body))


def stream_error(error: BaseException, request_id: bytes = b"") -> bytes:
    """An error as an answer of the stream; it carries the request's id, so that the client knows which one failed."""
    answer = messages().ModelStreamInferResponse(error_message=status_of(error).message)
    if request_id:
        answer.infer_response.id = request_id.decode(errors="replace")
    data: bytes = answer.SerializeToString()
    return data


class InferStream:
    """One call of ModelStreamInfer.

    Args:
        service: Takes the requests.
        metadata: The call's; it holds for all of its requests.
        send: Called with every answer, in the order of the requests.
        timeout_ns: What was left of the call's deadline when it began; 0 for none.
    """

    def __init__(
        self, service: GrpcService, metadata: Metadata, send: Callable[[bytes], None], timeout_ns: int = 0
    ) -> None:
        self._service = service
        self._metadata = metadata
        self._send = send
        self._ends_ns = perf_counter_ns() + timeout_ns if timeout_ns else 0
        self._waiting: deque[_Place] = deque()

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return len(self._waiting)

    def take(self, body: bytes) -> None:
        """A request has come. Whatever becomes of it is an answer of the stream; the stream itself goes on."""
        place = _Place(self)
        self._waiting.append(place)
        self._service.plane.stats.in_flight += 1
        left_ns = max(1, self._ends_ns - perf_counter_ns()) if self._ends_ns else 0
        try:
            place.entry = self._service.infer(body, self._metadata, place, left_ns)
        except HardcaseError as error:
            place.body = stream_error(error, scan(body).id)
            self.flush()

    def flush(self) -> None:
        """Send what is ready and has nothing unanswered before it."""
        waiting = self._waiting
        while waiting and waiting[0].body:
            self._service.plane.stats.in_flight -= 1
            self._send(waiting.popleft().body)

    def cancel(self) -> None:
        """The client is gone."""
        for place in self._waiting:
            if place.entry is not None:
                place.entry.cancelled = True
        self._service.plane.stats.in_flight -= len(self._waiting)
        self._waiting.clear()


class _Place:
    """One request's place in the order of its stream."""

    __slots__ = ("body", "entry", "stream")

    def __init__(self, stream: InferStream) -> None:
        self.stream = stream
        self.entry: Entry | None = None
        self.body = b""

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        """Called by the data plane: the request succeeded."""
        self.body = stream_answer(body)
        self.stream.flush()

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        """Called by the data plane: the request ended with an error."""
        self.body = stream_error(error, entry.id)
        self.stream.flush()
