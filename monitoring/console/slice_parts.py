"""What the pages about slices and like records are made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.parts import CaseCard, Panel


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceCard:
    """A slice in the list. `basis` says what the rate rests on."""

    id: str
    model: str
    version: str | None
    sentence: str
    words: str
    rate: float
    low: float
    high: float
    overall: float
    basis: str
    rows: int
    state: str
    first_at: str
    last_at: str
    trend: Panel
    examples: tuple[CaseCard, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LikeCard:
    """A recorded input that is like the case's."""

    href: str
    picture: str | None
    likeness: float
    predicted: str | None
    p_wrong: float | None
    label: str | None
    correct: bool | None
    at: str
