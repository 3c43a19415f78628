"""Durations counted in buckets whose width grows with their value: a bounded size, and a bounded relative error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_SUB_BITS = 7  # 128 buckets an octave: a bucket is at most 1/128 of its values wide, its middle at most 0.4 % off
_SUB = 1 << _SUB_BITS
_MAX_BITS = 43  # 2**43 ns are 2.4 hours; longer ones count as that
_LARGEST = (1 << _MAX_BITS) - 1
_BUCKETS = (_MAX_BITS - _SUB_BITS) * _SUB + _SUB

Counts = npt.NDArray[np.int64]


class Histogram:
    """Counts of durations in nanoseconds; mergeable by addition, as several processes need it.

    Values below 128 ns are exact. Above, a value's bucket is its leading eight bits, so a percentile is at most 0.4 %
    from the exact one, and never beyond the smallest and largest value, which are kept as they are.

    Example:
        >>> h = Histogram()
        >>> h.add([1_000, 2_000, 3_000, 100_000])
        >>> h.count, h.min, h.max, round(h.percentile(50))
        (4, 1000, 100000, 2000)

    References:
        G. Tene, HdrHistogram (hdrhistogram.org), for the idea of buckets with a fixed number of leading bits.
    """

    __slots__ = ("counts", "max", "min", "total")

    def __init__(self) -> None:
        self.counts: Counts = np.zeros(_BUCKETS, np.int64)
        self.min = 0
        self.max = 0
        self.total = 0

    def add(self, values_ns: Iterable[int] | npt.NDArray[np.int64]) -> None:
        """Count durations, each >= 0; they may come in any order."""
        values = np.asarray(values_ns if isinstance(values_ns, np.ndarray | list) else list(values_ns), np.int64)
        if not len(values):
            return
        low, high = int(values.min()), int(values.max())
        if low < 0:
            raise ValueError(f"a duration cannot be negative: {low} ns")
        self._widen(low, high, self.count)
        self.total += int(values.sum())
        np.add.at(self.counts, _bucket(np.minimum(values, _LARGEST)), 1)

    def merge(self, other: Histogram) -> None:
        """Add another histogram's counts."""
        if other.count:
            self._widen(other.min, other.max, self.count)
            self.total += other.total
            self.counts += other.counts

    def _widen(self, low: int, high: int, count: int) -> None:
        self.min = low if not count else min(self.min, low)
        self.max = max(self.max, high)

    @property
    def count(self) -> int:
        """How many durations."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Their mean in nanoseconds, exact; 0 without any."""
        count = self.count
        return self.total / count if count else 0.0

    def percentile(self, percent: float) -> float:
        """The smallest value that at least `percent` % of the durations do not exceed (numpy: `inverted_cdf`).

        Args:
            percent: 0 to 100.

        Raises:
            ValueError: there are no durations.
        """
        count = self.count
        if not count:
            raise ValueError("an empty histogram has no percentiles")
        rank = max(1, int(np.ceil(percent / 100 * count - 1e-9)))
        if rank >= count:
            return float(self.max)
        index = int(np.searchsorted(np.cumsum(self.counts), rank))
        return float(min(max(_middle(index), self.min), self.max))

    def share_above(self, limit_ns: float) -> float:
        """Share of the durations, 0 to 1, whose bucket lies above a limit; 0 without any."""
        count = self.count
        if not count or limit_ns >= self.max:
            return 0.0
        index = int(_bucket(np.asarray([min(int(limit_ns), _LARGEST)], np.int64))[0])
        return float(self.counts[index + 1 :].sum()) / count

    def to_plain(self) -> dict[str, Any]:
        """For JSON: filled buckets only."""
        filled = np.flatnonzero(self.counts)
        return {
            "min": self.min,
            "max": self.max,
            "total": self.total,
            "index": filled.tolist(),
            "count": self.counts[filled].tolist(),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Histogram:
        """The inverse of `to_plain`.

        Raises:
            ValueError: a bucket that does not exist.
        """
        made = cls()
        index = np.asarray(plain["index"], np.int64)
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= _BUCKETS):
            raise ValueError("a histogram has a bucket that does not exist")
        made.counts[index] = plain["count"]
        made.min, made.max, made.total = int(plain["min"]), int(plain["max"]), int(plain["total"])
        return made


def merged(parts: Iterable[Histogram]) -> Histogram:
    """The sum of several histograms."""
    total = Histogram()
    for part in parts:
        total.merge(part)
    return total


def curve(histogram: Histogram, percents: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """(percent, nanoseconds) for each percent that the number of durations can tell apart; empty without any."""
    count = histogram.count
    seen = [p for p in percents if count and (p == 100 or count * (1 - p / 100) >= 1 - 1e-6)]
    return tuple((p, histogram.percentile(p)) for p in seen)


def _bucket(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bucket of each value, 0 <= value < 2**43: values in float64 are exact up to 2**53."""
    bits = np.frexp(values.astype(np.float64))[1].astype(np.int64)  # the value's bit length
    shift = np.maximum(bits - _SUB_BITS - 1, 0)
    return (shift << _SUB_BITS) + (values >> shift)


def _middle(index: int) -> float:
    """Middle of a bucket in nanoseconds."""
    if index < 2 * _SUB:
        return float(index)
    shift = (index >> _SUB_BITS) - 1
    low = (index - (shift << _SUB_BITS)) << shift
    return low + ((1 << shift) - 1) / 2
