"""Traces: W3C context in, spans out over OTLP to a real endpoint, ids that agree everywhere."""

from __future__ import annotations

import http.server
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from export.registry import Registry
from serving.call import Call
from serving.options import ServingOptions, TracingOptions
from serving.tracing import Tracer
from tests.support.packages import digits_like_package
from tests.support.records import recorded
from tests.support.server import infer_path, standalone
from tests.support.traffic import digits
from tests.support.wire import request

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP endpoint: its URL, and the spans that it received."""
    spans: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            message = ExportTraceServiceRequest.FromString(body)
            for resource in message.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("lane", ["fast", "asgi"])
def test_a_sampled_request_becomes_a_span_with_its_parts_under_the_clients_trace(tmp_path: Path, lane: str) -> None:
    registry = Registry(tmp_path / "registry")
    registry.add(digits_like_package(tmp_path).dir)
    registry.promote("digits", "1", author="test")
    with collector() as (url, spans):
        options = ServingOptions(registry="", records="", tracing=TracingOptions(endpoint=url, sample=0.0))
        with standalone(tmp_path / "server", registry.root, lane=lane, options=options) as server:
            path = infer_path("digits")

            def send(traceparent: str | None, name: str) -> Any:
                headers, body = request(digits(2), id=name)
                extra = {"traceparent": traceparent} if traceparent else {}
                return server.client.post(path, content=body, headers=headers | extra)

            sampled = send(f"00-{TRACE}-{PARENT}-01", "sampled")
            assert sampled.status_code == 200
            known, own = sampled.headers["traceresponse"].split("-")[1:3]
            for quiet in (f"00-{TRACE}-{PARENT}-00", None, "00-zz-xx-01", f"00-{TRACE}-{'0' * 15}g-01"):
                answer = send(quiet, "quiet")
                assert answer.status_code == 200
                assert "traceresponse" not in answer.headers
            bad = server.client.post(path, content=b"{", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
            assert bad.status_code == 400
    assert known == TRACE
    by_name = defaultdict(list)
    for span in spans:
        by_name[span.name].append(span)
    assert {name: len(found) for name, found in by_name.items()} == {
        "infer digits": 1,
        "queue": 1,
        "compute": 1,
        "answer": 1,
    }
    whole = by_name["infer digits"][0]
    assert whole.trace_id.hex() == TRACE
    assert whole.parent_span_id.hex() == PARENT
    assert whole.span_id.hex() == own
    facts = {a.key: a.value.string_value or a.value.int_value for a in whole.attributes}
    assert facts["hardcase.record_id"] == "sampled"
    assert facts["hardcase.rows"] == 2
    assert facts["hardcase.version"] == "1"
    at = whole.start_time_unix_nano
    for name in ("queue", "compute", "answer"):
        child = by_name[name][0]
        assert child.parent_span_id == whole.span_id
        assert child.trace_id == whole.trace_id
        assert at == child.start_time_unix_nano <= child.end_time_unix_nano <= whole.end_time_unix_nano
        at = child.end_time_unix_nano
    traces = {r.ids[i]: r.trace_ids[i] for r in recorded(server.records or Path()) for i in range(len(r))}
    assert traces["sampled"] == TRACE.encode(), "the record leads to the trace"


def test_the_share_holds_for_requests_without_a_context_and_ids_are_valid() -> None:
    tracer = Tracer(TracingOptions(endpoint="unused", sample=0.25), "r1", exporter=_Nothing())
    places = [tracer.sample(Call(model="m")) for _ in range(4000)]
    taken = [p for p in places if p is not None]
    assert 850 < len(taken) < 1150
    assert len({p.trace_id for p in taken}) == len(taken)
    for place in taken:
        assert len(place.trace_id) == 32
        assert len(place.span_id) == 16
        assert int(place.span_id, 16) > 0
        assert place.header == b"traceresponse: 00-" + place.trace_id + b"-" + place.span_id + b"-01\r\n"
    tracer.close()


def test_a_dead_endpoint_costs_no_request(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    registry.add(digits_like_package(tmp_path).dir)
    registry.promote("digits", "1", author="test")
    options = ServingOptions(
        registry="", records="", tracing=TracingOptions(endpoint="http://127.0.0.1:9/v1/traces", sample=1.0)
    )
    with standalone(tmp_path / "server", registry.root, options=options) as server:
        for _ in range(20):
            server.infer("digits", digits())


class _Nothing:
    """An exporter that takes everything."""

    def export(self, spans: Any) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        return

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True
