"""What the Drift page is made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.histograms import Histogram


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
