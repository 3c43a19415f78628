"""One sample as counts: the reference, the windows of a time span, or one slice of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from monitoring.baseline import Baseline, QuantityKind
from monitoring.distance_tables import mean_excess, quantile_table
from monitoring.windows import WindowStats

Ints: TypeAlias = npt.NDArray[np.int64]
Float64s: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One sample, as counts in a baseline's bins.

    Attributes:
        counts: (Q, 103) values per bin.
        rows: (Q,) values behind each row of `counts` (the reference's scores are counted on a grid).
        excess: (Q,) mean distance outside the reference's range, in scales.
        not_finite: (Q,) values left out.
        predicted: (C,) rows by predicted class, or None where they are not known.
        features: Mean random Fourier features (D,), or None.
        feature_rows: Rows behind `features`.
    """

    counts: Ints
    rows: Ints
    excess: Float64s
    not_finite: Ints
    predicted: Ints | None
    features: Float64s | None
    feature_rows: int

    @classmethod
    def of_reference(cls, baseline: Baseline) -> Side:
        """What the version was compiled with."""
        profile, width = baseline.profile, len(baseline.quantities)
        classes = None if profile is None else profile.classes
        embedding = None if profile is None else profile.embedding
        sampled = 0 if profile is None else len(profile.frame)
        missing = np.zeros(width, dtype=np.int64)
        for i, quantity in enumerate(baseline.quantities):
            if quantity.kind in (QuantityKind.FEATURE, QuantityKind.DESCRIPTOR):
                missing[i] = max(sampled - int(baseline.counted[i]), 0)
        return cls(
            counts=baseline.counts,
            rows=baseline.counted,
            excess=np.zeros(width),
            not_finite=missing,
            predicted=None if classes is None else np.asarray(classes.predicted_counts, dtype=np.int64),
            features=None if embedding is None else np.asarray(embedding.feature_mean, dtype=np.float64),
            feature_rows=0 if embedding is None else embedding.rows,
        )

    @classmethod
    def of_windows(cls, stats: WindowStats) -> Side:
        """The rows that were counted in one or more windows."""
        rows = stats.counts.sum(axis=1)
        return cls(
            counts=stats.counts,
            rows=rows,
            excess=mean_excess(stats.below, stats.above, rows),
            not_finite=stats.not_finite,
            predicted=stats.predicted if len(stats.predicted) else None,
            features=stats.feature_mean(),
            feature_rows=int(stats.feature_rows[0]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A quantity's quantiles on one side; None without values."""

    low: float | None  # 5 %
    quarter: float | None
    median: float | None
    three_quarters: float | None
    high: float | None  # 95 %


def spreads(counts: Ints, edges: npt.NDArray[Any]) -> list[Spread]:
    """The quantiles of each row of counts (Q, 103) in its edges (Q, 102)."""
    columns = [quantile_table(counts, edges, level) for level in (0.05, 0.25, 0.5, 0.75, 0.95)]
    return [
        Spread(**dict(zip(Spread.__slots__, (float(x) if math.isfinite(x) else None for x in row), strict=True)))
        for row in zip(*columns, strict=True)
    ]
