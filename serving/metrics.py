"""Every metric of a replica: the collector that reads the plain counters when somebody asks.

Nothing here runs while requests are answered. Labels come from closed sets: registered models and versions, and enums.
In the OpenMetrics format, buckets of the latency and counts of failures lead to a record (`serving.exemplars`).
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from time import time_ns

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from export.contracts.traffic import ChallengerMode
from monitoring.records.folders import held_bytes
from monitoring.records.record import Outcome
from serving.dataplane import DataPlane
from serving.exemplars import Exemplars, watch
from serving.metric_table import METRICS
from serving.served import VersionState
from serving.stats import LatencyHistogram, VersionStats
from serving.version import LoadedVersion

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LANES = ("fast", "asgi", "none")
GRPC_LANES = ("fast", "grpcio", "none")
BATCH_ROW_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class ReplicaCollector(Collector):
    """Reads the counters of one data plane.

    Args:
        plane: Whose.
        exemplars: Tell a record for each bucket and failure; whoever asks makes the versions look for some.
    """

    def __init__(self, plane: DataPlane, *, exemplars: bool = False) -> None:
        self._plane = plane
        self._exemplars = exemplars

    def collect(self) -> Iterator[Family]:
        """All families, each with all its samples."""
        versions = [v for served in self._plane.pool.models.values() for v in served.loaded()]
        yield from self._requests(versions)
        yield from self._batches(versions)
        yield from self._versions(versions)
        yield from self._challengers()
        yield from self._cache(versions)
        yield from self._process()
        yield from self._capture()

    def _requests(self, versions: Sequence[LoadedVersion]) -> Iterator[Family]:
        requests = _counter("hardcase_requests_total")
        rows = _counter("hardcase_rows_total")
        queue, wait = _gauge("hardcase_queue_rows"), _gauge("hardcase_queue_expected_wait_seconds")
        shed = _counter("hardcase_shed_requests_total")
        limit = _gauge("hardcase_queue_limit_rows")
        known = {v: watch(v, time_ns()) for v in versions} if self._exemplars else {}
        for v in versions:
            for (variant, outcome), count in list(v.stats.requests.items()):
                labels, example = [v.model, v.version, variant, outcome], None
                if v in known and count:
                    example = known[v].refused(variant, outcome)
                requests.add_metric(labels, count, exemplar=example)
            limit.add_metric([v.model, v.version], v.batcher.gate.queue_rows)
            rows.add_metric([v.model, v.version], v.stats.inference_count)
            queue.add_metric([v.model, v.version], v.batcher.waiting_rows)
            wait.add_metric([v.model, v.version], v.batcher.gate.expected_wait_s)
            for reason, count in v.batcher.gate.shed.items():
                shed.add_metric([v.model, v.version, reason], count)
        yield from (requests, rows, queue, limit, wait, shed)
        for part in ("queue", "compute", "total"):
            family = _histogram(f"hardcase_request_{part}_seconds")
            for v in versions:
                histogram: LatencyHistogram = getattr(v.stats, part)
                buckets = _seconds(histogram, known.get(v) if part == "total" else None)
                family.add_metric([v.model, v.version], buckets, histogram.sum_ns / 1e9)
            yield family

    def _batches(self, versions: Sequence[LoadedVersion]) -> Iterator[Family]:
        rows, release = _histogram("hardcase_batch_rows"), _counter("hardcase_batch_release_total")
        for v in versions:
            buckets, total = _batch_rows(v.stats)
            rows.add_metric([v.model, v.version], buckets, total)
            for reason, count in v.stats.release.items():
                release.add_metric([v.model, v.version, reason], count)
        yield from (rows, release)

    def _versions(self, versions: Sequence[LoadedVersion]) -> Iterator[Family]:
        pool = self._plane.pool
        state, info = _gauge("hardcase_version_state"), _gauge("hardcase_version_info")
        batch = _gauge("hardcase_version_batch_seconds")
        for status in pool.index():
            for candidate in VersionState:
                state.add_metric([status.name, status.version, candidate], status.state is candidate)
        for v in versions:
            info.add_metric([v.model, v.version, v.runtime.kind, v.runtime.device, v.runtime.provider], 1)
            if v.batch_us < float("inf"):
                batch.add_metric([v.model, v.version], v.batch_us / 1e6)
        revision, behind = _gauge("hardcase_plan_revision"), _gauge("hardcase_champion_behind")
        for served in pool.models.values():
            if served.plan is not None:
                revision.add_metric([served.name], served.plan.revision)
                behind.add_metric([served.name], served.behind)
        ready = _gauge("hardcase_ready")
        ready.add_metric([], pool.ready())
        yield from (state, info, batch, revision, behind, ready)

    def _challengers(self) -> Iterator[Family]:
        duty, tripped = _gauge("hardcase_challenger_on_duty"), _gauge("hardcase_challenger_tripped")
        fallbacks, offered = _counter("hardcase_canary_fallbacks_total"), _counter("hardcase_shadow_requests_total")
        waiting, rows = _gauge("hardcase_shadow_waiting_requests"), _counter("hardcase_shadow_rows_total")
        different = _counter("hardcase_shadow_different_rows_total")
        largest, passes = _gauge("hardcase_shadow_max_abs_difference"), _counter("hardcase_shadow_passes_total")
        for served in self._plane.pool.models.values():
            known = served.evidence
            if known is None:
                continue
            name = [served.name, known.challenger]
            shadow = known.mode is ChallengerMode.SHADOW
            duty.add_metric([*name, known.mode], (served.shadow if shadow else served.canary) is not None)
            tripped.add_metric(name, bool(known.tripped))
            if not shadow:
                for reason, count in known.fallbacks.items():
                    fallbacks.add_metric([*name, reason], count)
                continue
            for result, count in known.shadow.items():
                offered.add_metric([*name, result], count)
            for difference, count in known.different.items():
                different.add_metric([*name, difference], count)
            waiting.add_metric(name, known.waiting)
            rows.add_metric(name, known.rows)
            largest.add_metric(name, known.max_abs_difference)
            passes.add_metric([*name, "yes"], known.slower_passes)
            passes.add_metric([*name, "no"], known.passes - known.slower_passes)
        yield from (duty, tripped, fallbacks, offered, waiting, rows, different, largest, passes)

    def _cache(self, versions: Sequence[LoadedVersion]) -> Iterator[Family]:
        lookups, held = _counter("hardcase_cache_lookups_total"), _gauge("hardcase_cache_bytes")
        for v in versions:
            if v.cache is not None:
                lookups.add_metric([v.model, v.version, "hit"], v.cache.hits)
                lookups.add_metric([v.model, v.version, "miss"], v.cache.misses)
                held.add_metric([v.model, v.version], v.cache.nbytes)
        missed = _counter("hardcase_observer_dropped_total")
        for name, observer in self._plane.observers.items():
            missed.add_metric([name], observer.dropped)
        yield from (lookups, held, missed)

    def _process(self) -> Iterator[Family]:
        stats = self._plane.stats
        unrouted, lane = _counter("hardcase_unrouted_requests_total"), _gauge("hardcase_lane")
        for outcome in Outcome:
            unrouted.add_metric([outcome], stats.unrouted.get(outcome, 0))
        for name in LANES:
            lane.add_metric([name], stats.lane == name)
        grpc_lane = _gauge("hardcase_grpc_lane")
        for name in GRPC_LANES:
            grpc_lane.add_metric([name], stats.grpc_lane == name)
        build = _gauge("hardcase_build_info")
        build.add_metric([importlib.metadata.version("hardcase"), platform.python_version()], 1)
        yield from (unrouted, lane, grpc_lane, build)
        yield _single(_counter("hardcase_unauthenticated_requests_total"), stats.unauthenticated)
        yield _single(_counter("hardcase_cpu_fallbacks_total"), stats.cpu_fallbacks)
        yield _single(_gauge("hardcase_in_flight_requests"), stats.in_flight)
        yield _single(_gauge("hardcase_connections"), stats.connections)

    def _capture(self) -> Iterator[Family]:
        requests, records = _counter("hardcase_capture_requests_total"), _counter("hardcase_capture_records_total")
        writer = self._plane.writer
        for (model, version), account in writer.accounting().items() if writer is not None else ():
            requests.add_metric([model, version], account.requests)
            records.add_metric([model, version, "captured"], account.captured)
            records.add_metric([model, version, "sampled_out"], account.sampled_out)
            for reason, count in account.dropped.items():
                records.add_metric([model, version, f"dropped_{reason}"], count)
        yield from (requests, records)
        held, quota = _gauge("hardcase_capture_held_bytes"), _gauge("hardcase_capture_quota_bytes")
        capture = self._plane.options.capture
        if writer is not None and capture is not None:
            held.add_metric([], held_bytes(writer.directory))
            quota.add_metric([], capture.quota_bytes)
        yield from (held, quota)


def render(plane: DataPlane, accept: bytes | None = None) -> tuple[bytes, str]:
    """The metrics of this process, and their content type.

    Args:
        plane: Whose.
        accept: The request's header; whoever takes OpenMetrics gets exemplars, everybody else Prometheus' text format.
    """
    modern = b"application/openmetrics-text" in (accept or b"")
    registry = CollectorRegistry()
    registry.register(ReplicaCollector(plane, exemplars=modern))
    ProcessCollector(registry=registry)
    if modern:
        text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]  # the library gives none
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE


def _counter(name: str) -> CounterMetricFamily:
    spec = METRICS[name]
    return CounterMetricFamily(spec.name.removesuffix("_total"), spec.help, labels=spec.labels)


def _gauge(name: str) -> GaugeMetricFamily:
    spec = METRICS[name]
    return GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)


def _histogram(name: str) -> HistogramMetricFamily:
    spec = METRICS[name]
    return HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)


def _single(family: CounterMetricFamily | GaugeMetricFamily, value: float) -> Family:
    family.add_metric([], value)
    return family


def _seconds(
    histogram: LatencyHistogram, exemplars: Exemplars | None
) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Cumulative buckets with bounds in seconds."""
    bounds = [repr(ns / 1e9) for ns in histogram.bounds_ns] + ["+Inf"]
    counts = _cumulative(histogram.counts)
    known = exemplars.buckets if exemplars is not None else (None,) * len(bounds)
    return [(b, n) if e is None else (b, n, e) for b, n, e in zip(bounds, counts, known, strict=True)]


def _batch_rows(stats: VersionStats) -> tuple[list[tuple[str, float]], int]:
    """Cumulative buckets of batch sizes, and the rows of all batches."""
    counts = [0] * (len(BATCH_ROW_BOUNDS) + 1)
    total = 0
    for rows, cost in list(stats.batch_sizes.items()):
        counts[sum(rows > bound for bound in BATCH_ROW_BOUNDS)] += cost.count
        total += rows * cost.count
    bounds = [str(float(bound)) for bound in BATCH_ROW_BOUNDS] + ["+Inf"]
    return list(zip(bounds, _cumulative(counts), strict=True)), total


def _cumulative(counts: Sequence[int]) -> list[float]:
    sums: list[float] = []
    for count in counts:
        sums.append(count + (sums[-1] if sums else 0))
    return sums
