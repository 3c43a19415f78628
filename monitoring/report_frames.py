"""The two tables that a drift report compares, and the threshold that each column gets.

A report never uses a library's default test: those switch with the sample size. Every column has a named distance and
a threshold that is the larger of a stated floor and what healthy resamples of the reference reach by chance at the
same sample sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

NUMERIC_METHOD = "wasserstein"  # Wasserstein-1 divided by the reference's standard deviation
NUMERIC_FLOOR = 0.1  # a tenth of a standard deviation is not worth a reader's time
CATEGORY_METHOD = "jensenshannon"  # Jensen-Shannon distance, natural logarithm
CATEGORY_FLOOR = 0.1
RESAMPLES = 200
MIN_ROWS = 30  # fewer, and the answer is "not enough data"
_GRID = 256  # quantiles that stand for a sample when a distance is calibrated


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a frame. `categories` are the labels that a categorical column's whole numbers index."""

    name: str
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A table (row, column) of finite numbers.

    Attributes:
        total_rows: Records that the frame stands for, before sampling and before rows with NaN were left out.
        dropped_rows: Rows left out because a value was not finite.
    """

    columns: tuple[Column, ...]
    values: Array  # (row, column)
    total_rows: int
    dropped_rows: int = 0

    @property
    def rows(self) -> int:
        """Rows that take part."""
        return int(self.values.shape[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnTest:
    """How one column is compared: drifted when the distance reaches the threshold."""

    name: str
    method: str
    threshold: float
    categories: tuple[str, ...] = ()


def finite_frame(columns: tuple[Column, ...], values: npt.NDArray[np.floating], total_rows: int) -> Frame:
    """A frame without the rows that hold NaN or infinity; their number is kept.

    Args:
        columns: One a column of `values`.
        values: (row, column).
        total_rows: Records before sampling.
    """
    finite = np.isfinite(values).all(axis=1)
    kept = np.ascontiguousarray(values[finite], dtype=np.float32)
    return Frame(columns=columns, values=kept, total_rows=total_rows, dropped_rows=int((~finite).sum()))


def sample_rows(values: npt.NDArray[np.floating], max_rows: int, seed: int) -> npt.NDArray[np.floating]:
    """At most `max_rows` rows, drawn uniformly without replacement, in their order."""
    if len(values) <= max_rows:
        return values
    chosen = np.random.default_rng(seed).choice(len(values), size=max_rows, replace=False)
    return values[np.sort(chosen)]


def column_tests(reference: Frame, current_rows: int, seed: int) -> tuple[ColumnTest, ...]:
    """Name a method and a threshold for every column.

    The threshold is the largest distance among `RESAMPLES` pairs of bootstrap samples of the *reference*, of the
    reference's and the current frame's sizes, and never below the floor. So identical data exceeds it in about one of
    200 columns, whatever the sample size (Efron & Tibshirani 1993, chapter 16, with the pooled sample replaced by the
    reference, which is all there is under the null).
    """
    rng = np.random.default_rng(seed)
    tests = []
    for i, column in enumerate(reference.columns):
        values = reference.values[:, i].astype(np.float64)
        if column.categories:
            distance = _chance_jensen_shannon(values.astype(np.int64), len(column.categories), current_rows, rng)
            method, threshold = CATEGORY_METHOD, max(CATEGORY_FLOOR, distance)
        else:
            distance = _chance_wasserstein(values, current_rows, rng)
            method, threshold = NUMERIC_METHOD, max(NUMERIC_FLOOR, distance)
        rounded = float(f"{threshold:.4g}")
        tests.append(ColumnTest(name=column.name, method=method, threshold=rounded, categories=column.categories))
    return tuple(tests)


def _chance_wasserstein(values: npt.NDArray[np.float64], current_rows: int, rng: np.random.Generator) -> float:
    """Largest normed Wasserstein-1 distance between resamples of one column; the norm is Evidently's."""
    n = len(values)
    norm = max(float(np.std(values)), 0.001)
    at = (np.arange(_GRID) + 0.5) / _GRID
    ordered = np.sort(values)
    a = np.sort(rng.integers(0, n, size=(RESAMPLES, n)), axis=1)  # sorted indices = sorted values
    b = np.sort(rng.integers(0, n, size=(RESAMPLES, current_rows)), axis=1)
    quantiles_a = ordered[a[:, (at * n).astype(np.int64)]]  # (resample, quantile)
    quantiles_b = ordered[b[:, (at * current_rows).astype(np.int64)]]
    return float(np.abs(quantiles_a - quantiles_b).mean(axis=1).max() / norm)


def _chance_jensen_shannon(
    values: npt.NDArray[np.int64], classes: int, current_rows: int, rng: np.random.Generator
) -> float:
    """Largest Jensen-Shannon distance between resamples of one categorical column."""
    shares = np.bincount(np.clip(values, 0, classes - 1), minlength=classes) / max(len(values), 1)
    p = rng.multinomial(len(values), shares, size=RESAMPLES) / len(values)  # (resample, class)
    q = rng.multinomial(current_rows, shares, size=RESAMPLES) / current_rows
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(np.maximum(divergence, 0.0)).max())


def _relative_entropy(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Σ p ln(p/q) over the last axis, with 0 ln 0 = 0."""
    safe_q = np.where(q > 0, q, 1.0)
    safe_p = np.where(p > 0, p, safe_q)
    result: npt.NDArray[np.float64] = (p * np.log(safe_p / safe_q)).sum(axis=-1)
    return result
