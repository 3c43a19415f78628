"""The alarms' evidence: what it may never do, what it must see, and that the usual tests would not keep the promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.alarms import NEVER, World, first_alarm, knowing, peeking, share_of
from monitoring.alarms.bets import label_bets, proxy_bets
from monitoring.alarms.evidence import FIRST_SHARE, LifeEvidence, RunEvidence, start_share

ALPHA = 0.01


@given(st.floats(0.01, 0.95), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_no_bet_can_lose_more_than_its_stake(tolerance: float, wrong: float, proxy: float, mean: float) -> None:
    for bets in (label_bets(tolerance), proxy_bets(tolerance)):
        assert bets.weights.sum() == pytest.approx(1.0)
        assert (bets.factors(wrong, proxy, mean) >= 0).all()


@given(st.floats(0.02, 0.9), st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(0, 2**32 - 1))
def test_no_bet_gains_on_average_when_the_error_rate_is_the_tolerance(
    tolerance: float, proxies: list[float], seed: int
) -> None:
    """Exact expectation over a finite population: every input with its own chance to be wrong, one drawn uniformly."""
    population = np.asarray(proxies)
    chances = np.random.default_rng(seed).random(population.size)
    chances = np.clip(chances * tolerance / max(chances.mean(), 1e-9), 0, 1)
    rate = chances.mean()
    if rate > tolerance:
        return
    for bets in (label_bets(tolerance), proxy_bets(tolerance)):
        right, wrong = (bets.factors(np.full(population.size, y), population, population.mean()) for y in (0.0, 1.0))
        expected = (chances[:, None] * wrong + (1 - chances[:, None]) * right).mean(axis=0)
        assert (expected <= 1 + 1e-9).all()


def test_a_proxy_whose_mean_is_wrong_is_what_would_break_the_promise() -> None:
    """The negative control of the test above: with a mean from another population some bet gains under the null."""
    bets, population, chances = proxy_bets(0.1), np.array([0.0, 1.0]), np.array([0.0, 0.2])
    right, wrong = (bets.factors(np.full(2, y), population, 0.9) for y in (0.0, 1.0))
    assert ((chances[:, None] * wrong + (1 - chances[:, None]) * right).mean(axis=0) > 1).any()


def test_shares_of_the_starts_add_up_to_the_whole_stake() -> None:
    shares = [start_share(k) for k in range(100_000)]
    assert shares[0] == FIRST_SHARE
    assert all(a > b > 0 for a, b in itertools.pairwise(shares))
    assert 0.97 < sum(shares) <= 1.0


def test_evidence_in_one_number_is_the_sum_over_all_starts() -> None:
    rng, bets = np.random.default_rng(3), label_bets(0.1)
    labels = (rng.random(170) < 0.15).astype(float)
    life, run = LifeEvidence(bets), RunEvidence(bets)
    for y in labels:
        life.update(y)
        run.update(y)
    products = [np.prod([bets.factors(y) for y in labels[start:]], axis=0) for start in range(labels.size)]
    begun = [start_share(k) * float((bets.weights * products[50 * k]).sum()) for k in range(4)]
    waiting = 1 - sum(start_share(k) for k in range(4))
    assert float(life.value) == pytest.approx(sum(begun) + waiting)
    assert float(run.value) == pytest.approx(sum(float((bets.weights * p).sum()) for p in products))


@pytest.mark.parametrize("with_proxy", [False, True])
def test_at_the_boundary_the_lifetime_promise_holds_and_a_peeking_test_does_not(with_proxy: bool) -> None:
    runs, labels = 600, 2_000
    bets = proxy_bets(0.1) if with_proxy else label_bets(0.1)
    first = first_alarm(World(11, 0.1, 0.1, 0, runs, 3.0 * with_proxy), LifeEvidence(bets), 1 / ALPHA, labels)
    assert share_of(first, labels) <= 0.02  # the promise is 0.01; a binomial of 600 stays below 0.02 with 99.6 %
    assert share_of(peeking(World(12, 0.1, 0.1, 0, runs), labels), labels) > 0.08


@pytest.mark.parametrize(("rate", "limit"), [(0.2, 1.45), (0.3, 1.6)])
def test_a_real_change_is_seen_nearly_as_soon_as_by_the_test_that_knows_it(rate: float, limit: float) -> None:
    world = World(21, rate, rate, 0, 600)
    ours = np.median(first_alarm(world, LifeEvidence(label_bets(0.1)), 1 / ALPHA, 1_500))
    assert ours <= limit * np.median(knowing(World(22, rate, rate, 0, 600), 1_500))


def test_a_change_after_a_long_healthy_history_is_still_seen() -> None:
    first = first_alarm(World(31, 0.05, 0.2, 3_000, 200), LifeEvidence(label_bets(0.1)), 1 / ALPHA, 4_200)
    assert share_of(first, 3_000) <= 0.02
    assert np.median(first) - 3_000 <= 400
    plain = LifeEvidence(label_bets(0.1))
    plain.update(0.0)
    for _ in range(2_999):  # without later starts the stake is lost: this is what they are for
        plain.stakes = plain.stakes * plain.bets.factors(0.05)
    assert float(plain.stakes.sum()) < 1e-10


def test_a_proxy_that_follows_the_truth_saves_labels_and_a_useless_one_costs_few() -> None:
    def median(sharpness: float, bets: object) -> float:
        first = first_alarm(World(41, 0.15, 0.15, 0, 400, sharpness), LifeEvidence(bets), 1 / ALPHA, 2_500)  # type: ignore[arg-type]
        return float(np.median(first))

    alone = median(0.0, label_bets(0.1))
    assert median(3.0, proxy_bets(0.1)) <= 0.5 * alone

    class Useless(World):
        def _proxy_of(self, wrong: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return self._random.random(wrong.shape)

    useless = first_alarm(Useless(42, 0.15, 0.15, 0, 200, 1.0), LifeEvidence(proxy_bets(0.1)), 1 / ALPHA, 4_000)
    assert alone <= np.median(useless) <= 1.9 * alone


def test_wrong_settings_are_refused() -> None:
    for tolerance in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="tolerance"):
            label_bets(tolerance)
    with pytest.raises(ValueError, match="share"):
        proxy_bets(0.1, share=1.0)
    with pytest.raises(ValueError, match="proxy"):
        proxy_bets(0.1).factors(1.0)
    assert NEVER > 10**6
