"""What the page of a case is made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One class and its probability. `role` is "predicted", "truth", "both" or ""."""

    label: str
    value: float
    role: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreLine:
    """A score, what it is, and how it reads."""

    name: str
    value: float | None
    meaning: str
    reading: str = ""  # where it lies among those of the reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A part of the answer's time."""

    name: str
    us: int
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackLine:
    """What somebody said."""

    at: str
    label: str | None
    score: float | None
    comment: str | None
    author: str | None
    held: str
    tone: str
    because: str
