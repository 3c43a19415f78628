"""What a case page shows of answers that are more than a class: boxes over the picture, values with their interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A box over the picture, in the units of its `Overlay`.

    Attributes:
        role: "predicted", "matched" (predicted and true), "spurious", "truth" (true and found) or "missed".
        score: How sure the model is, of predicted boxes.
    """

    label: str
    role: str
    x: float
    y: float
    width: float
    height: float
    score: float | None = None
    right: float | None = None  # calibrated P(right)


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlay:
    """Boxes over a picture of that size. `known` says whether somebody has given the true ones."""

    width: float
    height: float
    marks: tuple[Mark, ...]
    known: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A value with what is known about it; places are per cent of the drawn axis from `axis_low` to `axis_high`."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    truth: float | None
    tolerance: float | None
    axis_low: float
    axis_high: float
    value_at: float | None
    band_at: float | None
    band_width: float
    truth_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerPart:
    """The answer of a case; every part is empty where the task has none."""

    bars_title: str = "Class probabilities"
    overlay: Overlay | None = None
    intervals: tuple[Interval, ...] = ()
    note: str = ""
