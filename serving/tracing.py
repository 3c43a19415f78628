"""Traces of inference requests, for OpenTelemetry. Off unless an endpoint is set.

A request that carries a W3C `traceparent` follows its sampled flag; of the others a share is sampled. The loop only
draws two ids; a thread makes the spans from the times that were measured anyway, and the SDK exports them as OTLP over
HTTP. A sampled answer carries `traceresponse`, so that a client without a tracer can find its trace.

One request is a SERVER span `infer <model>` with three children: `queue`, `compute` (gathering inputs, the runtime) and
`answer`. https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

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
        self._ids: Any = _given_ids()
        self._provider: Any = _provider(options, name, exporter, self._ids)
        self._tracer: Any = self._provider.get_tracer("hardcase.serving")
        self._backlog: Backlog[Ended] = Backlog("hardcase-traces", self._make_spans, places=4096)

    @property
    def dropped(self) -> int:
        """Bunches of spans that found no place."""
        return self._backlog.dropped

    def sample(self, call: Call) -> Trace | None:
        """A place in a trace for a request that is sampled, None for the others."""
        known, given = call.trace_id, call.traceparent
        if known is not None and given is not None and not given[36:52].strip(_HEX) and not given[53:55].strip(_HEX):
            sampled = int(given[53:55], 16) & _SAMPLED
            return Trace(known, self._new(8), given[36:52]) if sampled else None
        if self._random.random() >= self._share:
            return None
        return Trace(self._new(16), self._new(8), None)

    def ended(self, ended: Ended) -> None:
        """Make spans of the sampled ones later."""
        if any([entry.trace is not None for entry in ended.entries]):
            self._backlog.put(ended)

    def turned(self, turned: Turned) -> None:
        """A request without a queue has nothing that a span would show."""

    def close(self) -> None:
        """Export what waits."""
        self._backlog.close()
        self._provider.shutdown()

    def _new(self, size: int) -> bytes:
        return b"%0*x" % (2 * size, self._random.getrandbits(8 * size) or 1)

    def _make_spans(self, items: list[Ended]) -> None:
        for item in items:
            for place, entry in enumerate(item.entries):
                if entry.trace is not None:
                    self._make(item, place, entry, entry.trace)

    def _make(self, item: Ended, place: int, entry: Entry, trace: Trace) -> None:
        from opentelemetry import trace as api

        begun = entry.time_ns
        ended = begun + item.total_ns[place]
        self._ids.trace_id, self._ids.span_id = int(trace.trace_id, 16), int(trace.span_id, 16)
        span = self._tracer.start_span(
            f"infer {item.model}",
            context=_parent(trace),
            kind=api.SpanKind.SERVER,
            start_time=begun,
            attributes={
                "hardcase.model": item.model,
                "hardcase.version": item.version,
                "hardcase.variant": entry.variant.value,
                "hardcase.outcome": item.outcome.value,
                "hardcase.record_id": entry.id.decode("utf-8", "replace"),
                "hardcase.rows": entry.plan.rows,
                "hardcase.transport": entry.call.transport.value,
            },
        )
        self._ids.span_id = 0
        if item.error is not None:
            span.set_status(api.Status(api.StatusCode.ERROR, item.error.message))
        if item.queue_ns:
            context = api.set_span_in_context(span)
            at = begun
            steps = (
                ("queue", item.queue_ns[place]),
                ("compute", item.input_ns + item.infer_ns),
                ("answer", item.output_ns),
            )
            for name, spent in steps:
                child = self._tracer.start_span(name, context=context, start_time=at)
                at = min(at + spent, ended)
                child.end(end_time=at)
        span.end(end_time=ended)


def _provider(options: TracingOptions, name: str, exporter: Any, ids: Any) -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    if exporter is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=options.endpoint)
    resource = Resource.create({"service.name": options.service_name, "service.instance.id": name})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _given_ids() -> Any:
    """An id generator for the SDK: gives the ids that the loop drew, and random ones for the children."""
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class GivenIds(IdGenerator):
        """Attributes: the ids of the next span; a span id of 0 means a random one."""

        trace_id = 0
        span_id = 0

        def generate_span_id(self) -> int:
            return self.span_id or random.getrandbits(64) or 1

        def generate_trace_id(self) -> int:
            return self.trace_id

        def is_trace_id_random(self) -> bool:
            return True

    return GivenIds()


def _parent(trace: Trace) -> Any:
    from opentelemetry import trace as api
    from opentelemetry.context import Context

    if trace.parent_id is None:
        return Context()
    remote = api.SpanContext(
        trace_id=int(trace.trace_id, 16),
        span_id=int(trace.parent_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED),
    )
    return api.set_span_in_context(api.NonRecordingSpan(remote), Context())
