"""Window statistics merge exactly, in any order, and survive storage; the sample is uniform and order-free."""

from __future__ import annotations

import dataclasses
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.baseline import compile_baseline
from monitoring.samples import WindowSample
from monitoring.window_rows import window_start
from monitoring.windows import LATENCY_BINS, WindowStats, count_latency, count_values, sum_features
from tests.support import monitor_world as w

FIELDS = [f.name for f in dataclasses.fields(WindowStats)]


def stats_of(values: np.ndarray, features: np.ndarray) -> WindowStats:
    total, rows = sum_features(features)
    counted = count_values(w.baseline(), values)
    return dataclasses.replace(
        WindowStats.empty(w.baseline()), **counted, features=total, feature_rows=np.array([rows], dtype=np.int64)
    )


def same(a: WindowStats, b: WindowStats) -> bool:
    return a.encode() == b.encode()


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_cut_and_order_of_the_rows_gives_the_same_bytes(seed: int, cuts: list[int]) -> None:
    rng, q = np.random.default_rng(seed), len(w.baseline().quantities)
    values = (rng.normal(size=(60, q)) * rng.choice([0.1, 1, 1e6], size=(1, q))).astype(np.float32)
    values[rng.random(values.shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
    features = rng.uniform(-1, 1, (60, w.baseline().embedding_size))
    order = rng.permutation(60)
    edges = sorted({0, 60, *cuts})
    parts = [stats_of(values[order[a:b]], features[order[a:b]]) for a, b in pairwise(edges)]
    rng.shuffle(parts)
    merged = reduce(WindowStats.merge, parts, WindowStats.empty(w.baseline()))
    assert same(merged, stats_of(values, features))
    assert same(WindowStats.decode(merged.encode()), merged)


def test_not_finite_values_are_counted_apart() -> None:
    values = np.zeros((4, len(w.baseline().quantities)), dtype=np.float32)
    values[:3, 0] = [np.nan, np.inf, -np.inf]
    counted = count_values(w.baseline(), values)
    assert counted["not_finite"][0] == 3
    assert counted["counts"][0].sum() == 1
    assert counted["below"].sum() >= 0


def test_an_absurd_value_is_capped_and_cannot_overflow() -> None:
    values = np.full((1000, len(w.baseline().quantities)), 3e38, dtype=np.float32)
    assert (count_values(w.baseline(), values)["above"] > 0).all()


def test_windows_counted_by_different_baselines_keep_one_and_say_what_was_left_out() -> None:
    other = compile_baseline(w.manifest(), None)
    counted = count_values(other, np.zeros((5, len(other.quantities)), dtype=np.float32))
    a = dataclasses.replace(WindowStats.empty(other), **counted)
    b = WindowStats.empty(w.baseline())
    assert same(a.merge(b), b.merge(a))
    assert a.merge(b).unbinned[0] in {0, 5}


@pytest.mark.parametrize("level", [0.5, 0.99])
def test_latency_quantiles_are_within_five_percent(level: float) -> None:
    us = np.exp(np.random.default_rng(1).normal(7, 1.5, 5000)).astype(np.int64)
    stats = dataclasses.replace(WindowStats.empty(w.baseline()), latency=count_latency((us, us, us)))
    assert stats.latency_quantile_us("total", level) == pytest.approx(float(np.quantile(us, level)), rel=0.05)


def test_latency_of_zero_and_of_an_hour_have_a_bucket() -> None:
    us = np.array([0, 1, 3_600_000_000])
    assert count_latency((us, us, us)).sum() == 9
    assert count_latency((us, us, us)).shape == (3, LATENCY_BINS)


def test_without_requests_there_is_no_quantile_and_no_mean() -> None:
    empty = WindowStats.empty(w.baseline())
    assert empty.latency_quantile_us("total", 0.5) is None
    assert empty.feature_mean() is None


@pytest.mark.parametrize(("time_s", "start"), [(0.0, 0), (59.999, 0), (60.0, 60), (-0.5, -60)])
def test_a_window_holds_its_start_and_not_its_end(time_s: float, start: int) -> None:
    assert window_start(int(time_s * 1e9), 60) == start


@given(seed=st.integers(0, 1000), cut=st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_the_sample_of_a_window_does_not_depend_on_order(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    lots, predicted = np.round(rng.random(200), 2), rng.integers(0, 10, 200)
    values = rng.normal(size=(200, 3)).astype(np.float32)

    def draw(rows: np.ndarray) -> WindowSample:
        return WindowSample.draw(30, ("a", "b", "c"), lots[rows], predicted[rows], values[rows])

    order = rng.permutation(200)
    whole, merged = draw(np.arange(200)), draw(order[cut:]).merge(draw(order[:cut]))
    assert merged.encode() == whole.encode()
    assert WindowSample.decode(whole.encode()).encode() == whole.encode()
    assert whole.lots.max() <= np.sort(lots)[29]
