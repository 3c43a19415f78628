"""Exemplars: a slow bucket and a failure lead to a record; who does not ask pays nothing, who stops asking neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from export.contracts.datatypes import Datatype
from export.contracts.traffic import Variant
from export.registry import Registry
from monitoring.records.record import Outcome
from serving.exemplars import KEEP_NS, watch
from serving.latency_bounds import LATENCY_BOUNDS_NS
from serving.observers import Ended, Observer
from tests.support import packages as p
from tests.support import wire
from tests.support.server import Server, infer_path, standalone
from tests.support.traffic import digits
from tests.support.wire import Tensor

OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("exemplars")
    registry = Registry(folder / "registry")
    package = p.digits_like_package(folder)
    registry.add(package.dir)
    registry.promote(package.manifest.name, "1", author="test")
    with standalone(folder / "server", registry.root) as running:
        yield running


def found(server: Server, name: str, headers: dict[str, str] = OPENMETRICS) -> dict[str, dict[str, str]]:
    """Exemplars of a metric by one of its labels: the bound of the bucket, or the outcome."""
    response = server.client.get("/metrics", headers=headers)
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")
    samples = (s for f in text_string_to_metric_families(response.text) for s in f.samples)
    return {
        s.labels.get("le") or s.labels["outcome"]: dict(s.exemplar.labels) | {"value": str(s.exemplar.value)}
        for s in samples
        if s.name == name and s.exemplar is not None
    }


def test_a_slow_bucket_and_a_failure_name_the_record(server: Server) -> None:
    name = "hardcase_request_total_seconds_bucket"
    server.infer("digits", digits(), id="before-anybody-asked")
    assert found(server, name) == {}  # from here on there are some
    headers, body = wire.request(digits(), id="slow-1")
    headers["traceparent"] = f"00-{'ab' * 16}-{'cd' * 8}-00"
    assert server.client.post(infer_path("digits"), content=body, headers=headers).status_code == 200
    ((bound, labels),) = found(server, name).items()
    assert (labels["record_id"], labels["trace_id"]) == ("slow-1", "ab" * 16)
    assert 0 < float(labels["value"]) <= float(bound)
    spoiled = Tensor(name="x", datatype=Datatype.FP32, array=np.full((1, 1, 8, 8), np.nan, np.float32))
    headers, body = wire.request([spoiled], id="nan-1")
    assert server.client.post(infer_path("digits"), content=body, headers=headers).status_code == 500
    assert found(server, "hardcase_requests_total")["failed"]["record_id"] == "nan-1"


def test_an_id_too_long_for_an_exemplar_is_left_out(server: Server) -> None:
    found(server, "hardcase_requests_total")
    server.infer("digits", digits(), id="x" * 128)
    assert all("x" * 20 not in e["record_id"] for e in found(server, "hardcase_request_total_seconds_bucket").values())


def test_the_older_format_has_none(server: Server) -> None:
    response = server.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "record_id" not in response.text


@dataclass
class Version:
    observers: tuple[Observer, ...] = ()


@dataclass
class One:
    id: bytes
    variant: Variant = Variant.CHAMPION
    trace_id: bytes | None = None


def ended(time_ns: int, *times_ns: int, outcome: Outcome = Outcome.OK) -> Ended:
    entries = [One(f"r{ns}".encode()) for ns in times_ns]
    return Ended("m", "1", outcome, entries, time_ns, times_ns)  # type: ignore[arg-type]


def test_the_observer_is_there_once_and_leaves_when_nobody_has_asked_for_a_while() -> None:
    version = Version()
    noted = watch(version, 0)
    assert watch(version, 10) is noted
    assert version.observers == (noted,)
    noted.ended(ended(5, 20_000, 3_000_000, 70_000))
    kept = [e.labels["record_id"] for e in noted.buckets if e is not None]
    assert kept == ["r3000000"], "the slowest of the batch, in its bucket"
    assert noted.buckets[LATENCY_BOUNDS_NS.index(5_000_000)] is not None
    noted.ended(ended(6, 1, outcome=Outcome.FAILED))
    refused = noted.refused(Variant.CHAMPION, Outcome.FAILED)
    assert refused is not None
    assert refused.labels == {"record_id": "r1"}
    noted.ended(ended(10 + KEEP_NS, 5))
    assert version.observers == (noted,)
    noted.ended(ended(11 + KEEP_NS, 5))
    assert version.observers == ()
    assert watch(version, 0) is not noted
