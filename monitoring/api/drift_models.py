"""What the API answers about what moved."""

from __future__ import annotations

from pydantic import Field

from monitoring.api.fields import Answer, Time
from monitoring.moves import MoveKind
from monitoring.slice_drift import SliceState


class Quantiles(Answer):
    """A quantity on one side; null without values."""

    low: float | None = Field(description="5 %.")
    quarter: float | None
    median: float | None
    three_quarters: float | None
    high: float | None = Field(description="95 %.")


class SizePoint(Answer):
    """How far something was from where it had been, over some neighbouring windows."""

    start: Time
    end: Time
    size: float | None = Field(description="In thresholds; null where there was not enough data.")


class Distribution(Answer):
    """Two samples in the same columns. Of a quantity the first and last column are what lies beyond the reference."""

    labels: list[str]
    before: list[float]
    after: list[float]
    numeric: bool


class Move(Answer):
    """One thing, and how far it is from the reference."""

    kind: MoveKind
    subject: str
    sentence: str = Field(description='What happened, such as "brightness rose: median 0.31 → 0.55".')
    moved: bool = Field(description="More than chance and the floor explain.")
    size: float = Field(description="Distance in thresholds; ranks the list.")
    method: str
    value: float
    threshold: float
    rows_before: int
    rows_after: int
    since: Time | None = Field(description="Start of the windows from which on it has been over its threshold.")
    before: Quantiles | None
    after: Quantiles | None
    share_before: float | None
    share_after: float | None
    towards: str | None = Field(description="Of embeddings: the class they moved towards.")
    away: str | None
    distribution: Distribution | None
    timeline: list[SizePoint] | None = Field(description="Of the first moves of the list.")


class Moves(Answer):
    """What moved most first, beside the reference compiled at export."""

    model: str
    version: str
    start: Time | None
    end: Time | None
    rows: int
    windows: int
    problem: str | None = Field(description='Why nothing can be compared, such as "not enough data: ...".')
    moved: int
    compared: int
    moves: list[Move]


class SliceMove(Answer):
    """One slice, and what moved most in it."""

    attribute: str = Field(description='Such as "predicted class", or the name of a tag or request parameter.')
    value: str
    state: SliceState = Field(description='"ok", or why there is no comparison.')
    words: str = Field(description="What moved most, or why nothing can be said.")
    moved: bool
    size: float | None = Field(description="Distance in thresholds; null where nothing was compared.")
    subject: str | None
    rows: int
    rows_before: int
    against: str = Field(description='"its own past", "the reference", or empty.')
    start: Time | None = Field(description="Since when rows count as now.")
    p_wrong: float | None = Field(description="Mean P(wrong) now.")
    p_wrong_before: float | None


class SliceMoves(Answer):
    """Slices, what moved most first: each beside its own past, or beside the reference."""

    model: str
    version: str
    moved: int
    compared: int
    slices: list[SliceMove]
