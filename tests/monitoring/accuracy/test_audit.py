"""The audited error rate: coverage where it is hard, narrower with a proxy, honest about too little data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from monitoring.accuracy.audit import MIN_LABELS, ErrorRate, error_rate


def sample(rng: np.random.Generator, rate: float, n: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Labels, and a proxy that follows them the closer the sharper it is."""
    wrong = rng.random(n) < rate
    follows = rng.beta(1 + sharpness, 2, n)
    return wrong.astype(float), np.where(wrong, follows, rng.beta(0.9, 3 + 3 * sharpness, n))


def width(estimate: ErrorRate) -> float:
    assert estimate.high is not None
    assert estimate.low is not None
    return estimate.high - estimate.low


@pytest.mark.parametrize(("rate", "n"), [(0.02, 50), (0.05, 100), (0.1, 300), (0.3, 100)])
@pytest.mark.parametrize("sharpness", [0.0, 1.2, 3.0])
def test_nineteen_of_twenty_intervals_hold_the_truth(rate: float, n: int, sharpness: float) -> None:
    rng = np.random.default_rng(round(1e6 * rate) + n + round(10 * sharpness))
    mean = sample(rng, rate, 400_000, sharpness)[1].mean()
    runs, held, normal, ratios = 600, 0, 0, []
    for _ in range(runs):
        wrong, proxy = sample(rng, rate, n, sharpness)
        with_proxy, alone = error_rate(wrong, proxy, mean), error_rate(wrong)
        assert with_proxy.low is not None and with_proxy.high is not None  # noqa: PT018 - narrows two types
        held += with_proxy.low <= rate <= with_proxy.high
        half = 1.96 * math.sqrt(wrong.mean() * (1 - wrong.mean()) / n)
        normal += abs(wrong.mean() - rate) <= half
        ratios.append(width(with_proxy) / width(alone))
    assert held / runs >= 0.92, "94 % is met by the simulation of 4,000 runs; 600 runs scatter by 1 %"
    if (rate, n) == (0.02, 50):
        assert normal / runs < 0.75, "the textbook's interval fails here: this is why it is not used"
    if sharpness == 3.0:
        assert np.median(ratios) < 0.7
    assert np.median(ratios) <= 1.0 + 1e-9


def test_without_a_proxy_it_is_wilsons_interval() -> None:
    wrong = np.array([1] * 7 + [0] * 83)
    ours, theirs = error_rate(wrong), binomtest(7, 90).proportion_ci(0.95, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.value == 7 / 90
    assert ours.gain == 1.0


def test_a_constant_broken_or_inverted_proxy_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    wrong = (rng.random(200) < 0.1).astype(float)
    alone = error_rate(wrong)
    for proxy, mean in ((np.full(200, 0.3), 0.3), (np.full(200, np.nan), 0.3), (np.ones(200), math.nan)):
        assert error_rate(wrong, proxy, mean) == alone
    inverted = error_rate(wrong, 1.0 - wrong, 0.9)
    assert inverted.value == alone.value


def test_little_data_are_said_to_be_little_and_extremes_stay_in_range() -> None:
    assert error_rate(np.zeros(MIN_LABELS - 1)).value is None
    assert "29 of 30" in error_rate(np.zeros(MIN_LABELS - 1)).missing
    none = error_rate(np.zeros(MIN_LABELS), np.linspace(0, 1, MIN_LABELS), 0.5)
    assert none.value == 0.0
    assert none.low == 0.0
    assert 0.05 < (none.high or 0) < 0.2
    everything = error_rate(np.ones(MIN_LABELS))
    assert everything.high == pytest.approx(1.0)
    for arguments, word in ((([0] * 40, [0.1], 0.1), "40 labels"), (([0] * 40, None, None, 1.0), "level")):
        with pytest.raises(ValueError, match=word):
            error_rate(*arguments)  # type: ignore[arg-type]
