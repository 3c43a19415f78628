"""How many replicas a pool gets: the decision by its properties, the meter, the policy as Ray calls it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.autoscaling import Autoscaling, LoadMeter, Policy, ReplicaLoad, desired_replicas

shares = st.floats(0, 1)
waits = st.floats(0, 10_000)


@st.composite
def settings(draw: Any) -> Autoscaling:
    lowest = draw(st.integers(1, 20))
    return Autoscaling(
        min_replicas=lowest,
        max_replicas=draw(st.integers(lowest, 60)),
        target_utilisation=draw(st.floats(0.05, 0.9)),
        target_queue_ms=draw(st.floats(1, 1000)),
    )


def same(count: int, utilisation: float, queue_ms: float = 0.0) -> list[ReplicaLoad]:
    return [ReplicaLoad(utilisation=utilisation, queue_ms=queue_ms)] * count


@given(settings(), st.integers(0, 100), shares, waits)
def test_the_number_is_always_within_its_bounds(options: Autoscaling, current: int, busy: float, wait: float):
    found = desired_replicas(current, same(max(current, 1), busy, wait), options)
    assert options.min_replicas <= found <= options.max_replicas


@given(settings(), st.integers(1, 60), shares, shares, waits, waits)
def test_more_work_or_longer_waiting_never_asks_for_fewer(
    options: Autoscaling, current: int, one: float, other: float, wait: float, longer: float
):
    low, high = sorted((one, other))
    short, long = sorted((wait, longer))
    calm = desired_replicas(current, same(current, low, short), options)
    assert desired_replicas(current, same(current, high, short), options) >= calm
    assert desired_replicas(current, same(current, low, long), options) >= min(calm, current) or calm > current


@given(settings(), st.integers(1, 60), st.floats(0, 40))
def test_a_steady_load_is_met_by_a_number_that_then_stays(options: Autoscaling, current: int, work: float):
    """Work that keeps `work` replicas fully busy: a few decisions settle, and the settled number is enough."""
    seen = [current]
    for _ in range(60):
        seen.append(desired_replicas(seen[-1], same(seen[-1], min(1.0, work / seen[-1])), options))
    assert seen[-1] == seen[-2], seen
    if seen[-1] < options.max_replicas:
        assert work / seen[-1] <= options.target_utilisation * 1.1 + 1e-9


def test_replicas_that_have_not_reported_are_not_idle():
    options = Autoscaling(min_replicas=1, max_replicas=9)
    assert desired_replicas(5, [], options) == 5


def test_waiting_alone_doubles_at_most():
    options = Autoscaling(min_replicas=1, max_replicas=99, target_queue_ms=10)
    assert desired_replicas(4, same(4, 0.3, 10_000), options) == 8


@pytest.mark.parametrize("wrong", [{"min_replicas": 0}, {"min_replicas": 3}, {"target_utilisation": 1.0}])
def test_bounds_that_contradict_each_other_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="autoscaling needs"):
        Autoscaling(**{"min_replicas": 1, "max_replicas": 2, **wrong})


@dataclass
class Version:
    """What the meter asks of a loaded version."""

    batcher: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(busy_since_ns=0))
    stats: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(queue_ns=0, success_count=0))


def test_the_meter_measures_waiting_and_the_time_that_batches_took_since_its_last_reading():
    meter, version = LoadMeter(), Version()
    meter.read([(version, 0)])
    time.sleep(0.1)
    version.stats = SimpleNamespace(queue_ns=40_000_000, success_count=4)
    load = meter.read([(version, 50_000_000)])  # 50 ms of batches in a bit more than 100 ms
    assert load.queue_ms == pytest.approx(10)
    assert 0.1 < load.utilisation <= 0.5
    time.sleep(0.05)
    assert meter.read([(version, 50_000_000)]).queue_ms == 0


def test_the_meter_sees_a_batch_that_is_still_running_and_counts_it_once():
    meter, version = LoadMeter(), Version()
    meter.read([(version, 0)])
    version.batcher.busy_since_ns = time.perf_counter_ns()
    time.sleep(0.06)
    assert meter.read([(version, 0)]).utilisation > 0.8
    version.batcher.busy_since_ns = 0
    time.sleep(0.06)
    assert meter.read([(version, 60_000_000)]).utilisation < 0.4


def test_a_loop_that_computes_is_busy_without_any_batch():
    meter = LoadMeter()
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    assert meter.read([]).utilisation > 0.2


def context(current: int, busy: dict[str, float], waiting: dict[str, float]) -> Any:
    metrics = {"utilisation": busy, "queue_ms": waiting}
    return SimpleNamespace(current_num_replicas=current, target_num_replicas=current, aggregated_metrics=metrics)


def test_the_policy_reads_what_replicas_report():
    policy = Policy(min_replicas=1, max_replicas=8, target_utilisation=0.5, target_queue_ms=50.0)
    assert policy(context(2, {"a": 1.0, "b": 1.0}, {"a": 1.0})) == (4, {})
    assert policy(context(2, {"a": 0.1, "b": 0.1}, {})) == (1, {})
    assert policy(context(3, {}, {})) == (3, {})
