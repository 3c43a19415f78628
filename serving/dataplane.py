"""The life of a request, free of any transport.

`DataPlane.accept`: route → parse and check → queue. Then, per batch, `LoadedVersion.execute` and `finish`: gather →
run → count-check → answer → offer to capture. Transports call `accept` or `infer` and translate what comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns, time_ns

from export.contracts.errors import HardcaseError, NotFound
from export.contracts.traffic import Variant
from monitoring.records.writer import RecordLogWriter
from serving.answer import escaped
from serving.auth import Authenticator
from serving.cached_answer import answered_again
from serving.call import ANONYMOUS, Call
from serving.capture import IdSource, RefusalLog, outcome_of
from serving.entry import Entry, Reply
from serving.errors import INTERNAL_TEXT, error_body
from serving.grpc.scan import InferMessage
from serving.observers import Observer, Turned
from serving.options import ServingOptions
from serving.pool import Pool
from serving.stats import ServerStats
from serving.tracing import Tracer
from serving.version import LoadedVersion

_log = logging.getLogger("hardcase.serving")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer in HTTP's terms."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class DataPlane:
    """Everything that answers inference requests in one process.

    Args:
        pool: Models and versions.
        options: Limits and settings.
        auth: Checks credentials; transports call it before they hand a request over.
        writer: The record log; None records nothing.
        stats: The process's counters.
        observers: Hear how each request ended; a `Tracer` among them also samples.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        options: ServingOptions,
        auth: Authenticator,
        writer: RecordLogWriter | None,
        stats: ServerStats | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.pool = pool
        self.options = options
        self.auth = auth
        self.writer = writer
        self.stats = stats or ServerStats()
        self.sticky_header = options.sticky_header.lower().encode()
        self._ids = IdSource()
        self._refusals = RefusalLog(writer)
        self.observers = {observer.name: observer for observer in observers}
        self._tracer = next((o for o in observers if isinstance(o, Tracer)), None)
        self._timeout_ns = int(options.limits.timeout_s * 1e9)

    def accept(self, call: Call, body: bytes | InferMessage, reply: Reply, caller: str = ANONYMOUS) -> Entry:
        """Take one whole request: route, parse, check, queue. What becomes of it reaches `reply` later on this loop.

        Args:
            call: The request's head.
            body: The whole body, inflated; for gRPC the message, as `serving.grpc.scan` found its parts.
            reply: Told of the answer or the error, once.
            caller: Name of the API key that the request came with.

        Returns:
            The queued request; set its `cancelled` when the client goes away.

        Raises:
            HardcaseError: refused; it has been counted and recorded, and `reply` will not be called.
        """
        received_ns = perf_counter_ns()
        loaded: LoadedVersion | None = None
        variant = Variant.CHAMPION
        request_id = b""
        try:
            served = self.pool.models.get(call.model)
            if served is None:
                raise NotFound(f"unknown model '{call.model[:64]}'")
            loaded, variant = served.choose(call.version)
            gate = loaded.batcher.gate
            if gate.crowded and loaded.cache is None:
                raw = body if isinstance(body, bytes) else body.body
                gate.refuse_unread(caller, raw, call.header_length, received_ns)
            timeout_ns = self._timeout_ns
            if isinstance(body, bytes):
                parsed = loaded.parser.parse(body, call.header_length)
                request_id = parsed.plan.id or self._ids.next()
                id_text = escaped(request_id) if parsed.plan.id else request_id
            else:
                parsed = loaded.message_parser.parse(body)
                request_id = id_text = body.id or self._ids.next()
                if body.timeout_ns and body.timeout_ns < timeout_ns:
                    timeout_ns = body.timeout_ns
            plan = parsed.plan
            if plan.timeout_ns and plan.timeout_ns < timeout_ns:
                timeout_ns = plan.timeout_ns
            entry = Entry(
                plan,
                parsed.buffers,
                variant,
                request_id,
                id_text,
                received_ns,
                time_ns(),
                received_ns + timeout_ns,
                reply,
                call,
                caller,
            )
            if self._tracer is not None and (trace := self._tracer.sample(call)) is not None:
                entry.trace, entry.trace_id = trace, trace.trace_id
            canary = served.canary
            if (
                canary is not None
                and call.version is None
                and canary.share.takes(call.sticky or request_id)
                and canary.divert(entry, body)
            ):
                return entry
            if loaded.cache is not None and answered_again(loaded, loaded.cache, entry):
                return entry
            loaded.batcher.submit(entry)
            return entry
        except HardcaseError as error:
            self._refused(call, loaded, variant, request_id, error, caller)
            raise
        except Exception as unexpected:
            _log.exception("unexpected error while a request was accepted")
            failure = HardcaseError(INTERNAL_TEXT)
            self._refused(call, loaded, variant, request_id, failure, caller)
            raise failure from unexpected

    def flush(self) -> None:
        """Hand over what the record log has not been given yet. Call before its writer is closed."""
        self._refusals.flush()

    def refuse(self, call: Call, error: HardcaseError, caller: str = ANONYMOUS) -> HttpAnswer:
        """Count and record a request that a transport had to refuse before it was whole; returns HTTP's answer."""
        served = self.pool.models.get(call.model)
        loaded, variant = None, Variant.CHAMPION
        if served is not None:
            with contextlib.suppress(HardcaseError):
                loaded, variant = served.choose(call.version)
        self._refused(call, loaded, variant, b"", error, caller)
        return error_answer(error)

    def _refused(
        self,
        call: Call,
        loaded: LoadedVersion | None,
        variant: Variant,
        request_id: bytes,
        error: HardcaseError,
        caller: str,
    ) -> None:
        """Count and record a refusal under names that exist, so that labels and slots stay bounded."""
        outcome = outcome_of(error)
        version = ""
        if loaded is not None:
            loaded.stats.refused(variant, outcome)
            version = loaded.version
        else:
            self.stats.unrouted[outcome] = self.stats.unrouted.get(outcome, 0) + 1
        known = call.model if call.model in self.pool.models else ""
        request_id, now = request_id or self._ids.next(), time_ns()
        self._refusals.record(known, version, request_id, now, error, variant)
        for observer in self.observers.values():
            observer.turned(Turned(call, version, variant, outcome, caller, request_id, now, error))

    async def infer(self, call: Call, body: bytes, caller: str = ANONYMOUS) -> HttpAnswer:
        """`accept` for transports that wait: returns the answer, also when it is an error."""
        waiter = _Waiter()
        self.stats.in_flight += 1
        try:
            entry = self.accept(call, body, waiter, caller)
        except HardcaseError as error:
            self.stats.in_flight -= 1
            return error_answer(error)
        try:
            status, headers, answer = await waiter.future
        except asyncio.CancelledError:
            entry.cancelled = True
            raise
        finally:
            self.stats.in_flight -= 1
        return HttpAnswer(status, split_headers(headers), answer)


class _Waiter:
    """A reply that somebody awaits."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[tuple[int, bytes, bytes]] = asyncio.get_running_loop().create_future()

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result((200, headers, body))

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        if not self.future.done():
            self.future.set_result(error_body(error))


def error_answer(error: BaseException) -> HttpAnswer:
    """An error as an answer. What is not one of ours gets a fixed text, and its traceback goes to the log."""
    if not isinstance(error, HardcaseError):
        _log.error("unexpected error", exc_info=error)
        error = HardcaseError(INTERNAL_TEXT)
    status, headers, body = error_body(error)
    return HttpAnswer(status, split_headers(headers), body)


def split_headers(block: bytes) -> list[tuple[bytes, bytes]]:
    r"""Header lines that end with a blank line, as pairs.

    Example:
        >>> split_headers(b"content-type: text/plain\r\n\r\n")
        [(b'content-type', b'text/plain')]
    """
    pairs = []
    for line in block.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b": ")
            pairs.append((name, value))
    return pairs
