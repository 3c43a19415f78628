"""The alarms' evidence: what it may never do, what it must see, and that the usual tests would not keep the promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.alarms import NEVER, PROBES, PROXIES, World, first_alarm, knowing, limit_of_proxy, peeking, share_of
from monitoring.alarms.bets import BINS, Bets, better_bets, proxy_bins, worse_bets
from monitoring.alarms.draw import draw_chances
from monitoring.alarms.evidence import FIRST_SHARE, RENEWAL_SHARE, LifeEvidence, RunEvidence, renewal_share, start_share

ALPHA = 0.01


def life(bets: Bets) -> LifeEvidence:
    return LifeEvidence(bets.weights)


@given(st.floats(0.01, 0.95), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_no_bet_can_lose_more_than_its_stake(tolerance: float, wrong: float, proxy: float, weight: float) -> None:
    population = np.ones(BINS)
    for bets in (worse_bets(tolerance), better_bets(tolerance)):
        assert bets.weights.sum() == pytest.approx(1.0)
        assert (bets.table(population).factors(wrong, proxy_bins(proxy), weight) >= 0).all()


@given(
    st.floats(0.02, 0.9), st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(0, 2**32 - 1), st.booleans()
)
def test_no_bet_gains_on_average_when_the_error_rate_is_the_tolerance(
    tolerance: float, proxies: list[float], seed: int, worse: bool
) -> None:
    """Exact expectation over a finite population: every input with its own chance to be wrong, one drawn uniformly."""
    rng = np.random.default_rng(seed)
    bins = proxy_bins(proxies)
    chances = rng.random(bins.size)
    # As close to the boundary as clipping allows, from the side that the bets speak against.
    chances = np.clip(chances * tolerance / max(chances.mean(), 1e-9), 0, 1)
    if not worse:
        chances = np.clip(chances + max(0.0, tolerance - chances.mean()), 0, 1)
    if worse != (chances.mean() <= tolerance) and chances.mean() != tolerance:
        return
    kept = rng.uniform(0.05, 1.0, bins.size)  # capture prefers some records, and says so
    weights = np.zeros(BINS)
    np.add.at(weights, bins, 1.0 / kept)
    truth = (chances / kept).sum() / (1.0 / kept).sum()
    if worse != (truth <= tolerance):
        return
    bets = worse_bets(tolerance) if worse else better_bets(tolerance)
    table = bets.table(weights)
    right, wrong = (table.factors(np.full(bins.size, y), bins, kept.min() / kept) for y in (0.0, 1.0))
    # The population was captured with `kept`; `weights` is what it stands for, and the draw is uniform among captured.
    expected = (chances[:, None] * wrong + (1 - chances[:, None]) * right).mean(axis=0)
    assert (expected <= 1 + 1e-9).all()


@given(st.floats(0.02, 0.9), st.integers(0, 2**32 - 1), st.booleans())
def test_no_bet_gains_on_average_when_doubtful_records_are_drawn_more_often(
    tolerance: float, seed: int, worse: bool
) -> None:
    """Exact expectation over populations whose errors depend on the proxy in any way, at the boundary."""
    rng = np.random.default_rng(seed)
    population, draw = rng.dirichlet(np.full(BINS, 0.3)) + 1e-9, draw_chances(0.01, rng.uniform(0.01, 1.0))
    population /= population.sum()
    chances = rng.random(BINS) ** rng.choice([0.2, 1.0, 5.0])
    chances *= min(1.0, tolerance / (population @ chances))
    if not worse:
        short = tolerance - population @ chances
        chances += max(short, 0.0) * (1.0 - chances) / (population @ (1.0 - chances))
    table = (worse_bets if worse else better_bets)(tolerance).table(population, draw)
    right, wrong = (table.factors(np.full(BINS, y), np.arange(BINS)) for y in (0.0, 1.0))
    drawn = population * draw / (population @ draw)
    expected = drawn @ (chances[:, None] * wrong + (1.0 - chances[:, None]) * right)
    assert (expected <= 1 + 1e-9).all()


def test_bets_that_know_nothing_of_the_draw_would_break_the_promise() -> None:
    population, draw = np.ones(BINS), draw_chances(0.01, 0.5)
    chances = 0.2 * np.linspace(0.0, 1.0, BINS)  # errors follow the proxy, and so does the draw: a tenth is wrong
    drawn = draw / draw.sum()
    for given_draw, honest in ((draw, True), (None, False)):
        table = worse_bets(0.1).table(population, given_draw)
        right, wrong = (table.factors(np.full(BINS, y), np.arange(BINS)) for y in (0.0, 1.0))
        expected = drawn @ (chances[:, None] * wrong + (1.0 - chances[:, None]) * right)
        assert (expected <= 1 + 1e-9).all() == honest


def test_a_draw_that_prefers_nobody_makes_the_bets_of_a_uniform_one() -> None:
    population = np.arange(1.0, BINS + 1)
    for bets in (worse_bets(0.1), better_bets(0.1)):
        plain, same = bets.table(population), bets.table(population, np.full(BINS, 0.3))
        assert np.allclose(plain.a, same.a)
        assert np.allclose(plain.b, same.b)


def test_a_population_that_is_not_the_labels_own_is_what_would_break_the_promise() -> None:
    """The negative control of the test above: made for another population, some bet gains under the null."""
    bins, chances = proxy_bins([0.02, 0.98]), np.array([0.0, 0.2])
    elsewhere = np.bincount(proxy_bins([0.98]), minlength=BINS)
    table = worse_bets(0.1).table(elsewhere)
    right, wrong = (table.factors(np.full(2, y), bins) for y in (0.0, 1.0))
    assert ((chances[:, None] * wrong + (1 - chances[:, None]) * right).mean(axis=0) > 1).any()


def test_without_a_proxy_a_bet_is_the_likelihood_ratio() -> None:
    for bets in (worse_bets(0.1), better_bets(0.1)):
        for table in (bets.table(), bets.table(np.zeros(BINS))):
            assert table.factors(1.0, 0) == pytest.approx(bets.rates / 0.1)
            assert table.factors(0.0, 0) == pytest.approx((1 - bets.rates) / 0.9)


def test_shares_of_the_starts_and_renewals_add_up_to_the_whole_stake() -> None:
    shares = [start_share(k) for k in range(100_000)]
    assert shares[0] == FIRST_SHARE
    assert all(a > b > 0 for a, b in itertools.pairwise(shares))
    renewals = sum(renewal_share(k) for k in range(1, 100_000))
    assert 0.99 * RENEWAL_SHARE < renewals <= RENEWAL_SHARE
    assert 0.97 < sum(shares) + renewals <= 1.0


def test_evidence_in_one_number_is_the_sum_over_all_starts() -> None:
    rng, bets = np.random.default_rng(3), worse_bets(0.1)
    table = bets.table()
    factors = [table.factors(y) for y in (rng.random(170) < 0.15).astype(float)]
    life_evidence, run = life(bets), RunEvidence(bets.weights)
    for f in factors:
        life_evidence.update(f)
        run.update(f)
    products = [np.prod(factors[start:], axis=0) for start in range(len(factors))]
    begun = [start_share(k) * float((bets.weights * products[50 * k]).sum()) for k in range(4)]
    waiting = 1 - sum(start_share(k) for k in range(4))
    assert float(life_evidence.value) == pytest.approx(sum(begun) + waiting)
    assert float(run.value) == pytest.approx(sum(float((bets.weights * p).sum()) for p in products))


@pytest.mark.parametrize("renewals", [0, 6])
def test_renewals_spend_the_promise_and_do_not_repeat_it(renewals: int) -> None:
    """Six new versions within a life: still one budget. Each with the whole stake would break it."""
    runs, labels = 1_500, 1_400
    bets = worse_bets(0.1)
    rng, table = np.random.default_rng(8), bets.table()
    kept, repeated = life(bets), life(bets)
    kept.stakes = np.zeros((runs, bets.weights.size))
    repeated.stakes = kept.stakes.copy()
    alarmed, cheated = np.zeros(runs, bool), np.zeros(runs, bool)
    for label in range(labels):
        if renewals and label and label % (labels // (renewals + 1)) == 0:
            kept.renew()
            repeated = life(bets)
            repeated.stakes = np.zeros((runs, bets.weights.size))
        factors = table.factors((rng.random(runs) < 0.1).astype(float))
        kept.update(factors)
        repeated.update(factors)
        alarmed |= kept.value >= 1 / ALPHA
        cheated |= repeated.value >= 1 / ALPHA
    assert alarmed.mean() <= 0.016  # a binomial of 1,500 at 0.01 stays below with 98.5 %
    if renewals:
        assert cheated.mean() > 1.5 * alarmed.mean()


@pytest.mark.parametrize("with_proxy", [False, True])
def test_at_the_boundary_the_lifetime_promise_holds_and_a_peeking_test_does_not(with_proxy: bool) -> None:
    runs, labels, bets = 600, 2_000, worse_bets(0.1)
    first = first_alarm(World(11, 0.1, 0.1, 0, runs, 3.0 * with_proxy), life(bets), bets, 1 / ALPHA, labels)
    assert share_of(first, labels) <= 0.02  # the promise is 0.01; a binomial of 600 stays below 0.02 with 99.6 %
    assert share_of(peeking(World(12, 0.1, 0.1, 0, runs), labels), labels) > 0.08


@pytest.mark.parametrize(("rate", "limit"), [(0.2, 1.45), (0.3, 1.6)])
def test_a_real_change_is_seen_nearly_as_soon_as_by_the_test_that_knows_it(rate: float, limit: float) -> None:
    bets = worse_bets(0.1)
    ours = np.median(first_alarm(World(21, rate, rate, 0, 600), life(bets), bets, 1 / ALPHA, 1_500))
    assert ours <= limit * np.median(knowing(World(22, rate, rate, 0, 600), 1_500))


def test_a_change_after_a_long_healthy_history_is_still_seen() -> None:
    bets = worse_bets(0.1)
    first = first_alarm(World(31, 0.05, 0.2, 3_000, 200), life(bets), bets, 1 / ALPHA, 4_200)
    assert share_of(first, 3_000) <= 0.02
    assert np.median(first) - 3_000 <= 400
    run_bets = worse_bets(0.075)
    run = first_alarm(World(31, 0.05, 0.2, 3_000, 200), RunEvidence(run_bets.weights), run_bets, 10_000, 4_200)
    assert np.median(run[run > 3_000]) - 3_000 <= 100
    lost = np.prod([bets.table().factors(float(y)) for y in np.random.default_rng(1).random(3_000) < 0.05], axis=0)
    assert lost.max() < 1e-3  # a stake without later starts: this is what they are for


def test_a_proxy_that_follows_the_truth_saves_labels_and_a_useless_one_costs_few() -> None:
    bets = worse_bets(0.1)

    def median(world: World) -> float:
        return float(np.median(first_alarm(world, life(bets), bets, 1 / ALPHA, 2_500)))

    alone, sharp = median(World(41, 0.15, 0.15, 0, 400)), World(41, 0.15, 0.15, 0, 400, 3.0)
    assert limit_of_proxy(sharp) * alone <= median(sharp) <= 0.4 * alone

    class Useless(World):
        def _proxy_of(self, wrong: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return self._random.random(wrong.shape)

    assert alone <= median(Useless(42, 0.15, 0.15, 0, 200, 1.0)) <= 1.9 * alone


@pytest.mark.parametrize("rate", [0.15, 0.20, 0.30])
def test_draws_that_follow_a_proxy_need_less_than_half_of_the_labels(rate: float) -> None:
    """Half is what was promised from a correlation of 0.7 on; a uniform draw cannot reach it for 20 and 30 %."""
    bets = worse_bets(0.1)
    alone, probed = World(3, rate, rate, 0, 200), World(3, rate, rate, 0, 200, PROXIES[0], PROBES)
    assert 0.7 < probed.correlation < 0.76
    medians = [float(np.median(first_alarm(x, life(bets), bets, 1 / ALPHA, 1_500))) for x in (alone, probed)]
    assert medians[1] <= 0.5 * medians[0], medians


def test_evidence_for_recovery_needs_a_rate_below_the_tolerance() -> None:
    bets = better_bets(0.1)

    def mean(rate: float) -> float:
        first = first_alarm(World(51, rate, rate, 0, 600), RunEvidence(bets.weights), bets, 200, 1_500)
        return float(np.minimum(first, 1_500).mean())

    assert mean(0.02) < 120
    assert mean(0.1) >= 180  # promised is 200 on average; the mean of 600 streams wobbles by 8
    assert mean(0.3) > 1_400


def test_wrong_settings_are_refused() -> None:
    for tolerance in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="tolerance"):
            worse_bets(tolerance)
    assert NEVER > 10**6
