"""Traces of inference requests, for OpenTelemetry. Off unless an endpoint is set.

A request that carries a W3C `traceparent` follows its sampled flag; of the others a share is sampled. The loop only
draws two ids; a thread makes the spans from the times that were measured anyway, and the SDK exports them as OTLP over
HTTP. A sampled answer carries `traceresponse`, so that a client without a tracer can find its trace.

One request is a SERVER span `infer <model>` with three children: `queue`, `compute` (gathering inputs, the runtime) and
`answer`. https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from export.contracts.errors import HardcaseError
from serving.call import Call
from serving.entry import Entry
from serving.observers import Backlog, Ended, Turned
from serving.options import TracingOptions

_SAMPLED = 1
_HEX = b"0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Trace:
    """One sampled request's place in a trace.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits of the request's span.
        parent_id: 16 hex digits of the caller's span; None for a trace that begins here.
    """

    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None

    @property
    def header(self) -> bytes:
        """The header line that goes with the answer."""
        return b"traceresponse: 00-%s-%s-01\r\n" % (self.trace_id, self.span_id)


class Tracer:
    """Samples requests and exports their spans. An observer.

    Args:
        options: Where to, and how many.
        name: Of the replica; becomes `service.instance.id`.
        exporter: Another one than OTLP over HTTP, for tests.
    """

    name = "tracer"

    def __init__(self, options: TracingOptions, name: str, exporter: Any = None) -> None:
        self._share = options.sample
        self._random = random.Random(os.urandom(16))
        self._left = self._gap()  # requests until the next one that is sampled by chance
        self._spans = _Spans(options, name, exporter)
        self._backlog: Backlog[Ended] = Backlog("hardcase-traces", self._make_spans, places=4096)

    @property
    def dropped(self) -> int:
        """Bunches of spans that found no place."""
        return self._backlog.dropped

    def sample(self, call: Call) -> Trace | None:
        """A place in a trace for a request that is sampled, None for the others."""
        if call.traceparent is not None:
            known, given = call.trace_id, call.traceparent
            if known is not None and not given[36:52].strip(_HEX) and not given[53:55].strip(_HEX):
                sampled = int(given[53:55], 16) & _SAMPLED
                return Trace(known, self._new(8), given[36:52]) if sampled else None
        self._left -= 1
        if self._left > 0:
            return None
        self._left = self._gap()
        return Trace(self._new(16), self._new(8), None)

    def _gap(self) -> float:
        """How many requests from one that chance samples to the next: as if each were drawn by itself."""
        if not 0 < self._share < 1:
            return 1.0 if self._share >= 1 else math.inf
        return 1.0 + math.floor(math.log(1.0 - self._random.random()) / math.log1p(-self._share))

    def ended(self, ended: Ended) -> None:
        """Make spans of the sampled ones later."""
        if any([entry.trace is not None for entry in ended.entries]):
            self._backlog.put(ended)

    def turned(self, turned: Turned) -> None:
        """A request without a queue has nothing that a span would show."""

    def close(self) -> None:
        """Export what waits."""
        self._backlog.close()
        self._spans.close()

    def _new(self, size: int) -> bytes:
        return b"%0*x" % (2 * size, self._random.getrandbits(8 * size) or 1)

    def _make_spans(self, items: list[Ended]) -> None:
        for item in items:
            for place, entry in enumerate(item.entries):
                if entry.trace is not None:
                    self._make(item, place, entry, entry.trace)

    def _make(self, item: Ended, place: int, entry: Entry, trace: Trace) -> None:
        begun = entry.time_ns
        ended = begun + item.total_ns[place]
        parent = int(trace.span_id, 16)
        if item.queue_ns:
            at = begun
            steps = (
                ("queue", item.queue_ns[place]),
                ("compute", item.input_ns + item.infer_ns),
                ("answer", item.output_ns),
            )
            for name, spent in steps:
                until = min(at + spent, ended)
                self._spans.step(name, int(trace.trace_id, 16), parent, at, until)
                at = until
        facts = {
            "hardcase.model": item.model,
            "hardcase.version": item.version,
            "hardcase.variant": entry.variant.value,
            "hardcase.outcome": item.outcome.value,
            "hardcase.record_id": entry.id.decode("utf-8", "replace"),
            "hardcase.rows": entry.plan.rows,
            "hardcase.transport": entry.call.transport.value,
        }
        self._spans.request(f"infer {item.model}", trace, begun, ended, facts, item.error)


class _Spans:
    """Makes spans that have ended and gives them to the SDK, which exports them.

    The SDK's own `Tracer` is made for spans that are under way: of the 64 µs that it takes for the four of a request,
    these take 9 (`docs/decisions/0251-cheaper-watching.md`).
    """

    def __init__(self, options: TracingOptions, name: str, exporter: Any) -> None:
        from opentelemetry import trace as api
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter(endpoint=options.endpoint)
        self._api, self._span = api, ReadableSpan
        self._flags = api.TraceFlags(api.TraceFlags.SAMPLED)
        self._unset = api.Status(api.StatusCode.UNSET)
        self._resource = Resource.create({"service.name": options.service_name, "service.instance.id": name})
        self._scope = InstrumentationScope("hardcase.serving")
        self._processor: Any = BatchSpanProcessor(exporter)

    def request(
        self,
        name: str,
        trace: Trace,
        begun: int,
        ended: int,
        facts: Mapping[str, str | int],
        error: HardcaseError | None,
    ) -> None:
        """The span of a whole request."""
        api, number = self._api, int(trace.trace_id, 16)
        parent = None if trace.parent_id is None else self._place(number, int(trace.parent_id, 16), remote=True)
        status = self._unset if error is None else api.Status(api.StatusCode.ERROR, error.message)
        place = self._place(number, int(trace.span_id, 16))
        self._end(name, place, parent, api.SpanKind.SERVER, begun, ended, status, facts)

    def step(self, name: str, trace: int, parent: int, begun: int, ended: int) -> None:
        """The span of a part of a request."""
        place = self._place(trace, random.getrandbits(64) or 1)
        kind = self._api.SpanKind.INTERNAL
        self._end(name, place, self._place(trace, parent), kind, begun, ended, self._unset, {})

    def close(self) -> None:
        """Export what waits."""
        self._processor.shutdown()

    def _place(self, trace: int, span: int, *, remote: bool = False) -> Any:
        return self._api.SpanContext(trace_id=trace, span_id=span, is_remote=remote, trace_flags=self._flags)

    def _end(
        self, name: str, place: Any, parent: Any, kind: Any, begun: int, ended: int, status: Any, facts: Any
    ) -> None:
        self._processor.on_end(
            self._span(
                name,
                context=place,
                parent=parent,
                resource=self._resource,
                attributes=facts,
                kind=kind,
                status=status,
                start_time=begun,
                end_time=ended,
                instrumentation_scope=self._scope,
            )
        )
