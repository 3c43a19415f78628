"""What the panel about P(wrong) shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FitLine:
    """A refit that was tried; `augrc` and `auroc` are of the new model, the present one and MSP."""

    number: int
    adopted: bool
    in_force: bool
    until: str
    labels: int
    audited: int
    augrc: tuple[float | None, float | None, float | None]
    auroc: tuple[float | None, float | None, float | None]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FitsBlock:
    """By what P(wrong) is given."""

    sentence: str
    lines: tuple[FitLine, ...]
