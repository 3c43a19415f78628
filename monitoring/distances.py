"""Distances between two histograms over the same bins, and how far apart two samples of one source get by chance.

With `n` rows on one side and `N` on the other every distance here shrinks like 1/n + 1/N, or its root, when both come
from one source. The chance functions give the value that is exceeded with probability `alpha` then.

References:
    Yurdakul & Naranjo, "Statistical properties of the population stability index", J. Risk Model Validation 2020: under
        the null PSI / (1/n + 1/N) tends to chi-squared with (bins - 1) degrees of freedom.
    Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 1991 (Jensen-Shannon).
    del Barrio, Gine & Matran, "Central limit theorems for the Wasserstein distance", Ann. Probab. 1999: the null limit
        of W1 is the integral of |Brownian bridge| over the reference.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from monitoring.baseline import BINS
from monitoring.windows import EXCESS_ONE

PSEUDO_COUNT = 0.5  # added to each PSI bin on both sides: an empty bin is rare, not impossible
PSI_BINS = 10
BRIDGES = 2000
NULL_DRAWS = 500
Ints: TypeAlias = npt.NDArray[np.int64]
Array: TypeAlias = npt.NDArray[Any]


def psi(live: Ints, reference: Ints) -> float:
    """Population stability index of two histograms over the same bins, natural logarithm, bounded by smoothing.

    Example:
        >>> psi(np.array([50, 50, 0]), np.array([50, 50, 0]))
        0.0
        >>> psi(np.array([0, 1000]), np.array([1000, 0])) < 16
        True
    """
    p, q = ((h + PSEUDO_COUNT) / (h.sum() + PSEUDO_COUNT * len(h)) for h in (np.asarray(live), np.asarray(reference)))
    return float(((p - q) * np.log(p / q)).sum())


def kolmogorov_smirnov(live: Ints, reference: Ints) -> float:
    """Largest gap between the distribution functions at the bins' edges."""
    gap = np.cumsum(live) / max(live.sum(), 1) - np.cumsum(reference) / max(reference.sum(), 1)
    return float(np.abs(gap).max())


def jensen_shannon(live: Ints, reference: Ints) -> float:
    """Jensen-Shannon distance of two histograms, natural logarithm: 0 when equal, 0.833 when disjoint."""
    p, q = live / max(live.sum(), 1), reference / max(reference.sum(), 1)
    middle = (p + q) / 2

    def divergence(a: Array) -> float:
        there = a > 0
        return float((a[there] * np.log(a[there] / middle[there])).sum())

    return math.sqrt(max(0.0, (divergence(p) + divergence(q)) / 2))


def wasserstein(live: Ints, reference: Ints, edges: Array, scale: float, below: int, above: int) -> float:
    """Wasserstein-1 in units of `scale`: the area between the distribution functions.

    Inside the reference's range the live distribution is known at the edges (trapezoids between them); outside it the
    excess sums give the area exactly.

    Args:
        live: Counts per bin, (103,).
        reference: The same of the reference.
        edges: (102,).
        scale: Unit of the result, in units of the edges.
        below: Fixed-point sum of the excess below the first edge, in scales.
        above: The same above the last.
    """
    n = max(int(live.sum()), 1)
    gap = (np.cumsum(live) / n - np.cumsum(reference) / max(reference.sum(), 1))[:-1]  # just below each edge
    width = np.diff(edges.astype(np.float64)) / scale
    a, b = gap[:-1], gap[1:]
    crossing = (a * b) < 0
    with np.errstate(invalid="ignore", divide="ignore"):
        area = np.where(crossing, (a * a + b * b) / (2 * (np.abs(a) + np.abs(b))), (np.abs(a) + np.abs(b)) / 2)
    return float((area * width).sum() + (below + above) / EXCESS_ONE / n)


def decile_groups(reference: Ints) -> Ints:
    """Which PSI bin each fine bin belongs to, (103,): reference deciles, and the outside where there are few.

    A reference that is nearly constant has fewer than three groups inside its range; what lies below and above it then
    counts as bins of their own, or a shift away from the constant would not show.
    """
    total = max(int(reference.sum()), 1)
    before = np.cumsum(reference) - reference
    groups = np.minimum((before * PSI_BINS) // total, PSI_BINS - 1)
    if len(np.unique(groups[reference > 0])) < 3:
        groups[0], groups[-1] = -1, PSI_BINS
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def ks_chance(rows: int, reference_rows: int, alpha: float) -> float:
    """Kolmogorov-Smirnov distance by chance: sqrt(-ln(alpha / 2) / 2) * sqrt(1/n + 1/N), to first order.

    Example:
        >>> round(ks_chance(1000, 1000, 0.05), 4)
        0.0607
    """
    return math.sqrt(-math.log(alpha / 2.0) / 2.0 * _noise(rows, reference_rows))


def psi_chance(bins: int, rows: int, reference_rows: int, alpha: float) -> float:
    """Population stability index by chance over `bins` bins."""
    return _chi_squared(alpha, bins - 1) * _noise(rows, reference_rows)


def wasserstein_chance(
    reference: Ints, edges: Array, scale: float, rows: int, alpha: float, reference_rows: int | None = None
) -> float:
    """Wasserstein-1 by chance, in units of `scale`; arguments as for `wasserstein`.

    `reference_rows` is given where `reference` counts points of a grid and not rows.
    """
    limit = _bridge_quantile(reference.tobytes(), edges.astype(np.float64).tobytes(), alpha) / scale
    return limit * math.sqrt(_noise(rows, int(reference.sum()) if reference_rows is None else reference_rows))


@lru_cache(maxsize=256)
def jensen_shannon_chance(reference: tuple[int, ...], rows: int, alpha: float) -> float:
    """Jensen-Shannon distance by chance between `rows` predictions and the reference's counts.

    The divergence of small samples is near a scaled chi-squared; a gamma with the simulated mean and variance has the
    right tail at any class count and needs few draws. The draws are seeded by the sizes, so the result is fixed.
    """
    from scipy.stats import gamma

    counts = np.array(reference, dtype=np.int64)
    shares = (counts + PSEUDO_COUNT) / (counts.sum() + PSEUDO_COUNT * len(counts))
    rng = np.random.default_rng(len(counts) * 1_000_003 + rows)
    live, past = rng.multinomial(rows, shares, NULL_DRAWS), rng.multinomial(int(counts.sum()), shares, NULL_DRAWS)
    squares = np.array([jensen_shannon(a, b) ** 2 for a, b in zip(live, past, strict=True)])
    mean, variance = float(squares.mean()), float(squares.var())
    if variance <= 0.0:
        return 0.0
    return math.sqrt(float(gamma.isf(alpha, mean * mean / variance, scale=variance / mean)))


def _noise(rows: int, reference_rows: int) -> float:
    return 1.0 / max(rows, 1) + 1.0 / max(reference_rows, 1)


@lru_cache(maxsize=256)
def _chi_squared(alpha: float, degrees: int) -> float:
    from scipy.stats import chi2

    return float(chi2.isf(alpha, degrees))


@lru_cache(maxsize=1)
def _normals() -> npt.NDArray[np.float64]:
    """The same draws for every quantity, (bridges, bins): 1.6 MB, made once."""
    return np.random.default_rng(BRIDGES + BINS).standard_normal((BRIDGES, BINS))


@lru_cache(maxsize=4096)
def _bridge_quantile(reference: bytes, edges: bytes, alpha: float) -> float:
    """Upper quantile of the integral of |B(F(x))| dx: B a Brownian bridge, F the reference's distribution function.

    Beyond what so many bridges show, the tail is continued as normal in the logarithm, fitted to the upper half.
    """
    from scipy.stats import norm

    counts, at = np.frombuffer(reference, dtype=np.int64), np.frombuffer(edges, dtype=np.float64)
    shares = counts / max(int(counts.sum()), 1)
    walk = np.cumsum(_normals() * np.sqrt(shares), axis=1)
    bridge = np.abs(walk - np.cumsum(shares) * walk[:, -1:])
    areas = ((bridge[:, :-2] + bridge[:, 1:-1]) / 2 * np.diff(at)).sum(axis=1)
    if float(areas.max(initial=0.0)) <= 0.0:
        return 0.0
    middle, upper = (float(x) for x in np.quantile(np.log(np.maximum(areas, 1e-300)), (0.5, 0.975)))
    return math.exp(middle + (upper - middle) / float(norm.isf(0.025)) * float(norm.isf(alpha)))
