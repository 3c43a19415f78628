"""Axes: from values to places on a drawing, with ticks at numbers that people read easily."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale with its ticks.

    Attributes:
        place: Value to coordinate.
        ticks: Values that are labelled.
        minor: Values that get a faint line.
    """

    place: Callable[[float], float]
    ticks: tuple[float, ...]
    minor: tuple[float, ...] = ()


def linear(most: float, start: float, end: float, *, ticks: int = 5) -> Axis:
    """From zero to a round number that holds `most`.

    Example:
        >>> linear(4300, 0, 100).ticks
        (0.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0)
    """
    most = most if most > 0 else 1.0
    raw = most / ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in _STEPS if s * power >= raw * 0.999)
    count = math.ceil(most / step - 1e-9)
    top = step * count
    return Axis(place=lambda v: start + (end - start) * v / top, ticks=tuple(step * n for n in range(count + 1)))


def logarithmic(least: float, most: float, start: float, end: float) -> Axis:
    """Decades with their 2 and 5; all values > 0."""
    least = max(least, 1e-9)
    most = max(most, least * 1.0001)
    low, high = math.log10(least), math.log10(most)
    room = max(0.04 * (high - low), 0.06)
    low, high = low - room, high + room
    every = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1.0, 2.0, 5.0)]
    inside = [v for v in every if low <= math.log10(v) <= high]
    decades = [v for v in inside if abs(math.log10(v) - round(math.log10(v))) < 1e-9]
    ticks = decades if len(decades) >= 3 else inside
    return Axis(
        place=lambda v: start + (end - start) * (math.log10(max(v, 1e-9)) - low) / (high - low),
        ticks=tuple(ticks),
        minor=tuple(v for v in inside if v not in ticks),
    )


def nines(start: float, end: float, most: float) -> Axis:
    """Percentiles by their number of nines: 90 is at 1, 99 at 2, 99.9 at 3.

    Args:
        start: Coordinate of percentile 0.
        end: Coordinate of `most`.
        most: Largest percentile that is drawn, below 100.
    """
    top = number_of_nines(most)
    marks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999]
    return Axis(
        place=lambda p: start + (end - start) * number_of_nines(p) / top,
        ticks=tuple(p for p in marks if number_of_nines(p) <= top + 1e-9),
    )


def number_of_nines(percent: float) -> float:
    """-log10 of the share that is above.

    Example:
        >>> round(number_of_nines(99.9), 6)
        3.0
    """
    return -math.log10(max(1 - percent / 100, 1e-9))


def path(points: Sequence[tuple[float, float]]) -> str:
    """An SVG path through points."""
    return "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points) if points else ""
