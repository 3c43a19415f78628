"""A request on its way through the queue, and where its answer goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from export.contracts.errors import HardcaseError
from export.contracts.traffic import Variant
from serving.call import Call
from serving.protocol import Buffer
from serving.request_plan import RequestPlan

if TYPE_CHECKING:
    from serving.tracing import Trace


class Reply(Protocol):
    """Takes what becomes of one request: one of its methods is called, once, on the event loop."""

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        """Send or hold the answer of a request that succeeded.

        Args:
            entry: The request.
            headers: Header lines, each ended by CRLF, and the blank line; empty for transports without HTTP headers.
            body: The body, as the request's answer plan rendered it.
        """
        ...

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        """Send or hold an error, in the transport's own terms.

        Args:
            entry: The request.
            error: Its message is public.
        """
        ...


class Entry:
    """One request between parsing and answering.

    Attributes:
        call: Its head.
        caller: Name of the API key that it came with.
        id: Record id as UTF-8: the client's, or one that we made.
        id_json: The same as the answer writes it: over HTTP escaped for JSON.
        received_ns: Monotonic time of the last byte.
        time_ns: Wall-clock time of the last byte.
        deadline_ns: Monotonic time after which nobody wants the answer.
        cancelled: The client is gone.
        answered: An answer was handed to `reply`.
        trace_id: 32 hex digits of the trace that the request belongs to, None without one.
        trace: Its place in a trace that is exported, None when it is not sampled.
        cache_key: What the response cache knows it by; None when it is not to be cached.
        response: Held by transports that must answer in order.
        accept_encoding: Compressions the client offered, for the transport.
    """

    __slots__ = (
        "accept_encoding",
        "answered",
        "buffers",
        "cache_key",
        "call",
        "caller",
        "cancelled",
        "deadline_ns",
        "id",
        "id_json",
        "plan",
        "received_ns",
        "reply",
        "response",
        "time_ns",
        "trace",
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
        call: Call,
        caller: str,
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
        self.call = call
        self.caller = caller
        self.trace_id = None if call.traceparent is None else call.trace_id
        self.trace: Trace | None = None
        self.cache_key: bytes | None = None
        self.cancelled = False
        self.answered = False
        self.response: bytes | None = None
        self.accept_encoding: bytes | None = None
