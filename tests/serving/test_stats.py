"""The plain counters: bucket edges, sums per request, and what one batch adds."""

from __future__ import annotations

import random

import pytest

from export.contracts.traffic import Variant
from monitoring.records.record import Outcome
from serving.latency_bounds import LATENCY_BOUNDS_NS
from serving.stats import LatencyHistogram, ReleaseReason, VersionStats


def test_a_value_on_a_bound_counts_below_it_as_prometheus_defines_le() -> None:
    histogram = LatencyHistogram((10, 20))
    for value in (0, 10, 11, 20, 21):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert (histogram.sum_ns, histogram.count) == (62, 5)


def test_observing_many_equals_observing_each() -> None:
    values = [random.randrange(1, 10**11) for _ in range(500)]
    one, many = LatencyHistogram(), LatencyHistogram()
    for value in values:
        one.observe(value)
    many.observe_many(values)
    assert one.counts == many.counts
    assert one.sum_ns == many.sum_ns == sum(values)


@pytest.mark.parametrize("bounds", [(), (2, 1), (1, 1)])
def test_bounds_that_do_not_rise_are_refused(bounds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rise strictly"):
        LatencyHistogram(bounds)


def test_the_default_bounds_rise_from_ten_microseconds_to_the_largest_time_limit() -> None:
    assert LATENCY_BOUNDS_NS[0] == 10_000
    assert LATENCY_BOUNDS_NS[-1] == 60 * 10**9
    assert list(LATENCY_BOUNDS_NS) == sorted(set(LATENCY_BOUNDS_NS))


def test_a_batch_counts_its_time_once_per_request_and_its_rows_once() -> None:
    stats = VersionStats()
    stats.executed(7, ReleaseReason.FREE, 1, 20, 3)
    stats.succeeded(Variant.CHAMPION, 7, [5, 6, 7], [50, 60, 70], input_ns=1, infer_ns=20, output_ns=3, now_ms=123)
    stats.refused(Variant.CHAMPION, Outcome.DEADLINE, 900)
    assert stats.requests == {(Variant.CHAMPION, Outcome.OK): 3, (Variant.CHAMPION, Outcome.DEADLINE): 1}
    assert (stats.success_count, stats.success_ns, stats.queue_ns) == (3, 180, 18)
    assert (stats.compute_input_ns, stats.compute_infer_ns, stats.compute_output_ns) == (3, 60, 9)
    assert stats.compute.sum_ns == 3 * 24
    assert stats.compute.count == stats.total.count == stats.queue.count == 3
    assert (stats.fail_count, stats.fail_ns) == (1, 900)
    assert (stats.inference_count, stats.execution_count, stats.last_inference_ms) == (7, 1, 123)
    assert stats.batch_sizes[7].infer_ns == 20
    assert stats.release[ReleaseReason.FREE] == 1
