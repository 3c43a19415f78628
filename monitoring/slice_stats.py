"""What the rows of each slice were like in one stretch of time: integer counts that merge exactly, in any order.

A slice is one value of one attribute: a predicted class, a variant, a tag or parameter of the request. How many are
kept is bounded by what they are called, not by which came first: of a client's attributes those with the lowest hash,
of each one's values likewise. A slice that is kept in the end was kept from its first row, whatever the order.

References:
    Cohen & Kaplan, "Summarizing data using bottom-k sketches", PODC 2007.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from monitoring.baseline import BINS, Baseline, QuantityKind, bin_column
from monitoring.windows import EXCESS_CAP, EXCESS_ONE

PREDICTED, VARIANT = "predicted class", "variant"
OWN = (PREDICTED, VARIANT)  # attributes of ours; they are always kept
MAX_ATTRIBUTES = 4  # of clients
MAX_VALUES = 16  # of each of them
MAX_CLASSES = 32
MAX_COLUMNS = 40
P_WRONG_ONE = 1 << 20
Ints: TypeAlias = npt.NDArray[np.int64]
Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceCounts:
    """The rows of one slice.

    Attributes:
        rows: How many.
        p_wrong_sum: Fixed-point sum of P(wrong).
        counts: (columns, 103) values per bin.
        below: (columns,) fixed-point excess below the reference, in scales.
        above: (columns,) the same above it.
    """

    rows: int
    p_wrong_sum: int
    counts: Ints
    below: Ints
    above: Ints

    def merge(self, other: SliceCounts) -> SliceCounts:
        """The rows of both."""
        return SliceCounts(
            rows=self.rows + other.rows,
            p_wrong_sum=self.p_wrong_sum + other.p_wrong_sum,
            counts=self.counts + other.counts,
            below=self.below + other.below,
            above=self.above + other.above,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceStats:
    """All slices of one version in one stretch of time. `layout` is the baseline's: only equal ones merge."""

    layout: str
    slices: Mapping[Key, SliceCounts]

    def merge(self, other: SliceStats) -> SliceStats:
        """The rows of both; of another layout the larger one stays, whichever comes first."""
        if self.layout != other.layout:
            return max(self, other, key=lambda s: s.layout)
        both = dict(self.slices)
        for key, counts in other.slices.items():
            both[key] = both[key].merge(counts) if key in both else counts
        return SliceStats(layout=self.layout, slices=_bounded(both))

    def encode(self) -> bytes:
        """Bytes for the database: a JSON head, NUL, then the counts that are not zero, compressed."""
        keys = sorted(self.slices)
        columns = len(next(iter(self.slices.values())).below) if keys else 0
        head = {
            "layout": self.layout,
            "columns": columns,
            "slices": [[*key, self.slices[key].rows, self.slices[key].p_wrong_sum] for key in keys],
        }
        whole = _dense([self.slices[key] for key in keys], columns)
        at = np.flatnonzero(whole)
        body = np.diff(at, prepend=0).astype("<i4").tobytes() + whole[at].astype("<i8").tobytes()
        return json.dumps(head, separators=(",", ":")).encode() + b"\0" + zlib.compress(body, 1)

    @classmethod
    def decode(cls, data: bytes) -> SliceStats:
        """The inverse of `encode`."""
        head_bytes, _, body = data.partition(b"\0")
        head, plain = json.loads(head_bytes), zlib.decompress(body)
        n, columns, width = len(plain) // 12, head["columns"], BINS + 2
        whole = np.zeros(len(head["slices"]) * columns * width, dtype=np.int64)
        whole[np.cumsum(np.frombuffer(plain, "<i4", n))] = np.frombuffer(plain, "<i8", n, offset=4 * n)
        cube = whole.reshape(-1, columns, width) if columns else whole.reshape(len(head["slices"]), 0, width)
        slices = {
            (attribute, value): SliceCounts(
                rows=rows, p_wrong_sum=p_wrong, counts=cube[i, :, :BINS], below=cube[i, :, -2], above=cube[i, :, -1]
            )
            for i, (attribute, value, rows, p_wrong) in enumerate(head["slices"])
        }
        return cls(layout=head["layout"], slices=slices)


def watched_columns(baseline: Baseline) -> Ints:
    """Which quantities are counted slice by slice: descriptors, features while they are few, the answer, the scores."""
    features = [i for i, q in enumerate(baseline.quantities) if q.kind is QuantityKind.FEATURE]
    others = [i for i, q in enumerate(baseline.quantities) if q.kind is not QuantityKind.FEATURE]
    chosen = sorted(others + features) if len(features) + len(others) <= MAX_COLUMNS else others
    return np.array(chosen[:MAX_COLUMNS], dtype=np.int64)


def count_slices(
    baseline: Baseline,
    values: npt.NDArray[np.float32],
    p_wrong: npt.NDArray[Any],
    attributes: Mapping[str, npt.NDArray[Any]],
) -> SliceStats:
    """Count rows slice by slice.

    Args:
        baseline: Whose bins.
        values: Watched quantities, (rows, Q).
        p_wrong: (rows,), NaN where not known.
        attributes: By name, (rows,) texts each; "" belongs to no slice.
    """
    chosen = watched_columns(baseline)
    rows, columns = len(values), len(chosen)
    bins = np.zeros((rows, columns), dtype=np.int64)
    excess = np.zeros((2, rows, columns), dtype=np.int64)
    finite = np.isfinite(values[:, chosen])
    for i, q in enumerate(chosen.tolist()):
        column, edges = values[:, q], baseline.edges[q]
        bins[:, i] = bin_column(edges, np.where(finite[:, i], column, edges[0]))
        for side, far in ((0, float(edges[0]) - column.astype(float)), (1, column.astype(float) - float(edges[-2]))):
            outside = finite[:, i] & (bins[:, i] == (0 if side == 0 else BINS - 1))
            capped = np.clip(far[outside] / baseline.scale[q], 0.0, EXCESS_CAP)
            excess[side, outside, i] = np.rint(capped * EXCESS_ONE).astype(np.int64)
    wrong = np.rint(np.where(np.isfinite(p_wrong), p_wrong, 0.0).astype(np.float64) * P_WRONG_ONE).astype(np.int64)
    place = np.arange(columns) * BINS + bins  # (rows, columns)
    found: dict[Key, SliceCounts] = {}
    for name, given in attributes.items():
        texts, codes = np.unique(np.asarray(given, dtype=str), return_inverse=True)
        for code, text in enumerate(texts.tolist()):
            if not text or not _may_stay(baseline, name, text):
                continue
            here = codes == code
            counted = place[here][finite[here]]
            found[name, text] = SliceCounts(
                rows=int(here.sum()),
                p_wrong_sum=int(wrong[here].sum()),
                counts=np.bincount(counted, minlength=columns * BINS).reshape(columns, BINS).astype(np.int64),
                below=excess[0, here].sum(axis=0),
                above=excess[1, here].sum(axis=0),
            )
    return SliceStats(layout=baseline.layout, slices=_bounded(found))


def _may_stay(baseline: Baseline, attribute: str, value: str) -> bool:
    """Of very many classes those that the reference predicts most."""
    if attribute != PREDICTED or baseline.classes <= MAX_CLASSES:
        return True
    return value in _common_classes(baseline)


@lru_cache(maxsize=64)
def _common_classes(baseline: Baseline) -> frozenset[str]:
    names = baseline.class_names or tuple(str(i) for i in range(baseline.classes))
    profile = baseline.profile
    counts = None if profile is None or profile.classes is None else profile.classes.predicted_counts
    order = range(baseline.classes) if counts is None else np.argsort(-np.asarray(counts), kind="stable").tolist()
    return frozenset(names[i] for i in list(order)[:MAX_CLASSES])


def _bounded(slices: dict[Key, SliceCounts]) -> dict[Key, SliceCounts]:
    given = {attribute for attribute, _ in slices if attribute not in OWN}
    kept = {*OWN, *sorted(given, key=_lot)[:MAX_ATTRIBUTES]}
    values: dict[str, list[str]] = {}
    for attribute, value in slices:
        if attribute in kept:
            values.setdefault(attribute, []).append(value)
    made: dict[Key, SliceCounts] = {}
    for attribute in sorted(values):
        limit = MAX_CLASSES if attribute in OWN else MAX_VALUES
        for value in sorted(sorted(values[attribute], key=lambda v, a=attribute: _lot(f"{a}\0{v}"))[:limit]):  # type: ignore[misc]
            made[attribute, value] = slices[attribute, value]
    return made


def _lot(text: str) -> tuple[int, str]:
    return xxhash.xxh64_intdigest(text.encode("utf-8", "surrogatepass")), text


def _dense(parts: list[SliceCounts], columns: int) -> Ints:
    if not parts or not columns:
        return np.zeros(0, dtype=np.int64)
    return np.stack([np.concatenate([p.counts, p.below[:, None], p.above[:, None]], axis=1) for p in parts]).ravel()
