"""Distances agree with independent implementations, thresholds hold by chance, classic mistakes are not made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats as oracle
from scipy.spatial.distance import jensenshannon

from monitoring.baseline import BINS, Baseline, bin_column, compile_baseline
from monitoring.batches import Batch
from monitoring.distances import (
    decile_groups,
    jensen_shannon,
    jensen_shannon_chance,
    kolmogorov_smirnov,
    ks_chance,
    psi,
    psi_chance,
    wasserstein,
    wasserstein_chance,
)
from monitoring.drift import Method, Signal, SignalState, signals
from monitoring.options import CaseOptions, DriftOptions
from monitoring.records.record import Outcome
from monitoring.scores import score_batch
from monitoring.windows import WindowStats, count_values, sum_features
from tests.support import monitor_world as w

Array = np.ndarray


def window(images: Array, baseline: Baseline | None = None) -> WindowStats:
    """Statistics of one window of answers to these images."""
    baseline = baseline or w.baseline()
    answer, n = w.digits().answer(images), len(images)
    numbers = np.zeros(n, dtype=np.int64)
    batch = Batch(
        model="digits",
        version="1",
        digest="",
        variant="champion",
        outcome=Outcome.OK,
        pieces=[],
        ids=[str(i) for i in range(n)],
        time_ns=numbers,
        rows=numbers + 1,
        queue_us=numbers,
        compute_us=numbers,
        total_us=numbers,
        probability=np.ones(n),
        row_record=np.arange(n),
        inputs={"x": images},
        outputs=answer,
    )
    scored = score_batch(baseline, batch, CaseOptions())
    assert scored.features is not None
    total, rows = sum_features(scored.features)
    return dataclasses.replace(
        WindowStats.empty(baseline),
        **count_values(baseline, scored.values),
        predicted=np.bincount(scored.predicted[scored.predicted >= 0], minlength=10),
        features=total,
        feature_rows=np.array([rows]),
    )


def by_name(found: tuple[Signal, ...]) -> dict[tuple[str, str], Signal]:
    return {(s.method.value, s.subject): s for s in found}


def quantile_bins(reference: Array) -> tuple[Array, Array]:
    edges = np.empty(BINS - 1, dtype=np.float32)
    edges[:-1] = np.quantile(reference, np.linspace(0, 1, BINS - 2)).astype(np.float32)
    edges[-1] = np.nextafter(edges[-2], np.float32(np.inf))
    return edges, np.bincount(bin_column(edges, reference), minlength=BINS)


def test_an_empty_bin_does_not_make_psi_explode() -> None:
    """The field's classic: an empty bin replaced by 2e-308 gives PSI = 135."""
    assert psi(np.array([0, 0, 0, 1000]), np.array([250, 250, 250, 250])) < 6.0
    assert psi(np.array([0, 1000]), np.array([1000, 0])) < 16.0


def test_psi_of_equal_shares_is_near_zero_whatever_the_sizes() -> None:
    assert psi(np.array([10, 20, 30]), np.array([1000, 2000, 3000])) < 0.01


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0, -5.0])
def test_wasserstein_agrees_with_scipy_inside_and_outside_the_reference_range(shift: float) -> None:
    rng = np.random.default_rng(3)
    reference, live = rng.normal(size=4000), rng.normal(shift, 1.3, size=3000)
    edges, counts = quantile_bins(reference)
    live_counts = np.bincount(bin_column(edges, live), minlength=BINS)
    low, high = float(edges[0]), float(edges[-2])
    below = round(np.clip(low - live, 0, None).sum() * (1 << 20))
    above = round(np.clip(live - high, 0, None).sum() * (1 << 20))
    got = wasserstein(live_counts, counts, edges, 1.0, below, above)
    assert got == pytest.approx(oracle.wasserstein_distance(live, reference), rel=0.04, abs=0.02)


def test_ks_agrees_with_scipy() -> None:
    rng = np.random.default_rng(4)
    reference, live = rng.normal(size=4000), rng.normal(0.4, 1.0, size=1000)
    edges, counts = quantile_bins(reference)
    got = kolmogorov_smirnov(np.bincount(bin_column(edges, live), minlength=BINS), counts)
    assert got == pytest.approx(oracle.ks_2samp(live, reference).statistic, abs=0.012)


def test_jensen_shannon_agrees_with_scipy_and_is_bounded() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 50, 10), rng.integers(1, 50, 10)
    assert jensen_shannon(a, b) == pytest.approx(jensenshannon(a / a.sum(), b / b.sum()))
    assert jensen_shannon(np.array([5, 0]), np.array([0, 9])) == pytest.approx(np.sqrt(np.log(2)))


@pytest.mark.parametrize("rows", [100, 1000, 20_000])
@pytest.mark.parametrize("skewed", [False, True])
def test_by_chance_each_threshold_is_exceeded_about_as_often_as_it_says(rows: int, skewed: bool) -> None:
    rng, alpha, trials, known = np.random.default_rng(rows + skewed), 0.05, 120, 1000
    draw = (lambda n: rng.exponential(size=n).round(1)) if skewed else (lambda n: rng.normal(size=n))
    exceeded = dict.fromkeys(("psi", "ks", "wasserstein", "jensen_shannon"), 0)
    shares = rng.dirichlet(np.ones(10) * 5)
    for _ in range(trials):
        edges, reference = quantile_bins(draw(known))
        x = draw(rows)
        live = np.bincount(bin_column(edges, x), minlength=BINS)
        groups = decile_groups(reference)
        k = int(groups.max()) + 1
        a, b = (np.bincount(groups, weights=h, minlength=k) for h in (live, reference))
        out = [np.clip(float(edges[0]) - x, 0, None).sum(), np.clip(x - float(edges[-2]), 0, None).sum()]
        far = wasserstein(live, reference, edges, 1.0, *(round(o * (1 << 20)) for o in out))
        exceeded["psi"] += psi(a, b) > psi_chance(k, rows, known, alpha)
        exceeded["ks"] += kolmogorov_smirnov(live, reference) > ks_chance(rows, known, alpha)
        exceeded["wasserstein"] += far > wasserstein_chance(reference, edges, 1.0, rows, alpha)
        p, q = rng.multinomial(rows, shares), rng.multinomial(known, shares)
        exceeded["jensen_shannon"] += jensen_shannon(p, q) > jensen_shannon_chance((100,) * 10, rows, alpha)
    for name, count in exceeded.items():
        assert count / trials <= 2.2 * alpha, (name, count)


def test_a_healthy_window_exceeds_next_to_nothing_and_a_shifted_one_nearly_everything() -> None:
    images = w.digits().images
    healthy = signals(w.baseline(), window(images), DriftOptions())
    shifted = signals(w.baseline(), window(w.turned(images)), DriftOptions())
    assert sum(s.exceeded for s in healthy) <= 1
    assert sum(s.exceeded for s in shifted) >= 15
    assert {s.method for s in shifted if s.exceeded} == set(Method) - {Method.SHARE}
    assert all(s.threshold_source for s in shifted)


def test_too_few_rows_are_not_enough_data_rather_than_no_drift() -> None:
    found = signals(w.baseline(), window(w.turned(w.digits().images[:30])), DriftOptions(min_rows=100))
    assert {s.state for s in found} == {SignalState.NOT_ENOUGH_DATA}
    assert not any(s.exceeded for s in found)
    assert all(s.value is None and s.threshold is None for s in found)
    assert len(found) == len(signals(w.baseline(), window(w.digits().images), DriftOptions()))


def test_nan_inputs_show_as_drift_of_not_finite_and_nowhere_as_nan() -> None:
    images = w.digits().images.copy()
    images[::3, 0, 0, 0] = np.nan
    found = by_name(signals(w.baseline(), window(images), DriftOptions()))
    assert found["psi", "x:not_finite"].exceeded
    assert all(s.value is None or np.isfinite(s.value) for s in found.values())


def test_a_constant_of_the_reference_that_moves_is_seen() -> None:
    images = np.clip(w.digits().images + 0.2, 0, 1)  # every corner pixel, and the minimum, was always 0
    found = by_name(signals(w.baseline(), window(images), DriftOptions()))
    assert found["psi", "x:min"].exceeded
    assert found["wasserstein", "x:min"].exceeded
    assert found["ks", "x[*]"].exceeded


def test_without_a_profile_the_answer_is_no_reference() -> None:
    bare = compile_baseline(w.manifest(), None)
    (only,) = signals(bare, WindowStats.empty(bare), DriftOptions())
    assert only.state is SignalState.NO_REFERENCE
