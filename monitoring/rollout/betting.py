"""Evidence that holds at every look: e-processes for shares of requests. Pure.

Each is a non-negative process whose expectation under its null hypothesis is at most 1 at every stopping time, so the
chance that it ever reaches 1/alpha is at most alpha (Ville's inequality), however often somebody looks. All work on
logarithms, and mix over a grid of alternatives, because nobody knows how bad a bad version is.

Three settings:

- *Paired*: both versions answered the same request (shadow). The difference D of "bad" is in {-1, 0, 1}; the null says
  E[D] <= d. Bets of a fixed share on D - d (Waudby-Smith & Ramdas 2024).
- *Two samples*: the two answered different requests (canary). In each look's block the likelihood ratio of an
  alternative against its projection on the null is an e-variable (Turner, Ly & Grunwald 2024, for convex sets of
  Bernoulli rates): log of its expectation is concave in the rates and flat at the projection, hence never above 0.
  It asks nothing of the two rates staying what they are: both may move with the traffic.
- *One sample*: against a given rate.

References:
    Waudby-Smith & Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B.
    Turner, Ly & Grunwald (2024), Generic E-variables for exact sequential k-sample tests, Statistics & Probability.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SHARES = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.75, 0.95])  # of the largest bet that cannot ruin
RATES = np.array([0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8, 0.95, 0.995])  # what a bad version's may be
GOOD = np.array([0.0, 0.25, 0.5, 0.75, 1.0])  # ... a good one's: between nothing and the champion's own
_TINY = 1e-9
_HALVINGS = 30  # to a billionth


def log_mean_exp(values: Any, axis: int = -1) -> Floats:
    """Logarithm of the mean: the mixture with equal weights."""
    array = np.asarray(values, np.float64)
    top = array.max(axis=axis, keepdims=True)
    mean = np.log(np.mean(np.exp(array - top), axis=axis))
    return np.asarray(mean + np.squeeze(top, axis=axis), np.float64)


def paired_worse(more: Any, same: Any, less: Any, tolerance: float) -> Floats:
    """Log evidence against "bad is at most `tolerance` more frequent": `more` pairs in which only the candidate is bad.

    Example:
        >>> bool(paired_worse(12, 100, 0, 0.01) > 7), bool(paired_worse(6, 100, 6, 0.01) < 0)
        (True, True)
    """
    bets = SHARES / (1 + tolerance)
    return log_mean_exp(
        np.multiply.outer(more, np.log1p(bets * (1 - tolerance)))
        + np.multiply.outer(same, np.log1p(-bets * tolerance))
        + np.multiply.outer(less, np.log1p(-bets * (1 + tolerance)))
    )


def paired_safe(more: Any, same: Any, less: Any, margin: float) -> Floats:
    """Log evidence against "bad is at least `margin` more frequent"."""
    bets = SHARES / (1 - margin)
    return log_mean_exp(
        np.multiply.outer(more, np.log1p(-bets * (1 - margin)))
        + np.multiply.outer(same, np.log1p(bets * margin))
        + np.multiply.outer(less, np.log1p(bets * (1 + margin)))
    )


def rate_above(bad: Any, good: Any, rate: float) -> Floats:
    """Log evidence against "the share of bad ones is at most `rate`"."""
    return _against(bad, good, rate, RATES[rate * 1.02 < RATES])


def rate_below(bad: Any, good: Any, rate: float) -> Floats:
    """Log evidence against "the share of bad ones is at least `rate`"."""
    return _against(bad, good, rate, rate * np.array([0.02, 0.2, 0.4, 0.6, 0.8]))


def _against(bad: Any, good: Any, rate: float, alternatives: Floats) -> Floats:
    if not len(alternatives) or rate <= 0:
        return np.zeros(np.shape(bad))
    return log_mean_exp(
        np.multiply.outer(bad, np.log(alternatives / rate))
        + np.multiply.outer(good, np.log((1 - alternatives) / (1 - rate)))
    )


def two_worse(block: Floats, champion: Any, tolerance: float) -> Floats:
    """What one block adds to the log evidence against "candidate's rate <= champion's + tolerance".

    Args:
        block: Candidate's bad and all, champion's bad and all, (..., 4). The numbers of all must not depend on the
            outcomes within the block.
        champion: The champion's rate as it was known *before* the block, (...).
        tolerance: As stated.

    Returns:
        One for each of `RATES`, (..., len(RATES)).
    """
    a = np.asarray(champion, np.float64)[..., None]
    return _ratio(block, a, np.broadcast_to(RATES, (*a.shape[:-1], len(RATES))), tolerance, upper=True)


def two_safe(block: Floats, champion: Any, margin: float) -> Floats:
    """What one block adds to the log evidence against "candidate's rate >= champion's + margin", (..., len(GOOD))."""
    a = np.asarray(champion, np.float64)[..., None]
    return _ratio(block, a, np.clip(a * GOOD + (1 - GOOD) * _TINY, _TINY, 1.0), margin, upper=False)


def _ratio(block: Floats, a: Floats, b: Floats, shift: float, *, upper: bool) -> Floats:
    """Log likelihood ratio of rates (a, b) of champion and candidate against their projection on the null.

    The null is b <= a + shift (`upper`), or b >= a + shift. Of a pair in the null the ratio is 1.
    """
    kb, nb, ka, na = (block[..., i, None].astype(np.float64) for i in range(4))
    a, b = np.clip(a, _TINY, 1 - _TINY), np.clip(b, _TINY, 1 - _TINY)
    a, b = np.broadcast_arrays(a, b)
    inside = b <= a + shift if upper else b >= a + shift
    # the projection lies on the line b = x + shift: the root of a function that falls with x
    low, high = np.full(a.shape, _TINY), np.full(a.shape, 1 - shift - _TINY)
    for _ in range(_HALVINGS):
        x = (low + high) / 2
        y = x + shift
        slope = na * (a - x) / (x * (1 - x)) + nb * (b - y) / (y * (1 - y))
        low, high = np.where(slope > 0, x, low), np.where(slope > 0, high, x)
    x = (low + high) / 2
    y = x + shift
    ratio = ka * np.log(a / x) + (na - ka) * np.log((1 - a) / (1 - x))
    ratio = ratio + kb * np.log(b / y) + (nb - kb) * np.log((1 - b) / (1 - y))
    return np.where(inside | (nb == 0) | (na == 0), 0.0, ratio)
