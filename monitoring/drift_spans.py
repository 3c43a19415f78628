"""What moved in a span of time, since when, and how it looked before: read from the windows, nothing else is kept.

The windows are exact and merge in any order, so the same span gives the same answer whenever it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.baseline import Baseline
from monitoring.moves import Move, MoveKind, moves
from monitoring.options import DriftOptions
from monitoring.sides import Side
from monitoring.store import Store
from monitoring.windows import WindowStats

MAX_WINDOWS = 3000  # newest of a span: two days of minutes
POINTS = 72  # of a timeline at most
COLUMNS = 26  # of a drawn distribution: 24 inside the reference's range, one on either side
Key: TypeAlias = tuple[MoveKind, str]
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """Neighbouring windows added up, for one point of a timeline."""

    start_s: int
    end_s: int
    stats: WindowStats

    @property
    def rows(self) -> int:
        """Rows that were counted."""
        return int(self.stats.rows[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class SizePoint:
    """How far something was, in thresholds; None where there was not enough data."""

    start_s: int
    end_s: int
    size: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """Shares of two samples in the same columns.

    Attributes:
        labels: Of the columns: classes, or the lower ends of intervals; the first and last interval are what lies
            below and above everything in the reference.
        before: Share of each column.
        after: Share of each column.
        numeric: Whether the columns are intervals.
    """

    labels: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    numeric: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class SpanDrift:
    """What a span of windows is like beside the reference, or beside an earlier span.

    Attributes:
        rows: Rows in the span.
        windows: How many windows.
        start_s: Of the first of them, None without any.
        end_s: Of the last.
        problem: Why there is nothing to compare, or "".
        moves: What moved most first.
        timelines: Of the moves that were asked for.
    """

    rows: int
    windows: int
    start_s: int | None
    end_s: int | None
    problem: str
    before: Side | None
    after: Side | None
    moves: tuple[Move, ...]
    timelines: dict[Key, tuple[SizePoint, ...]]


def span_drift(
    store: Store,
    baseline: Baseline,
    options: DriftOptions,
    *,
    model: str,
    version: str,
    from_s: int | None = None,
    to_s: int | None = None,
    timelines: int = 0,
    each: bool = False,
) -> SpanDrift:
    """Compare the windows that start in [from_s, to_s) with the reference.

    Args:
        store: Where the windows are.
        baseline: Of the version.
        options: Floors and chance.
        model: Whose.
        version: Which.
        from_s: Start, or None for as far back as `MAX_WINDOWS` reach.
        to_s: End, or None.
        timelines: Of so many moves, the first ones, also how they were over time.
        each: As for `moves`.
    """
    found = window_stats(store, model, version, from_s, to_s)
    fitting = [s for s in found if s.stats.layout == baseline.layout]
    rows = sum(s.rows for s in fitting)
    problem = _problem(baseline, found, fitting, rows, options)
    bounds = (found[0].start_s, found[-1].end_s) if found else (None, None)
    nothing: tuple[Move, ...] = ()
    if problem:
        return SpanDrift(
            rows=rows,
            windows=len(found),
            start_s=bounds[0],
            end_s=bounds[1],
            problem=problem,
            before=None,
            after=None,
            moves=nothing,
            timelines={},
        )
    before, after = Side.of_reference(baseline), Side.of_windows(merged(s.stats for s in fitting))
    made = moves(baseline, before, after, options, each=each)
    keys = [(m.kind, m.subject) for m in made[:timelines]]
    return SpanDrift(
        rows=rows,
        windows=len(found),
        start_s=bounds[0],
        end_s=bounds[1],
        problem="",
        before=before,
        after=after,
        moves=made,
        timelines=_timelines(baseline, before, fitting, options, keys, each=each),
    )


def window_stats(store: Store, model: str, version: str, from_s: int | None, to_s: int | None) -> tuple[Stretch, ...]:
    """The windows of a span, all variants of one start added up, oldest first."""
    w, v = t.windows.c, t.versions.c
    query = (
        sa.select(w.start_s, w.length_s, w.stats)
        .join(t.versions, w.version_id == v.id)
        .where(v.model == model, v.version == version)
    )
    if from_s is not None:
        query = query.where(w.start_s >= from_s)
    if to_s is not None:
        query = query.where(w.start_s < to_s)
    by_start: dict[int, Stretch] = {}
    with store.read() as connection:
        for start_s, length_s, data in connection.execute(query.order_by(w.start_s.desc()).limit(MAX_WINDOWS)):
            stats = WindowStats.decode(data)
            known = by_start.get(start_s)
            total = stats if known is None else known.stats.merge(stats)
            by_start[start_s] = Stretch(start_s=start_s, end_s=start_s + length_s, stats=total)
    return tuple(by_start[start] for start in sorted(by_start))


def merged(parts: Iterable[WindowStats]) -> WindowStats:
    """The statistics of all rows; all of one layout, at least one."""
    first, *rest = parts
    for part in rest:
        first = first.merge(part)
    return first


def since(points: Sequence[SizePoint]) -> int | None:
    """Start of the first point from which on everything was over the threshold; None when the newest is not."""
    start: int | None = None
    for point in reversed(points):
        if point.size is None:
            continue
        if point.size <= 1.0:
            break
        start = point.start_s
    return start


def distribution(baseline: Baseline, before: Side, after: Side, move: Move) -> Distribution | None:
    """What a move looks like drawn; None for embeddings and missing values."""
    if move.kind is MoveKind.PREDICTION:
        return _class_distribution(baseline, before, after)
    if move.kind not in (MoveKind.INPUT, MoveKind.SCORE, MoveKind.ANSWER) or move.row < 0:
        return None
    edges = baseline.edges[move.row].astype(np.float64)
    low, high = float(edges[0]), float(edges[-2])
    if high <= low:
        high = low + max(abs(low), 1.0) * 0.01
    grid = np.linspace(low, high, COLUMNS - 1)
    columns = [_columns(side.counts[move.row], edges, grid) for side in (before, after)]
    labels = ("below", *(f"{x:.4g}" for x in grid[:-1]), "above")
    return Distribution(labels=labels, before=columns[0], after=columns[1], numeric=True)


def _columns(counts: npt.NDArray[Any], edges: Floats, grid: Floats) -> tuple[float, ...]:
    """Shares below the grid, in each of its intervals and above it; rows are spread evenly over a bin."""
    rows = max(int(counts.sum()), 1)
    below_edge = np.cumsum(counts)[:-1] / rows  # share below each edge
    at = np.interp(grid, edges, below_edge)
    at[0], at[-1] = below_edge[0], below_edge[-1]
    return (float(at[0]), *(float(x) for x in np.diff(at)), float(1.0 - at[-1]))


def _class_distribution(baseline: Baseline, before: Side, after: Side) -> Distribution | None:
    if before.predicted is None or after.predicted is None:
        return None
    a, b = (side / max(int(side.sum()), 1) for side in (before.predicted, after.predicted))
    shown = np.sort(np.argsort(-np.abs(a - b), kind="stable")[:COLUMNS])
    names = [baseline.class_names[c] if c < len(baseline.class_names) else str(c) for c in shown]
    return Distribution(
        labels=tuple(names), before=tuple(a[shown].tolist()), after=tuple(b[shown].tolist()), numeric=False
    )


def _problem(
    baseline: Baseline, found: Sequence[Stretch], fitting: Sequence[Stretch], rows: int, options: DriftOptions
) -> str:
    if baseline.profile is None:
        return f"nothing to compare with: {baseline.problem or 'the version has no reference profile'}"
    if not found:
        return "no window of this version lies in the range"
    if not fitting:
        return "the windows were counted against another reference of this version"
    if rows < options.min_rows:
        return f"not enough data: {rows} rows in the range, {options.min_rows} are needed"
    return ""


def _timelines(
    baseline: Baseline,
    before: Side,
    found: Sequence[Stretch],
    options: DriftOptions,
    keys: Sequence[Key],
    *,
    each: bool,
) -> dict[Key, tuple[SizePoint, ...]]:
    if not keys:
        return {}
    lines: dict[Key, list[SizePoint]] = {key: [] for key in keys}
    for part in stretches(found, options.min_rows):
        after = Side.of_windows(part.stats)
        sizes = {(m.kind, m.subject): m.size for m in moves(baseline, before, after, options, each=each)}
        for key in keys:
            lines[key].append(SizePoint(start_s=part.start_s, end_s=part.end_s, size=sizes.get(key)))
    return {key: tuple(points) for key, points in lines.items()}


def stretches(found: Sequence[Stretch], min_rows: int) -> tuple[Stretch, ...]:
    """Neighbouring windows added up until each has enough rows, and there are at most `POINTS`."""
    if not found:
        return ()
    least_s = (found[-1].end_s - found[0].start_s) / POINTS
    made: list[Stretch] = []
    open_: Stretch | None = None
    for one in found:
        open_ = (
            one
            if open_ is None
            else Stretch(start_s=open_.start_s, end_s=one.end_s, stats=open_.stats.merge(one.stats))
        )
        if open_.rows >= min_rows and open_.end_s - open_.start_s >= least_s:
            made.append(open_)
            open_ = None
    return (*made, open_) if open_ is not None else tuple(made)
