"""Charts as geometry: pure functions from a panel's numbers to SVG coordinates. Templates only write them down."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from monitoring.console.parts import Panel, Series

Scale = Callable[[float], float]

WIDTH, HEIGHT = 640, 180
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rect:
    """A bar."""

    x: float
    y: float
    width: float
    height: float
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A series: a path with gaps, and dots."""

    name: str
    tone: str
    path: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A chart ready to be written as SVG. `columns` carry what the pointer shows: x, time, and "name: value" lines."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    bars: tuple[Rect, ...]
    limit_y: float | None
    columns: tuple[tuple[float, str, str], ...]
    empty: bool


def draw(panel: Panel, width: int = WIDTH, height: int = HEIGHT, bare: bool = False) -> Drawing:
    """Lay out a panel.

    Args:
        panel: Numbers.
        width: Of the SVG's view box.
        height: Of the SVG's view box.
        bare: No axes: a sparkline.
    """
    left, right = (0.0, float(width)) if bare else (float(LEFT), float(width - RIGHT))
    top, bottom = (2.0, float(height - 1)) if bare else (float(TOP), float(height - BOTTOM))
    values = [p.value for s in panel.series for p in s.points if p.value is not None]
    y_ticks = _y_ticks(panel, values)
    low, high = y_ticks[0], y_ticks[-1]
    span_s = max(panel.axis.to_s - panel.axis.from_s, panel.axis.step_s, 1)

    def x(at_s: float) -> float:
        return round(left + (at_s - panel.axis.from_s) / span_s * (right - left), 1)

    def y(value: float) -> float:
        inside = min(max(value, low), high)
        return round(bottom - (inside - low) / (high - low) * (bottom - top), 1)

    middle = panel.axis.step_s / 2
    return Drawing(
        width=width,
        height=height,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_ticks=() if bare else _x_ticks(panel, x),
        y_ticks=() if bare else tuple(Tick(at=y(v), label=number(v, panel.unit)) for v in y_ticks),
        lines=() if panel.bars else tuple(_line(s, panel, lambda t: x(t + middle), y) for s in panel.series),
        bars=_bars(panel, x, y, bottom) if panel.bars else (),
        limit_y=None if panel.limit is None else y(panel.limit),
        columns=() if bare else _columns(panel, lambda t: x(t + middle)),
        empty=not values,
    )


def number(value: float | None, unit: str) -> str:
    """A value as people read it: 12,345, or 97.3 %, or in thresholds."""
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001  # a dash that is as wide as a digit
    if unit == "share":
        return f"{value * 100:.1f} %".replace(".0 %", " %")
    if unit == "ratio":
        return f"{value:.2g}×" if value < 100 else f"{value:,.0f}×"  # noqa: RUF001  # the multiplication sign is meant
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.3g}"


def _y_ticks(panel: Panel, values: list[float]) -> tuple[float, ...]:
    if panel.bars and panel.series:
        stacked: dict[int, float] = {}
        for series in panel.series:
            for point in series.points:
                stacked[point.at_s] = stacked.get(point.at_s, 0.0) + (point.value or 0.0)
        values = list(stacked.values())
    if panel.unit == "share":
        lowest = min(values, default=0.0)
        # An axis cut above 80 % would make every wobble a cliff.
        if panel.key == "accuracy" and lowest >= 0.8:
            return (0.8, 0.85, 0.9, 0.95, 1.0)
        if panel.key == "accuracy" or max(values, default=1.0) > 0.5:
            return (0.0, 0.25, 0.5, 0.75, 1.0)
    top = max([*values, (panel.limit or 0.0) * 1.25, 0.04 if panel.unit == "share" else 1.0])
    step = _nice(top / 4)
    return tuple(step * i for i in range(math.ceil(top / step - 1e-9) + 1))


def _nice(raw: float) -> float:
    """1, 2 or 5 times a power of ten, not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))


_STEPS_S = (60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000)


def _x_ticks(panel: Panel, x: Scale) -> tuple[Tick, ...]:
    if panel.axis.counts:
        step = max(1, int(_nice((panel.axis.to_s - panel.axis.from_s + 1) / 6)))
        places = range(-(-panel.axis.from_s // step) * step, panel.axis.to_s + 1, step)
        return tuple(Tick(at=x(at), label=f"{at:,}") for at in places)
    span = max(panel.axis.to_s - panel.axis.from_s, panel.axis.step_s)
    step = next((s for s in _STEPS_S if span / s <= 6), _STEPS_S[-1])
    first = -(-panel.axis.from_s // step) * step
    form = "%H:%M" if step < 86400 else "%b %d"
    ticks = []
    for at in range(first, panel.axis.to_s + 1, step):
        place = x(at)
        anchor = "start" if place < LEFT + 12 else "end" if place > WIDTH - RIGHT - 12 else "middle"
        ticks.append(Tick(at=place, label=datetime.fromtimestamp(at, UTC).strftime(form), anchor=anchor))
    return tuple(ticks)


def _line(series: Series, panel: Panel, x: Scale, y: Scale) -> Line:
    pieces: list[str] = []
    dots: list[tuple[float, float]] = []
    previous: int | None = None
    for i, point in enumerate(series.points):
        if point.value is None:
            continue
        place = (x(point.at_s), y(point.value))
        joined = previous is not None and (series.marks or point.at_s - previous <= 3 * panel.axis.step_s)
        pieces.append(f"{'L' if joined else 'M'}{place[0]} {place[1]}")
        after = series.points[i + 1] if i + 1 < len(series.points) else None
        alone = not joined and (after is None or after.value is None or after.at_s - point.at_s > 3 * panel.axis.step_s)
        if series.marks or alone:
            dots.append(place)
        previous = point.at_s
    return Line(name=series.name, tone=series.tone, path="".join(pieces), dots=tuple(dots))


def _bars(panel: Panel, x: Scale, y: Scale, bottom: float) -> tuple[Rect, ...]:
    heights: dict[int, float] = {}
    found = []
    for series in panel.series:
        for point in series.points:
            if not point.value:
                continue
            below = heights.get(point.at_s, 0.0)
            heights[point.at_s] = below + point.value
            start, end = x(point.at_s), x(point.at_s + panel.axis.step_s)
            gap = min(1.0, (end - start) / 5)
            high, low = y(below + point.value), y(below)
            found.append(
                Rect(
                    x=start,
                    y=high,
                    width=round(max(end - start - gap, 0.8), 1),
                    height=round(max(low - high, 0.8), 1) if low <= bottom else 0.8,
                    tone=series.tone,
                )
            )
    return tuple(found)


def _columns(panel: Panel, x: Scale) -> tuple[tuple[float, str, str], ...]:
    lines: dict[int, list[str]] = {}
    for series in panel.series:
        for point in series.points:
            if point.value is not None:
                basis = f" (n = {point.n:,})" if point.n else ""
                lines.setdefault(point.at_s, []).append(f"{series.name}: {number(point.value, panel.unit)}{basis}")
    return tuple((x(at), _when(panel, at), "\n".join(texts)) for at, texts in sorted(lines.items()))


def _when(panel: Panel, at: int) -> str:
    return f"label {at:,}" if panel.axis.counts else datetime.fromtimestamp(at, UTC).strftime("%b %d, %H:%M")
