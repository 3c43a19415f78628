"""The gate's tests against enumeration, simulation and published figures."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.gate import paired
from monitoring.gate.paired import Paired


@given(st.integers(0, 12), st.integers(0, 12))
def test_the_exact_test_is_the_enumeration_of_all_signs(gains: int, losses: int) -> None:
    m = gains + losses
    at_least = sum(math.comb(m, k) for k in range(gains, m + 1)) / 2**m
    assert paired.better_p(Paired(n=m + 3, gains=gains, losses=losses)) == pytest.approx(at_least)


def test_equal_versions_pass_at_most_alpha_of_the_time_whatever_they_change() -> None:
    for n, changed in itertools.product((60, 400), (0.02, 0.1, 0.5)):
        for alpha in (0.01, 0.05):
            assert paired.power(n, changed, 0.0, alpha) <= alpha


def test_power_is_what_a_simulation_finds() -> None:
    rng, n, changed, effect, alpha = np.random.default_rng(5), 900, 0.08, 0.03, 0.01
    many = rng.binomial(n, changed, 20_000)
    gains = rng.binomial(many, (changed + effect) / (2 * changed))
    seen = float(np.mean(stats.binom.sf(gains - 1, many, 0.5) <= alpha))
    assert paired.power(n, changed, effect, alpha) == pytest.approx(seen, abs=4 * math.sqrt(0.25 / 20_000))


@pytest.mark.parametrize(("changed", "effect"), [(0.05, 0.01), (0.05, 0.02), (0.1, 0.02), (0.2, 0.05)])
def test_labels_needed_are_within_a_tenth_of_the_limit(changed: float, effect: float) -> None:
    z = stats.norm.isf(0.01) + stats.norm.isf(0.1)
    limit = z**2 * changed / effect**2
    needed = paired.labels_needed(changed, effect, 0.01, 0.9)
    assert needed is not None
    assert needed <= 1.1 * limit
    assert paired.power(needed, changed, effect, 0.01) >= 0.9


def test_no_number_of_labels_shows_a_gain_of_nothing() -> None:
    assert paired.labels_needed(0.05, 0.0, 0.01) is None


@pytest.mark.parametrize("truth", [-0.05, 0.0, 0.08])
def test_the_interval_holds_the_truth_as_often_as_it_says(truth: float) -> None:
    rng, n, changed = np.random.default_rng(11), 120, 0.15
    held = 0
    for _ in range(1_500):
        gains, losses, _rest = rng.multinomial(n, [(changed + truth) / 2, (changed - truth) / 2, 1 - changed])
        low, high = paired.interval(Paired(n=n, gains=int(gains), losses=int(losses)), 0.95)
        held += low <= truth <= high
    assert 0.935 <= held / 1_500 <= 0.975


def test_a_version_at_the_margin_is_let_through_at_most_alpha_of_the_time() -> None:
    rng, n, margin, changed = np.random.default_rng(2), 400, 0.05, 0.11
    passed = 0
    for _ in range(4_000):
        gains, losses, _rest = rng.multinomial(n, [(changed - margin) / 2, (changed + margin) / 2, 1 - changed])
        passed += paired.inferior_p(Paired(n=n, gains=int(gains), losses=int(losses)), margin) <= 0.05
    assert passed / 4_000 <= 0.06


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = paired.holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    assert all(
        adjusted[i] <= adjusted[j]
        for i, j in itertools.permutations(range(len(p_values)), 2)
        if p_values[i] <= p_values[j]
    )
    assert max(adjusted) <= 1
    assert min(adjusted) == pytest.approx(min(1.0, len(p_values) * min(p_values)))


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Paired(n=3, gains=2, losses=2)


def test_without_inputs_nothing_is_proven() -> None:
    nothing = Paired(n=0, gains=0, losses=0)
    assert paired.better_p(nothing) == 1.0
    assert paired.inferior_p(nothing, 0.05) == 1.0
    assert paired.interval(nothing, 0.95) == (-1.0, 1.0)
    assert math.isnan(nothing.difference)


def test_the_mean_test_proves_a_gain_only_where_there_is_one() -> None:
    rng = np.random.default_rng(3)
    old = rng.random(300)
    assert paired.mean_worse_p(old, np.clip(old - 0.05 + rng.normal(0, 0.05, 300), 0, 1), 0.0) < 1e-6
    assert paired.mean_worse_p(old, old, 0.0) == 1.0
    assert paired.mean_worse_p(old[:1], old[:1], 0.5) == 1.0
