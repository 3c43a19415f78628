"""Two versions on the same inputs: how often they differ, which way, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """Right answers of two versions on n inputs whose truth is known. Shares are None of no inputs.

    Attributes:
        n: Inputs.
        left_only: Right on the left and wrong on the right: negative flips, seen from the left.
        right_only: The other way round.
        difference: Accuracy of the right minus that of the left, with a 95 % interval.
        p_value: Of "both are right equally often", two-sided.
    """

    n: int
    left_right: int
    right_right: int
    left_only: int
    right_only: int
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None


def paired(left: Sequence[bool], right: Sequence[bool]) -> Paired:
    """Compare two versions on the same inputs.

    The p-value is McNemar's exact test; the interval adds one to each of the discordant counts, which holds its level
    also for few flips, where Wald's is far too short.

    Args:
        left: Whether the left version was right, input by input.
        right: The same of the right version.

    Example:
        >>> made = paired([True] * 90 + [False] * 10, [True] * 80 + [False] * 10 + [True] * 10)
        >>> made.left_only, made.right_only, round(made.difference, 3), made.p_value
        (10, 10, 0.0, 1.0)

    References:
        McNemar, Psychometrika 1947; Bonett & Price, "Adjusted Wald confidence interval for a difference of binomial
        proportions based on paired data", J. Educational and Behavioral Statistics 2012, eq. 4.
    """
    n = len(left)
    lefts, rights = np.asarray(left, dtype=bool), np.asarray(right, dtype=bool)
    b, c = int((lefts & ~rights).sum()), int((rights & ~lefts).sum())
    difference = low = high = None
    if n:
        difference = (c - b) / n
        up, down = (c + 1) / (n + 2), (b + 1) / (n + 2)
        reach = Z95 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
        low, high = max(-1.0, up - down - reach), min(1.0, up - down + reach)
    return Paired(
        n=n,
        left_right=int(lefts.sum()),
        right_right=int(rights.sum()),
        left_only=b,
        right_only=c,
        difference=difference,
        low=low,
        high=high,
        p_value=mcnemar_exact(b, c) if n else None,
    )


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p-value of b flips one way and c the other, when either way is as likely.

    Example:
        >>> round(mcnemar_exact(2, 10), 4), mcnemar_exact(0, 0)
        (0.0386, 1.0)
    """
    n = b + c
    if n == 0:
        return 1.0
    from scipy.stats import binom

    return float(min(1.0, 2.0 * binom.cdf(min(b, c), n, 0.5)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for how many were looked at (Holm 1979); None stays None.

    Example:
        >>> holm([0.01, 0.04, None])
        [0.02, 0.04, None]
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    made: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        made[i] = least
    return made


def mean_difference(left: Sequence[float], right: Sequence[float], seed: int = 0) -> tuple[float, float, float] | None:
    """Mean of right - left with a 95 % bootstrap interval over inputs; None of fewer than ten.

    References:
        Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13 (percentile interval).
    """
    gaps = np.asarray(right, dtype=np.float64) - np.asarray(left, dtype=np.float64)
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < 10:  # a resample of fewer says nothing
        return None
    rng = np.random.default_rng(seed)
    means = np.array([gaps[rng.integers(0, len(gaps), len(gaps))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return float(gaps.mean()), float(low), float(high)
