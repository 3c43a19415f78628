"""The story's charts: the console's geometry (`monitoring.console.charts`), written as SVG into a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from deploy.demo.told import Event, Happened, Moment, Told
from monitoring.console.charts import Drawing, draw
from monitoring.console.parts import Axis, Panel, Point, Series

WIDTH, HEIGHT = 1040, 260
STEP_S = 2
TONES = ("1", "2", "3", "4", "5")
MARKED = (Happened.WORLD, Happened.ALARM, Happened.TRIGGER, Happened.GATE, Happened.ROLLOUT)


def accuracy_chart(told: Told) -> str:
    """Right answers of all, and of each version, every two seconds."""
    steps = _steps(told.moments)
    versions = sorted({v for m in told.moments for v in m.answers}, key=lambda v: (len(v), v))
    lines = [_series("all answers", "all", [(at, _share(part, None)) for at, part in steps])]
    lines += [
        _series(f"version {version}", tone, [(at, _share(part, version)) for at, part in steps])
        for version, tone in zip(versions, (*TONES, *TONES), strict=False)
    ]
    return _chart(told, "accuracy", "Right answers, by the truth that the clients know", "share", lines)


def share_chart(told: Told) -> str:
    """Which version answered how much."""
    steps = _steps(told.moments)
    versions = sorted({v for m in told.moments for v in m.answers}, key=lambda v: (len(v), v))
    lines = []
    for version, tone in zip(versions, (*TONES, *TONES), strict=False):
        points = []
        for at, part in steps:
            total = sum(n for m in part for n, _ in m.answers.values())
            own = sum(m.answers.get(version, (0, 0))[0] for m in part)
            points.append((at, own / total if total else None))
        lines.append(_series(f"version {version}", tone, points))
    return _chart(told, "shares", "Share of the answers", "share", lines)


def latency_chart(told: Told) -> str:
    """Mean and slowest answer every two seconds, as clients saw it."""
    steps = _steps(told.moments)
    mean = [(at, _mean([m.mean_ms for m in part])) for at, part in steps]
    worst = [(at, max((m.slowest_ms for m in part), default=None)) for at, part in steps]
    lines = [_series("mean, ms", "1", mean), _series("slowest, ms", "2", worst)]
    return _chart(told, "latency", "Time to an answer in ms, as the clients saw it", "count", lines)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _steps(moments: Sequence[Moment]) -> list[tuple[int, list[Moment]]]:
    parts: dict[int, list[Moment]] = {}
    for moment in moments:
        parts.setdefault(int(moment.at_s // STEP_S) * STEP_S, []).append(moment)
    return sorted(parts.items())


def _share(part: Sequence[Moment], version: str | None) -> float | None:
    answered = right = 0
    for moment in part:
        for name, (n, r) in moment.answers.items():
            if version is None or name == version:
                answered, right = answered + n, right + r
    return right / answered if answered >= (1 if version is None else 3) else None


def _series(name: str, tone: str, points: Sequence[tuple[int, float | None]]) -> Series:
    return Series(name=name, tone=tone, points=tuple(Point(at_s=at, value=value, n=1) for at, value in points))


def _chart(told: Told, key: str, title: str, unit: str, lines: Sequence[Series]) -> str:
    end = int(max((m.at_s for m in told.moments), default=1.0)) + STEP_S
    panel = Panel(
        key=key,
        title=title,
        hint="",
        unit=unit,
        axis=Axis(from_s=0, to_s=end, step_s=STEP_S, counts=True),
        series=tuple(lines),
    )
    return f"<figure><figcaption>{escape(title)}{_legend(lines)}</figcaption>{_svg(panel, told.events)}</figure>"


def _legend(lines: Sequence[Series]) -> str:
    keys = "".join(f'<span class="key tone-{escape(s.tone)}"><i></i>{escape(s.name)}</span>' for s in lines)
    return f'<span class="keys">{keys}</span>'


def _svg(panel: Panel, events: Sequence[Event]) -> str:
    d = draw(panel, WIDTH, HEIGHT)
    span = max(panel.axis.to_s, 1)

    def x(at_s: float) -> float:
        return round(d.left + at_s / span * (d.right - d.left), 1)

    parts = [f'<svg viewBox="0 0 {d.width} {d.height}" role="img" aria-label="{escape(panel.title)}">']
    parts += [
        f'<line class="grid" x1="{d.left}" x2="{d.right}" y1="{t.at}" y2="{t.at}"/>'
        f'<text class="tick" x="{d.left - 6}" y="{t.at + 4}" text-anchor="end">{escape(t.label)}</text>'
        for t in d.y_ticks
    ]
    parts += _time_axis(d, x, span)
    parts += [
        f'<line class="mark {escape(e.tone)}" x1="{x(e.at_s)}" x2="{x(e.at_s)}" y1="{d.top}" y2="{d.bottom}">'
        f"<title>{escape(f'{e.at_s:.0f} s: {e.text}')}</title></line>"
        for e in events
        if e.kind in MARKED
    ]
    for line in d.lines:
        parts.append(f'<path class="line tone-{escape(line.tone)}" d="{line.path}"/>')
        parts += [f'<circle class="tone-{escape(line.tone)}" cx="{cx}" cy="{cy}" r="2"/>' for cx, cy in line.dots]
    return "".join([*parts, "</svg>"])


def _time_axis(d: Drawing, x: object, span: int) -> list[str]:
    assert callable(x)
    step = next((s for s in (10, 15, 30, 60, 120) if span / s <= 12), 300)
    return [
        f'<text class="tick" x="{x(at)}" y="{d.bottom + 16}" text-anchor="middle">{at // 60}:{at % 60:02}</text>'
        for at in range(0, span + 1, step)
    ]
