"""What the Drift page is made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.histograms import Histogram
from monitoring.console.parts import Panel


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceLine:
    """One slice. `size` is in thresholds; None where nothing was compared."""

    attribute: str
    value: str
    words: str
    state: str
    moved: bool
    size: float | None
    rows: int
    rows_before: int
    against: str
    p_wrong: float | None
    p_wrong_before: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureLine:
    """What Evidently's newest drift report says of one column."""

    name: str
    method: str
    value: float | None
    threshold: float | None
    ratio: float | None
    drifted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidently:
    """Evidently beside ours: its newest drift report, and its columns over all of them."""

    report_id: str
    at: str
    cause: str
    rows: int
    columns: tuple[FigureLine, ...]
    drifted: int
    panel: Panel | None


@dataclass(frozen=True, kw_only=True, slots=True)
class MoveLine:
    """One thing that was compared. `size` is in thresholds."""

    kind: str
    subject: str
    sentence: str
    moved: bool
    size: float
    method: str
    value: float
    threshold: float
    rows_before: int
    rows_after: int
    since: str | None
    histogram: Histogram | None
