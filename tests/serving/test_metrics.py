"""The metrics of a replica: parsed by Prometheus' own parser, equal to what was sent, bounded whatever is sent."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from export.contracts.datatypes import Datatype
from export.contracts.traffic import Variant
from export.registry import Registry
from monitoring.records.record import DropReason, Outcome
from serving.latency_bounds import LATENCY_BOUNDS_NS
from serving.metric_table import METRICS, Kind
from serving.queueing.gate import ShedReason
from serving.served import VersionState
from serving.stats import ReleaseReason
from tests.support import packages as p
from tests.support.server import Server, infer_path, standalone
from tests.support.traffic import digits
from tests.support.wire import Tensor

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture(scope="module", params=["fast", "asgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("metrics")
    registry = Registry(folder / "registry")
    for package in (p.digits_like_package(folder), p.echo_package(folder)):
        registry.add(package.dir)
        registry.promote(package.manifest.name, "1", author="test")
    with standalone(folder / "server", registry.root, lane=request.param) as running:
        yield running


def scrape(server: Server) -> Samples:
    response = server.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples: Samples = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    """Sum of the samples that carry these labels."""
    found = [v for key, v in samples.get(name, {}).items() if set(labels.items()) <= set(key)]
    return sum(found)


def test_requests_rows_batches_and_times_are_counted_once_each(server: Server) -> None:
    before = scrape(server)
    for rows in (1, 3, 5):
        server.infer("digits", digits(rows))
    server.infer("digits", digits(2), version="1")
    after = scrape(server)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, model="digits", **labels) - value(before, name, model="digits", **labels)

    assert grown("hardcase_requests_total", outcome="ok", variant="champion") == 3
    assert grown("hardcase_requests_total", outcome="ok", variant="pinned") == 1
    assert grown("hardcase_rows_total") == 11
    assert grown("hardcase_batch_rows_sum") == 11
    assert grown("hardcase_batch_rows_count") == grown("hardcase_batch_release_total") == 4
    for part in ("queue", "compute", "total"):
        name = f"hardcase_request_{part}_seconds"
        assert grown(f"{name}_count") == grown(f"{name}_bucket", le="+Inf") == 4
        assert 0 < grown(f"{name}_sum") < 4
    assert grown("hardcase_request_compute_seconds_sum") < grown("hardcase_request_total_seconds_sum")
    assert value(after, "hardcase_queue_rows") == 0
    assert value(after, "hardcase_in_flight_requests") == 0


def test_buckets_rise_to_infinity_and_are_the_documented_bounds(server: Server) -> None:
    server.infer("digits", digits())
    samples = scrape(server)["hardcase_request_total_seconds_bucket"]
    buckets = sorted((float(dict(key)["le"]), v) for key, v in samples.items() if dict(key)["model"] == "digits")
    assert [b for b, _ in buckets] == [*(ns / 1e9 for ns in LATENCY_BOUNDS_NS), math.inf]
    assert [v for _, v in buckets] == sorted(v for _, v in buckets)


def test_refusals_are_counted_by_outcome(server: Server) -> None:
    before = scrape(server)
    assert server.client.post(infer_path("digits"), json={"inputs": []}).status_code == 400
    assert server.client.post(infer_path("nothing"), json={"inputs": []}).status_code == 404
    after = scrape(server)
    invalid = Outcome.INVALID.value
    for name, labels in (
        ("hardcase_requests_total", {"model": "digits", "outcome": invalid}),
        ("hardcase_unrouted_requests_total", {"outcome": invalid}),
    ):
        assert value(after, name, **labels) - value(before, name, **labels) == 1


def test_the_state_of_the_process_is_told(server: Server) -> None:
    samples = scrape(server)
    assert value(samples, "hardcase_lane", lane=server.lane) == 1
    assert value(samples, "hardcase_lane") == 1
    assert value(samples, "hardcase_ready") == 1
    assert value(samples, "hardcase_plan_revision", model="digits") == 1
    assert value(samples, "hardcase_champion_behind") == 0
    for state in VersionState:
        expected = 1 if state is VersionState.READY else 0
        assert value(samples, "hardcase_version_state", model="echo", version="1", state=state) == expected
    assert value(samples, "hardcase_version_info", device="cpu", runtime="onnx") == 2
    assert 0 < value(samples, "hardcase_version_batch_seconds", model="digits") < 1
    assert value(samples, "hardcase_connections") >= 1
    assert value(samples, "process_resident_memory_bytes") > 1e7


def test_capture_accounts_for_every_request(server: Server) -> None:
    for _ in range(5):
        server.infer("echo", [word()])
    for _ in range(100):
        samples = scrape(server)
        requests = value(samples, "hardcase_capture_requests_total", model="echo")
        settled = value(samples, "hardcase_capture_records_total", model="echo")
        if requests == settled:
            break
    assert requests == settled >= 5
    results = {dict(key)["result"] for key in samples["hardcase_capture_records_total"]}
    assert results == {"captured", "sampled_out", *(f"dropped_{reason}" for reason in DropReason)}


def word() -> Tensor:
    return Tensor(name="text", datatype=Datatype.BYTES, array=np.array([[b"word"]], dtype=object))


def test_whatever_clients_send_adds_no_series(server: Server) -> None:
    server.infer("digits", digits())
    for model in ("digits", "nothing"):
        server.client.post(infer_path(model, "warm"), json={})
    before = {(name, key) for name, series in scrape(server).items() for key in series}
    for i in range(150):
        server.client.post(infer_path(f"model-{i}", f"version-{i}"), json={"id": f"{i}"})
        server.client.request(f"M{i}", f"/path-{i}")
    after = {(name, key) for name, series in scrape(server).items() for key in series}
    assert after == before


def test_the_table_is_what_is_exposed_with_closed_label_sets(server: Server) -> None:
    server.infer("digits", digits())
    families = {
        f.name: f
        for f in text_string_to_metric_families(server.client.get("/metrics").text)
        if f.name.startswith("hard")
    }
    exposed = {f.name + ("_total" if f.type == "counter" else "") for f in families.values()}
    assert exposed == set(METRICS)
    closed = {
        "variant": set(Variant),
        "outcome": set(Outcome),
        "state": set(VersionState),
        "reason": {*ReleaseReason, *ShedReason},
        "lane": {"fast", "asgi", "grpcio", "none"},
        "version": None,
    }
    for spec in METRICS.values():
        family = families[spec.name.removesuffix("_total")]
        assert family.type == spec.kind
        assert family.documentation == spec.help
        assert spec.help.endswith(".")
        assert (spec.kind is Kind.COUNTER) == spec.name.endswith("_total")
        assert (spec.kind is not Kind.HISTOGRAM) or spec.name.endswith(("_seconds", "_rows"))
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(spec.labels)
            for label, allowed in closed.items():
                assert allowed is None or label not in sample.labels or sample.labels[label] in allowed
