"""The report's drawings as inline SVG: colours come from the page's style, so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from deploy.loadtest.orders import Mode
from deploy.loadtest.results import Goal, Level, Report, Subject
from deploy.loadtest.scales import Axis, linear, logarithmic, nines, path
from deploy.loadtest.session import at_percentile
from deploy.loadtest.table import duration

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 18, 50
COLOURS = 6  # the page's style has that many; further subjects begin again
_PARTS = ("queue", "input", "infer", "output")
_MOST_CURVES = 4


def throughput_plot(report: Report) -> str:
    """Latency over throughput: where a server's curve turns upwards is what it can do."""
    percentile = report.goal.percentile if report.goal else 99.0
    series = [
        (n, [(lv, at) for lv in s.levels if (at := at_percentile(lv, percentile)) is not None and lv.throughput])
        for n, s in enumerate(report.subjects)
    ]
    levels = [pair for _, found in series for pair in found]
    if not levels:
        return ""
    medians = [lv.latency.p50_us for lv, _ in levels if lv.latency.p50_us]
    limit = [report.goal.limit_us] if report.goal else []
    lows, highs = [at for _, at in levels] + medians + limit, [at for _, at in levels] + limit
    x = linear(max(lv.throughput for lv, _ in levels) * 1.02, LEFT, WIDTH - RIGHT)
    y = logarithmic(min(lows), max(highs), HEIGHT - BOTTOM, TOP)
    parts = [_frame(x, y, "requests per second", f"latency: p{percentile:g} solid, p50 dashed", _count)]
    parts += _goal(report.goal, y)
    for number, found in series:
        colour = f"c{number % COLOURS}"
        half = [(x.place(lv.throughput), y.place(lv.latency.p50_us)) for lv, _ in found if lv.latency.p50_us]
        parts.append(f'<path class="line thin {colour}" d="{path(half)}"/>')
        parts.append(
            f'<path class="line {colour}" d="{path([(x.place(lv.throughput), y.place(at)) for lv, at in found])}"/>'
        )
        for level, at in found:
            left, top = x.place(level.throughput), y.place(at)
            name = report.subjects[number].name
            text = (
                f"{name}, {level.label}: {level.throughput:,.0f} requests/s, p{percentile:g} {duration(at)}, "
                f"p50 {duration(level.latency.p50_us)}{'' if level.stable else ', not stable'}"
            )
            hollow = "" if level.stable else " hollow"
            parts.append(
                f'<g><title>{escape(text)}</title><circle class="dot{hollow} {colour}" cx="{left:.1f}" cy="{top:.1f}" '
                f'r="4.5"/><text class="tag" x="{left:.1f}" y="{top - 9:.1f}">{level.value:g}</text></g>'
            )
    kinds = {lv.mode for lv, _ in levels}
    what = "callers" if kinds == {Mode.CONCURRENCY} else "requests/s asked for" if kinds == {Mode.RATE} else "load"
    return _svg(parts, f"Latency over throughput; the numbers at the points are {what}")


def percentile_plot(report: Report) -> str:
    """Latency over percentile: each subject at its best level, or one subject at several levels."""
    chosen = curves(report.subjects)
    drawn = [(n, fade, s, lv) for n, fade, s, lv in chosen if len(lv.curve) > 1]
    if not drawn:
        return ""
    most = max(lv.curve[-1][0] for *_, lv in drawn)
    values = [us for *_, lv in drawn for _, us in lv.curve if us > 0]
    x = nines(LEFT, WIDTH - RIGHT, max(most, 90.0))
    y = logarithmic(min(values), max(values), HEIGHT - BOTTOM, TOP)
    parts = [_frame(x, y, "percentile of the requests", "latency", lambda p: f"{p:g}%")]
    parts += _goal(report.goal, y)
    for number, fade, subject, level in drawn:
        points = [(x.place(p), y.place(us)) for p, us in level.curve if us > 0]
        usual = f"p50 {duration(level.latency.p50_us)}, p99 {duration(level.latency.p99_us)}"
        text = f"{subject.name}, {level.label}: {usual}"
        parts.append(
            f'<path class="line c{number % COLOURS}" style="opacity:{fade:.2f}" d="{path(points)}">'
            f"<title>{escape(text)}</title></path>"
        )
        end = points[-1]
        parts.append(f'<text class="tag end" x="{end[0] - 4:.1f}" y="{end[1] - 7:.1f}">{escape(level.label)}</text>')
    return _svg(parts, "Latency over percentile, by the number of nines")


def curves(subjects: Sequence[Subject]) -> list[tuple[int, float, Subject, Level]]:
    """Which levels the percentile plot shows: subject's number, opacity, subject, level."""
    if len(subjects) == 1:
        levels = [lv for lv in subjects[0].levels if lv.curve]
        step = max(1, -(-len(levels) // _MOST_CURVES))
        some = levels[::-1][::step][::-1]
        return [(0, 0.35 + 0.65 * (n + 1) / len(some), subjects[0], lv) for n, lv in enumerate(some)]
    found = []
    for number, subject in enumerate(subjects):
        level = headline(subject)
        if level is not None:
            found.append((number, 1.0, subject, level))
    return found


def headline(subject: Subject) -> Level | None:
    """The level that a subject is judged by: the best one, else the one with the most throughput."""
    if subject.best is not None:
        return subject.levels[subject.best]
    return max(subject.levels, key=lambda lv: lv.throughput, default=None)


def split_bar(level: Level) -> str:
    """Where the mean request's time went, as one bar: what the server reports, and the rest."""
    server, mean = level.server, level.latency.mean_us
    if server is None or not mean:
        return ""
    times = [server.queue_us, server.input_us, server.infer_us, server.output_us]
    rest = max(0.0, mean - sum(times))
    whole = max(mean, sum(times))
    cells, at = [], 0.0
    for name, spent in zip((*_PARTS, "rest"), (*times, rest), strict=True):
        width = 100 * spent / whole
        cells.append(
            f'<rect class="p-{name}" x="{at:.2f}" y="0" width="{max(width - 0.15, 0):.2f}" height="10">'
            f"<title>{name}: {duration(spent)} ({spent / whole:.0%})</title></rect>"
        )
        at += width
    described = ", ".join(f"{n} {duration(t)}" for n, t in zip((*_PARTS, "rest"), (*times, rest), strict=True))
    return (
        f'<svg class="split" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(described)}">{"".join(cells)}</svg>'
    )


def sparkline(level: Level) -> str:
    """Throughput of the level's windows, from zero: a flat line is a stable server."""
    values = [w.throughput for w in level.windows]
    most = max(values, default=0.0)
    if len(values) < 2 or not most:
        return ""
    points = [(100 * n / (len(values) - 1), 20 - 18 * v / most) for n, v in enumerate(values)]
    return (
        f'<svg class="spark" viewBox="0 0 100 22" preserveAspectRatio="none" role="img" aria-label="throughput of '
        f'{len(values)} windows"><path d="{path(points)}"/></svg>'
    )


def _svg(parts: list[str], label: str) -> str:
    opening = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
    return f"{opening}{''.join(parts)}</svg>"


def _frame(x: Axis, y: Axis, x_title: str, y_title: str, x_text: object) -> str:
    """Grid, ticks, axis titles."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    format_x = x_text if callable(x_text) else str
    parts = [
        f'<line class="grid faint" x1="{LEFT}" x2="{right}" y1="{y.place(v):.1f}" y2="{y.place(v):.1f}"/>'
        for v in y.minor
    ]
    for value in y.ticks:
        at = y.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick y" x="{LEFT - 8}" y="{at + 4:.1f}">{duration(value)}</text>')
    for value in x.ticks:
        at = x.place(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick x" x="{at:.1f}" y="{bottom + 18}">{escape(format_x(value))}</text>')
    parts.append(f'<text class="title x" x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 8}">{escape(x_title)}</text>')
    parts.append(f'<text class="title y" x="{LEFT}" y="{TOP - 5}">{escape(y_title)}</text>')
    return "".join(parts)


def _goal(goal: Goal | None, y: Axis) -> list[str]:
    if goal is None:
        return []
    at = y.place(goal.limit_us)
    if not TOP <= at <= HEIGHT - BOTTOM:
        return []
    text = f"p{goal.percentile:g} target {duration(goal.limit_us)}"
    return [
        f'<line class="goal" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text class="tag goal" x="{WIDTH - RIGHT - 4}" y="{at - 6:.1f}">{escape(text)}</text>'
    ]


def _count(value: float) -> str:
    """12000 → 12k.

    Example:
        >>> _count(12_000), _count(2_500), _count(300)
        ('12k', '2.5k', '300')
    """
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
