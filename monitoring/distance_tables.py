"""The distances of `monitoring.distances` for many quantities at once: one row a quantity, no loop in Python.

Every function agrees with its single twin to the last digits (`tests/monitoring/test_distance_tables.py`); a refresh of
1,000 columns takes milliseconds here and a second there.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from monitoring.distances import PSEUDO_COUNT, decile_groups
from monitoring.windows import EXCESS_ONE

Ints: TypeAlias = npt.NDArray[np.int64]
Float64s: TypeAlias = npt.NDArray[np.float64]
Array: TypeAlias = npt.NDArray[Any]


def group_table(reference: Ints) -> tuple[Ints, Ints]:
    """PSI bins of every quantity: `decile_groups` of each row, (Q, 103), and how many there are, (Q,)."""
    if not len(reference):
        return np.zeros_like(reference), np.zeros(0, dtype=np.int64)
    groups = np.stack([decile_groups(row) for row in reference])
    return groups, np.asarray(groups.max(axis=1) + 1, dtype=np.int64)


def grouped(counts: Ints, groups: Ints, sizes: Ints) -> Ints:
    """Counts per PSI bin, (Q, most bins); bins that a quantity does not have stay 0."""
    width = int(sizes.max(initial=1))
    at = groups + np.arange(len(counts))[:, None] * width
    return np.bincount(at.ravel(), weights=counts.ravel(), minlength=len(counts) * width).reshape(-1, width).astype(int)


def psi_table(live: Ints, reference: Ints, groups: Ints, sizes: Ints) -> Float64s:
    """Population stability index of each quantity, (Q,)."""
    there = np.arange(int(sizes.max(initial=1)))[None, :] < sizes[:, None]
    shares = []
    for counts in (live, reference):
        smoothed = np.where(there, grouped(counts, groups, sizes) + PSEUDO_COUNT, 1.0)
        shares.append(smoothed / np.where(there, smoothed, 0.0).sum(axis=1, keepdims=True))
    p, q = shares
    return np.asarray(np.where(there, (p - q) * np.log(p / q), 0.0).sum(axis=1))


def gaps(live: Ints, reference: Ints) -> Float64s:
    """Difference of the distribution functions just below each edge and above the last, (Q, 103)."""
    return np.asarray(_cumulative(live) - _cumulative(reference))


def ks_table(live: Ints, reference: Ints) -> Float64s:
    """Kolmogorov-Smirnov distance of each quantity, (Q,)."""
    return np.asarray(np.abs(gaps(live, reference)).max(axis=1, initial=0.0))


def wasserstein_table(live: Ints, reference: Ints, edges: Array, scale: Array, excess: Array) -> Float64s:
    """Wasserstein-1 of each quantity in its scale, (Q,).

    Args:
        live: Counts per bin, (Q, 103).
        reference: The same of the reference.
        edges: (Q, 102).
        scale: (Q,).
        excess: (Q,) mean distance by which live values lie outside the reference's range, in scales.
    """
    gap = gaps(live, reference)[:, :-1]
    width = np.diff(edges.astype(np.float64), axis=1) / scale[:, None]
    a, b = gap[:, :-1], gap[:, 1:]
    total = np.abs(a) + np.abs(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = np.where((a * b) < 0, (a * a + b * b) / (2 * total), total / 2)
    return np.asarray((area * width).sum(axis=1) + excess)


def mean_excess(below: Ints, above: Ints, rows: Ints) -> Float64s:
    """Mean distance outside the reference's range of each quantity, in scales, (Q,)."""
    return np.asarray((below + above) / EXCESS_ONE / np.maximum(rows, 1))


def quantile_table(counts: Ints, edges: Array, level: float) -> Float64s:
    """A quantile of each quantity, (Q,), linear within its bin; NaN without values, the range's end beyond it."""
    rows = counts.sum(axis=1)
    cumulative = np.cumsum(counts, axis=1)
    wanted = level * rows
    at = (cumulative < wanted[:, None]).sum(axis=1).clip(0, counts.shape[1] - 1)
    q = np.arange(len(counts))
    before = np.where(at > 0, cumulative[q, np.maximum(at - 1, 0)], 0)
    inside = np.maximum(counts[q, at], 1)
    low = edges[q, np.maximum(at - 1, 0)].astype(np.float64)
    high = edges[q, np.minimum(at, edges.shape[1] - 2)].astype(np.float64)
    value = low + (wanted - before) / inside * np.maximum(high - low, 0.0)
    return np.asarray(np.where(rows > 0, value, np.nan))


def _cumulative(counts: Ints) -> Float64s:
    rows = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.cumsum(counts, axis=1) / rows)
