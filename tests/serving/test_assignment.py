"""A challenger's share: within binomial bounds, the same for equal keys, growing only by adding clients."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.assignment import Assignment
from serving.breaker import Breaker

KEYS = st.binary(min_size=1, max_size=64)
PERCENT = st.floats(0, 100)
NAME = st.text(min_size=1, max_size=20)


@pytest.mark.parametrize("percent", [0.0, 0.1, 1.0, 5.0, 25.0, 50.0, 99.0, 100.0])
@pytest.mark.parametrize("form", ["client-%d", "%08d", "10.0.%d", "user%d@example.org"])
def test_the_share_of_clients_is_what_the_plan_says_within_binomial_bounds(percent: float, form: str) -> None:
    n, share = 20_000, percent / 100
    assignment = Assignment("digits", "2", percent)
    taken = sum(assignment.takes((form % i).encode()) for i in range(n))
    # five standard deviations: a false alarm in three million
    assert abs(taken - n * share) <= 5 * math.sqrt(n * share * (1 - share)) + 1e-9


@given(model=NAME, version=NAME, key=KEYS, low=PERCENT, high=PERCENT)
def test_a_larger_share_keeps_everybody_of_a_smaller_one(
    model: str, version: str, key: bytes, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    if Assignment(model, version, low).takes(key):
        assert Assignment(model, version, high).takes(key)
    assert Assignment(model, version, low).takes(key) == Assignment(model, version, low).takes(key)


@given(key=KEYS)
def test_nobody_is_in_an_empty_share_and_everybody_in_the_whole(key: bytes) -> None:
    assert not Assignment("m", "1", 0.0).takes(key)
    assert Assignment("m", "1", 100.0).takes(key)


def test_who_is_early_for_one_challenger_need_not_be_early_for_the_next() -> None:
    keys = [b"client-%d" % i for i in range(20_000)]
    first, second = Assignment("digits", "2", 10.0), Assignment("digits", "3", 10.0)
    both = sum(first.takes(k) and second.takes(k) for k in keys)
    assert abs(both - 200) <= 5 * math.sqrt(200 * 0.99)
    assert Assignment("digits", "2", 10.0).takes(keys[0]) == first.takes(keys[0])


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.02])
def test_a_challenger_within_the_bound_is_not_taken_out(rate: float) -> None:
    import random

    for seed in range(20):
        rng, breaker = random.Random(seed), Breaker(bound=0.02, patience=1e6)
        assert not any(breaker.note(failed=rng.random() < rate) for _ in range(10_000))


@pytest.mark.parametrize(("rate", "within"), [(1.0, 4), (0.5, 60), (0.3, 150), (0.1, 1500)])
def test_a_failing_challenger_is_taken_out_soon(rate: float, within: int) -> None:
    import random

    for seed in range(50):
        rng, breaker = random.Random(seed), Breaker(bound=0.02, patience=1e6)
        seen = next(i for i in range(within + 1) if breaker.note(failed=rng.random() < rate))
        assert seen < within
        assert breaker.tripped
        assert breaker.failures <= breaker.requests == seen + 1


def test_a_long_good_time_does_not_hide_what_comes_after_it() -> None:
    breaker = Breaker(bound=0.02, patience=1e6)
    assert not any(breaker.note(failed=False) for _ in range(1_000_000))
    assert [breaker.note(failed=True) for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("bound", [0.0, 1.0, -0.1])
def test_a_bound_that_is_none_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Breaker(bound=bound)
