"""Boxes of labelling tools as the model writes its own."""

from __future__ import annotations

from export.contracts.task import BoxFormat, BoxRules

DIGITS = 6


def in_rules(corners: tuple[float, float, float, float], rules: BoxRules) -> list[float]:
    """Left, top, right, bottom in the model's units as the four numbers that the model gives.

    Example:
        >>> in_rules((1.0, 2.0, 4.0, 4.0), BoxRules(format=BoxFormat.CXCYWH))
        [2.5, 3.0, 3.0, 2.0]
    """
    left, top, right, bottom = corners
    width, height = right - left, bottom - top
    numbers = {
        BoxFormat.XYXY: corners,
        BoxFormat.XYWH: (left, top, width, height),
        BoxFormat.CXCYWH: (left + width / 2, top + height / 2, width, height),
    }[rules.format]
    return [round(number, DIGITS) for number in numbers]
