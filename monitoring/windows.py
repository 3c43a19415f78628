"""What a window holds, and how two of them become one: integer counts and fixed-point sums, nothing else.

Addition of integers is exact, commutative and associative, so a window's bytes depend only on the set of records in it:
not on their order, not on how they were cut into batches, not on where the monitor was killed. That is why there are
no KLL sketches here: their compaction draws random bits (docs/decisions/0040).
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from monitoring.baseline import BINS, Baseline

EXCESS_ONE = 1 << 20  # fixed point of excesses, in units of the quantity's scale
EXCESS_CAP = 1e5  # scales; one absurd value must not own a window's Wasserstein distance
FEATURE_ONE = 1 << 30  # fixed point of random Fourier features, each within [-1, 1]
LATENCY_PARTS = ("queue", "compute", "total")
LATENCY_STEPS = 8  # buckets an octave: a quantile is off by at most 4.5 %
LATENCY_BINS = 30 * LATENCY_STEPS
_COLUMNS_AT_ONCE = 64
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowStats:
    """Mergeable statistics over Q watched quantities and C classes, for one version in one window.

    Attributes:
        layout: `Baseline.layout` by which it was counted.
        counts: (Q, 103) values per bin.
        below: (Q,) fixed-point sum of how far values lie below the reference's smallest, in scales.
        above: (Q,) the same above its largest.
        not_finite: (Q,) values left out because they are NaN or infinite.
        predicted: (C,) rows by predicted class.
        labels: (C,) labelled rows by true class.
        features: (D,) fixed-point sum of random Fourier features.
        feature_rows: (1,) rows behind `features`.
        latency: (3, 240) requests by logarithmic bucket of queue, compute and total time.
        sureness: How sure the model was, by `export.contracts.accuracy.count_sureness`; empty where no accuracy is
            estimated.
        unbinned: (1,) rows whose histograms were left out because the version's baseline changed within the window.
    """

    layout: str
    counts: Ints
    below: Ints
    above: Ints
    not_finite: Ints
    predicted: Ints
    labels: Ints
    features: Ints
    feature_rows: Ints
    latency: Ints
    unbinned: Ints
    sureness: Ints

    @classmethod
    def empty(cls, baseline: Baseline) -> WindowStats:
        """Statistics of no records."""
        q, c = len(baseline.quantities), baseline.classes
        shapes: dict[str, tuple[int, ...]] = {
            "counts": (q, BINS),
            "below": (q,),
            "above": (q,),
            "not_finite": (q,),
            "predicted": (c,),
            "labels": (c,),
            "features": (baseline.embedding_size,),
            "feature_rows": (1,),
            "latency": (len(LATENCY_PARTS), LATENCY_BINS),
            "unbinned": (1,),
            "sureness": (baseline.sureness_size,),
        }
        zeros = {name: np.zeros(shape, dtype=np.int64) for name, shape in shapes.items()}
        return cls(layout=baseline.layout, **zeros)

    def merge(self, other: WindowStats) -> WindowStats:
        """Statistics of the records of both. With another layout only what does not depend on it is added."""
        if self.layout == other.layout:
            return WindowStats(layout=self.layout, **{n: getattr(self, n) + getattr(other, n) for n in _ARRAYS})
        # The newer baseline would make the older counts wrong; the larger layout wins, whichever comes first.
        keep, drop = (self, other) if self.layout > other.layout else (other, self)
        arrays = {n: getattr(keep, n) for n in _ARRAYS}
        arrays["latency"] = keep.latency + drop.latency
        arrays["unbinned"] = keep.unbinned + drop.unbinned + drop.rows
        return WindowStats(layout=keep.layout, **arrays)

    @property
    def rows(self) -> Ints:
        """(1,) rows that were counted, of the quantity that has most."""
        per_quantity = self.counts.sum(axis=1) + self.not_finite
        return np.array([per_quantity.max(initial=0)], dtype=np.int64)

    def feature_mean(self) -> npt.NDArray[np.float64] | None:
        """Mean random Fourier features (D,), or None without rows."""
        rows = int(self.feature_rows[0])
        return None if rows == 0 else np.asarray(self.features / (FEATURE_ONE * rows), dtype=np.float64)

    def latency_quantile_us(self, part: str, level: float) -> float | None:
        """Quantile of a latency part in µs (geometric middle of its bucket); None without requests."""
        buckets = self.latency[LATENCY_PARTS.index(part)]
        total = int(buckets.sum())
        if total == 0:
            return None
        bucket = int(np.searchsorted(np.cumsum(buckets), level * total, side="left"))
        return float(2.0 ** ((min(bucket, LATENCY_BINS - 1) + 0.5) / LATENCY_STEPS))

    def encode(self) -> bytes:
        """Bytes for the database: a JSON head, NUL, then the arrays as compressed little-endian int64."""
        head = {"layout": self.layout, "shapes": {n: list(getattr(self, n).shape) for n in _ARRAYS}}
        body = b"".join(np.ascontiguousarray(getattr(self, n), dtype="<i8").tobytes() for n in _ARRAYS)
        return json.dumps(head, separators=(",", ":")).encode() + b"\0" + zlib.compress(body, 1)

    @classmethod
    def decode(cls, data: bytes) -> WindowStats:
        """The inverse of `encode`.

        Raises:
            ValueError: not what `encode` writes.
        """
        head_bytes, _, body = data.partition(b"\0")
        head, plain = json.loads(head_bytes), zlib.decompress(body)
        arrays: dict[str, Any] = {}
        offset = 0
        for name in _ARRAYS:
            shape = tuple(head["shapes"].get(name, (0,)))  # windows of earlier releases have no `sureness`
            size = int(np.prod(shape, dtype=np.int64))
            arrays[name] = np.frombuffer(plain, dtype="<i8", count=size, offset=offset).reshape(shape)
            offset += size * 8
        return cls(layout=head["layout"], **arrays)


_ARRAYS = tuple(f.name for f in fields(WindowStats) if f.name != "layout")


def count_values(baseline: Baseline, values: npt.NDArray[np.float32]) -> dict[str, Ints]:
    """Count watched values (rows, Q): `counts`, `below`, `above` and `not_finite` of a `WindowStats`.

    Each column is sorted and the edges are looked up in it, not the values in the edges: 102 look-ups instead of one a
    row. Some columns at a time, so that memory stays flat however many there are.
    """
    width = len(baseline.quantities)
    counts = np.zeros((width, BINS), dtype=np.int64)
    below, above, not_finite = (np.zeros(width, dtype=np.int64) for _ in range(3))
    for start in range(0, width, _COLUMNS_AT_ONCE):
        block = np.array(values[:, start : start + _COLUMNS_AT_ONCE].T, dtype=np.float32, order="C")  # (columns, rows)
        finite = np.isfinite(block)
        known = finite.sum(axis=1)
        if not finite.all():
            block[~finite] = np.nan  # sorts behind everything
            not_finite[start : start + len(block)] = block.shape[1] - known
        block.sort(axis=1)
        for i, n in enumerate(known.tolist()):
            q, column = start + i, block[i, :n]
            edges = baseline.edges[q]
            ends = column.searchsorted(edges)  # values below each edge
            counts[q, 0], counts[q, 1:-1], counts[q, -1] = ends[0], np.diff(ends), n - ends[-1]
            if ends[0]:
                below[q] = _excess(float(edges[0]) - column[: ends[0]].astype(np.float64), baseline.scale[q])
            if ends[-1] < n:
                above[q] = _excess(column[ends[-1] :].astype(np.float64) - float(edges[-2]), baseline.scale[q])
    return {"counts": counts, "below": below, "above": above, "not_finite": not_finite}


def count_latency(parts_us: tuple[Ints, Ints, Ints]) -> Ints:
    """Count requests by logarithmic bucket, (3, 240), from queue, compute and total times in µs."""
    rows = []
    for part in parts_us:
        octaves = np.log2(np.maximum(part, 1).astype(np.float64))
        bucket = np.minimum((octaves * LATENCY_STEPS).astype(np.int64), LATENCY_BINS - 1)
        rows.append(np.bincount(bucket, minlength=LATENCY_BINS))
    return np.stack(rows).astype(np.int64)


def sum_features(features: npt.NDArray[np.float64]) -> tuple[Ints, int]:
    """Fixed-point sum (D,) of the finite rows of random Fourier features (rows, D), and how many rows those are."""
    finite = np.isfinite(features).all(axis=1)
    kept = features if finite.all() else features[finite]
    return np.rint(kept * FEATURE_ONE).astype(np.int64).sum(axis=0), len(kept)


def _excess(distance: npt.NDArray[np.float64], scale: float) -> int:
    capped = np.minimum(distance / scale, EXCESS_CAP)
    return int(np.rint(capped * EXCESS_ONE).astype(np.int64).sum())
