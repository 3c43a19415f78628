"""Which slices moved: the newest rows of each slice beside its own earlier ones, or beside the reference's.

A slice differs from the whole by nature; what matters is that it is no longer like itself. So each is compared with
its own past, and a predicted class that has none with the rows of the reference that were predicted as that class.
The thresholds of Kolmogorov-Smirnov hold for any two samples; Bonferroni runs over all slices and quantities, so that
a healthy version shows a moved slice as seldom as it shows one signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from monitoring.baseline import BINS, Baseline, bin_column
from monitoring.distance_tables import ks_table
from monitoring.distances import ks_chance
from monitoring.drift import Method
from monitoring.move_words import sentence
from monitoring.moves import KINDS, Move
from monitoring.options import DriftOptions
from monitoring.sides import spreads
from monitoring.slice_stats import P_WRONG_ONE, PREDICTED, Key, SliceCounts, SliceStats, watched_columns

FLOOR = 0.1  # of Kolmogorov-Smirnov: a slice has few rows, and a smaller gap is nobody's business
Stretches: TypeAlias = Sequence[tuple[int, SliceStats]]


class SliceState(StrEnum):
    """Whether there is a comparison."""

    OK = "ok"  # compared
    NOT_ENOUGH_DATA = "not_enough_data"  # too few rows now
    NO_PAST = "no_past"  # too few rows before, and none in the reference


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceDrift:
    """One slice. `move` is what moved most in it; None unless `state` is OK.

    Attributes:
        attribute: Such as "predicted class" or a tag's name.
        value: Its value.
        rows: Rows now.
        rows_before: Rows it is compared with.
        against: "its own past" or "the reference".
        start_s: Since when the rows count as now.
        p_wrong: Mean P(wrong) now.
        p_wrong_before: Mean P(wrong) before; None against the reference.
        words: What moved, as a sentence, or why nothing can be said.
    """

    attribute: str
    value: str
    state: SliceState
    rows: int
    rows_before: int = 0
    against: str = ""
    start_s: int | None = None
    p_wrong: float | None = None
    p_wrong_before: float | None = None
    move: Move | None = None
    words: str = ""

    @property
    def size(self) -> float:
        """Distance in thresholds; 0 where nothing was compared."""
        return 0.0 if self.move is None else self.move.size


def slice_drift(baseline: Baseline, stretches: Stretches, options: DriftOptions) -> tuple[SliceDrift, ...]:
    """Every slice of the newest stretches, what moved most first."""
    fitting = [(start, stats) for start, stats in stretches if stats.layout == baseline.layout]
    keys = sorted({key for _, stats in fitting for key in stats.slices})
    if not keys:
        return ()
    columns = watched_columns(baseline)
    alpha = options.false_signal_rate / (len(keys) * max(len(columns), 1))
    found = [_one(baseline, key, fitting, columns, alpha, options) for key in keys]
    return tuple(sorted(found, key=lambda s: (-s.size, -s.rows, s.attribute, s.value)))


def _one(
    baseline: Baseline,
    key: Key,
    stretches: Stretches,
    columns: npt.NDArray[np.int64],
    alpha: float,
    options: DriftOptions,
) -> SliceDrift:
    parts = [(start, stats.slices[key]) for start, stats in stretches if key in stats.slices]
    now, rest, start_s = _newest(parts, options.min_rows)
    attribute, value = key
    about = {"attribute": attribute, "value": value, "rows": now.rows, "start_s": start_s}
    p_now = _p_wrong(now)
    if now.rows < options.min_rows:
        words = f"not enough data: {now.rows} rows, {options.min_rows} are needed"
        return SliceDrift(**about, state=SliceState.NOT_ENOUGH_DATA, p_wrong=p_now, words=words)  # type: ignore[arg-type]
    before, against = rest, "its own past"
    if before is None or before.rows < options.min_rows:
        before, against = _reference(baseline, key, columns), "the reference"
    if before is None or before.rows < options.min_rows:
        words = "nothing to compare with: too few rows of it before, and too few in the reference"
        return SliceDrift(**about, state=SliceState.NO_PAST, p_wrong=p_now, words=words)  # type: ignore[arg-type]
    move = _farthest(baseline, before, now, columns, alpha)
    if move is None:
        words = "nothing to compare with: none of its quantities is known on both sides"
        return SliceDrift(**about, state=SliceState.NO_PAST, p_wrong=p_now, words=words)  # type: ignore[arg-type]
    signature = None if baseline.manifest is None else baseline.manifest.signature
    return SliceDrift(
        **about,  # type: ignore[arg-type]
        state=SliceState.OK,
        rows_before=before.rows,
        against=against,
        p_wrong=p_now,
        p_wrong_before=_p_wrong(before) if against == "its own past" else None,
        move=move,
        words=sentence(move, signature),
    )


def _newest(parts: Sequence[tuple[int, SliceCounts]], min_rows: int) -> tuple[SliceCounts, SliceCounts | None, int]:
    """The newest stretches that hold enough rows, all the earlier ones, and where they part."""
    start_s, now = parts[-1]
    left = list(parts[:-1])
    while now.rows < min_rows and left:
        start_s, counts = left.pop()
        now = counts.merge(now)
    rest: SliceCounts | None = None
    for _, counts in left:
        rest = counts if rest is None else rest.merge(counts)
    return now, rest, start_s


def _farthest(
    baseline: Baseline, before: SliceCounts, now: SliceCounts, columns: npt.NDArray[np.int64], alpha: float
) -> Move | None:
    n, known = now.counts.sum(axis=1), before.counts.sum(axis=1)
    usable = np.flatnonzero((n > 0) & (known > 0))
    if not len(usable):
        return None
    gaps = ks_table(now.counts[usable], before.counts[usable])
    limits = np.array([max(ks_chance(int(n[i]), int(known[i]), alpha), FLOOR) for i in usable])
    worst = int(np.argmax(gaps / limits))
    i = int(usable[worst])
    q = int(columns[i])
    edges = baseline.edges[[q]]
    return Move(
        kind=KINDS[baseline.quantities[q].kind],
        subject=baseline.quantities[q].name,
        method=Method.KS,
        value=float(gaps[worst]),
        threshold=float(limits[worst]),
        size=float(gaps[worst] / limits[worst]),
        before=int(known[i]),
        after=int(n[i]),
        row=q,
        spread_before=spreads(before.counts[[i]], edges)[0],
        spread_after=spreads(now.counts[[i]], edges)[0],
    )


def _reference(baseline: Baseline, key: Key, columns: npt.NDArray[np.int64]) -> SliceCounts | None:
    """The reference's rows that were predicted as a class; scores are not kept row by row, so they are left out."""
    profile = baseline.profile
    attribute, value = key
    if attribute != PREDICTED or profile is None or profile.frame_predicted is None:
        return None
    names = baseline.class_names or tuple(str(i) for i in range(baseline.classes))
    if value not in names:
        return None
    frame = profile.frame[np.asarray(profile.frame_predicted) == names.index(value)]
    counts = np.zeros((len(columns), BINS), dtype=np.int64)
    for i, q in enumerate(columns.tolist()):
        if q < min(baseline.input_columns, frame.shape[1]):
            column = frame[:, q]
            counts[i] = np.bincount(bin_column(baseline.edges[q], column[np.isfinite(column)]), minlength=BINS)
    nothing = np.zeros(len(columns), dtype=np.int64)
    return SliceCounts(rows=len(frame), p_wrong_sum=0, counts=counts, below=nothing, above=nothing)


def _p_wrong(counts: SliceCounts) -> float | None:
    return counts.p_wrong_sum / P_WRONG_ONE / counts.rows if counts.rows else None
