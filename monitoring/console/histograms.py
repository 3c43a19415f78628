"""Two distributions in the same columns as geometry: what it was like behind, what it is like in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 260, 74
BASE = 58.0  # y of the columns' feet
ROOM = 4.0  # above the tallest column


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column: where it stands, how tall it is on either side, and what the pointer says."""

    x: float
    width: float
    before_y: float
    before_height: float
    after_y: float
    after_height: float
    title: str
    beyond: bool  # outside what the reference has seen


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """Ready to be written as SVG. `ends` label the first and the last column."""

    width: int
    height: int
    base: float
    columns: tuple[Column, ...]
    ends: tuple[str, str]


def histogram(labels: Sequence[str], before: Sequence[float], after: Sequence[float], numeric: bool) -> Histogram:
    """Lay out two distributions.

    A column that holds more than three times the next tallest is cut at that, or the others would be flat; its title
    still tells its share.

    Args:
        labels: Of the columns; of a quantity the lower ends of intervals, "below" and "above" at the ends.
        before: Share of each column.
        after: Share of each column.
        numeric: Whether the columns are intervals.
    """
    ordered = sorted([*before, *after], reverse=True)
    top = max(ordered[0] if ordered else 0.0, 1e-9)
    second = next((x for x in ordered if x < top / 3), 0.0)
    if len(labels) > 4 and second > 0 and sum(x >= top / 3 for x in ordered) <= 2:
        top = max(3 * second, 0.05)
    step = WIDTH / max(len(labels), 1)
    columns = []
    for i, (label, a, b) in enumerate(zip(labels, before, after, strict=True)):
        low, high = (_height(x, top) for x in (a, b))
        where = _where(labels, i) if numeric else label
        columns.append(
            Column(
                x=round(i * step + 0.5, 1),
                width=round(max(step - 1.0, 1.0), 1),
                before_y=round(BASE - low, 1),
                before_height=low,
                after_y=round(BASE - high, 1),
                after_height=high,
                title=f"{where}: {a:.1%} before, {b:.1%} now",
                beyond=numeric and i in (0, len(labels) - 1),
            )
        )
    inner = labels[1:-1] if numeric else labels
    ends = (inner[0], inner[-1]) if inner else ("", "")
    return Histogram(width=WIDTH, height=HEIGHT, base=BASE, columns=tuple(columns), ends=ends)


def _height(share: float, top: float) -> float:
    return round(min(max(share, 0.0) / top, 1.0) * (BASE - ROOM), 1)


def _where(labels: Sequence[str], i: int) -> str:
    if i == 0:
        return "below everything in the reference"
    if i == len(labels) - 1:
        return "above everything in the reference"
    return f"from {labels[i]}"
