"""The search against servers that are formulas: it finds what is best, stops in time, and is not fooled by noise."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.loadtest.orders import Mode
from deploy.loadtest.results import Goal, Latency, Level
from deploy.tune.search import Bounds, Candidate, Search, Trial, is_better, most_callers

GOAL = Goal(percentile=99.0, limit_us=20_000.0)


def level(throughput: float, p99_us: float, *, mode: Mode = Mode.CONCURRENCY, value: float = 8) -> Level:
    latency = Latency(count=1000, mean_us=p99_us / 2, p50_us=p99_us / 2, p99_us=p99_us, max_us=p99_us)
    return Level(
        mode=mode, value=value, stable=True, seconds=1, throughput=throughput, rows_per_s=throughput, latency=latency
    )


def trial(throughput: float, p99_us: float, rows: int = 8, threads: int = 1, instances: int = 1) -> Trial:
    candidate = Candidate(max_batch_rows=rows, intra_op_threads=threads, instances=instances)
    return Trial(candidate=candidate, level=level(throughput, p99_us), within=p99_us <= GOAL.limit_us)


def searched(speed: Callable[[Candidate], Trial], *, rows: int = 256, cores: int = 8, most: int = 1000) -> Search:
    async def measure(candidate: Candidate) -> Trial:
        return speed(candidate)

    search = Search(
        bounds=Bounds(most_rows=rows, cores=cores),
        mode=Mode.CONCURRENCY,
        goal=GOAL,
        measure=measure,
        time_left=lambda: len(search.trials) < most,
    )
    asyncio.run(search.run())
    return search


@given(
    best_rows=st.sampled_from([1, 4, 16, 64, 256]),
    threads=st.sampled_from([1, 2, 4, 8]),
    instances=st.sampled_from([1, 2, 4, 8]),
)
@settings(max_examples=60, deadline=None)
def test_a_single_peak_is_found_wherever_it_is(best_rows: int, threads: int, instances: int):
    def speed(c: Candidate) -> Trial:
        distance = (
            abs(math.log2(c.max_batch_rows / best_rows))
            + abs(math.log2(c.intra_op_threads / threads))
            + abs(math.log2(c.instances / instances))
        )
        return trial(10_000 / (1 + 0.1 * distance), 5_000, c.max_batch_rows, c.intra_op_threads, c.instances)

    if threads * instances > 8:
        return
    best = searched(speed).best
    assert best is not None
    found = best.candidate
    assert (found.max_batch_rows, found.intra_op_threads, found.instances) == (best_rows, threads, instances)


def test_more_threads_that_bring_nothing_are_not_taken():
    def speed(c: Candidate) -> Trial:
        return trial(1000 + c.cost, 5_000, c.max_batch_rows, c.intra_op_threads, c.instances)

    best = searched(speed).best
    assert best is not None
    assert best.candidate.cost == 1


def test_the_target_comes_before_the_throughput():
    def speed(c: Candidate) -> Trial:
        return trial(100.0 * c.max_batch_rows, 1_000.0 * c.max_batch_rows, c.max_batch_rows)

    best = searched(speed).best
    assert best is not None
    assert best.within
    assert best.candidate.max_batch_rows == 16, "32 would take 32 ms"


def test_when_nothing_keeps_the_target_the_nearest_is_shown():
    search = searched(lambda c: trial(1000, 30_000 + c.max_batch_rows, c.max_batch_rows))
    assert search.best is not None
    assert not search.best.within


def test_settings_that_do_not_load_are_passed_over():
    def speed(c: Candidate) -> Trial:
        if c.max_batch_rows > 16:
            return Trial(candidate=c, level=None, within=False, why="out of memory")
        return trial(1000, 5_000, c.max_batch_rows)

    best = searched(speed).best
    assert best is not None
    assert best.candidate.max_batch_rows == 16
    assert searched(lambda c: Trial(candidate=c, level=None, within=False, why="no")).best is None


@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_budget_is_kept_but_for_the_first(most: int):
    assert len(searched(lambda c: trial(c.max_batch_rows, 5), most=most).trials) == max(1, most)


def test_no_candidate_is_measured_twice_and_none_needs_more_cores_than_there_are():
    search = searched(lambda c: trial(1000.0 * c.cost, 5_000, c.max_batch_rows, c.intra_op_threads, c.instances))
    tried = [t.candidate for t in search.trials]
    assert len(set(tried)) == len(tried)
    assert max(c.cost for c in tried) == 8
    alone = searched(lambda c: trial(1, 5, c.max_batch_rows), rows=1, cores=1)
    assert [t.candidate for t in alone.trials] == [Candidate(max_batch_rows=1, intra_op_threads=1, instances=1)]


def test_of_two_open_loops_the_one_with_less_latency_wins():
    slow, fast = trial(500, 10_000), trial(499, 5_000)
    assert is_better(fast, slow, Mode.RATE, GOAL)
    assert not is_better(fast, slow, Mode.CONCURRENCY, GOAL)
    assert is_better(trial(100, 19_000), trial(900, 21_000), Mode.RATE, GOAL)


@given(capacity=st.integers(1, 600), start=st.sampled_from([1, 4, 16, 64, 256]))
@settings(max_examples=100, deadline=None)
def test_callers_go_up_until_the_target_and_not_past_it(capacity: int, start: int):
    """A server on which each caller adds its share of the latency: `capacity` callers are exactly within."""
    asked: list[int] = []

    async def measure(callers: int) -> Level:
        asked.append(callers)
        return level(100.0 * callers, GOAL.limit_us * callers / capacity, value=callers)

    found, within = asyncio.run(most_callers(measure, GOAL, start=start, time_left=lambda: True))
    assert within
    assert found.value <= capacity
    assert found.value >= min(capacity, 512) / 4
    assert len(asked) <= 8


def test_callers_stop_where_more_bring_nothing():
    async def measure(callers: int) -> Level:
        return level(min(100.0 * callers, 1000.0), 100.0 * callers, value=callers)

    found, _ = asyncio.run(most_callers(measure, GOAL, start=4, time_left=lambda: True))
    assert found.value <= 64
    assert found.throughput == 1000


def test_a_server_that_never_keeps_the_target_is_asked_down_to_one_caller():
    asked: list[int] = []

    async def measure(callers: int) -> Level:
        asked.append(callers)
        return level(10, 1e6, value=callers)

    found, within = asyncio.run(most_callers(measure, GOAL, start=64, time_left=lambda: True))
    assert (found.value, within) == (1, False)
    assert asked == [64, 16, 4, 1]
