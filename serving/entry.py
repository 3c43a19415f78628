"""A request on its way through the queue, and where its answer goes."""

from __future__ import annotations

from typing import Protocol

from export.contracts.traffic import Variant
from serving.protocol import Buffer
from serving.request_plan import RequestPlan


class Reply(Protocol):
    """Takes the answer of one request. Called once, on the event loop."""

    def answer(self, entry: Entry, status: int, headers: bytes, body: bytes) -> None:
        """Send or hold the answer.

        Args:
            entry: The request.
            status: HTTP status.
            headers: Header lines, each ended by CRLF, and the blank line.
            body: The body.
        """
        ...


class Entry:
    """One request between parsing and answering.

    Attributes:
        id: Record id as UTF-8: the client's, or one that we made.
        id_json: The same, escaped for JSON.
        received_ns: Monotonic time of the last byte.
        time_ns: Wall-clock time of the last byte.
        deadline_ns: Monotonic time after which nobody wants the answer.
        cancelled: The client is gone.
        answered: An answer was handed to `reply`.
        response: Held by transports that must answer in order.
        accept_encoding: Compressions the client offered, for the transport.
    """

    __slots__ = (
        "accept_encoding",
        "answered",
        "buffers",
        "cancelled",
        "deadline_ns",
        "id",
        "id_json",
        "plan",
        "received_ns",
        "reply",
        "response",
        "time_ns",
        "trace_id",
        "variant",
    )

    def __init__(
        self,
        plan: RequestPlan,
        buffers: tuple[Buffer, ...],
        variant: Variant,
        request_id: bytes,
        id_json: bytes,
        received_ns: int,
        time_ns: int,
        deadline_ns: int,
        reply: Reply,
        trace_id: bytes | None,
    ) -> None:
        self.plan = plan
        self.buffers = buffers
        self.variant = variant
        self.id = request_id
        self.id_json = id_json
        self.received_ns = received_ns
        self.time_ns = time_ns
        self.deadline_ns = deadline_ns
        self.reply = reply
        self.trace_id = trace_id
        self.cancelled = False
        self.answered = False
        self.response: bytes | None = None
        self.accept_encoding: bytes | None = None
