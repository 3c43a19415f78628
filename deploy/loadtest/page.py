"""The report as one HTML page that needs nothing else: no script, no network, drawings inside."""

from __future__ import annotations

from html import escape
from importlib import resources
from pathlib import Path

from deploy.loadtest import plots
from deploy.loadtest.results import Goal, Level, Report, Subject, gathered_notes
from deploy.loadtest.session import at_percentile
from deploy.loadtest.table import duration

_PARTS = (
    ("queue", "waiting in the server's queue"),
    ("input", "gathering inputs"),
    ("infer", "the model"),
    ("output", "splitting outputs"),
    ("rest", "network, parsing, and the client"),
)
_TURN = "Where a curve turns upwards, more load brings no more answers, only longer waits."


def write_page(report: Report, path: Path) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The page as text."""
    style = resources.files("deploy.loadtest").joinpath("page.css").read_text(encoding="utf-8")
    names = " and ".join(s.name for s in report.subjects) if len(report.subjects) < 3 else (
        f"{len(report.subjects)} servers"
    )  # fmt: skip
    models = ", ".join(dict.fromkeys(s.model for s in report.subjects))
    split = any(lv.server for s in report.subjects for lv in s.levels)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(models)} under load: {escape(names)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{escape(models)} under load</h1>
<p class="lead">{escape(_lead(report))}</p>
</header>
<section class="cards">{"".join(_card(report, n) for n in range(len(report.subjects)))}</section>
<div class="plots">
{_figure("Latency over throughput", _TURN, plots.throughput_plot(report), report)}
{_figure("Latency percentiles", _percentile_caption(report), plots.percentile_plot(report), report)}
</div>
{"".join(_levels(s, n, report.goal) for n, s in enumerate(report.subjects))}
{_parts_legend() if split else ""}
<section class="facts">
<div><h2>How it was measured</h2>{_facts(report.settings)}</div>
<div><h2>Where</h2>{_facts(report.environment | {"measured": report.created_at})}</div>
</section>
<footer>Made by <b>hardcase bench</b>. Percentiles are right to 0.4 %. Latency of an open loop counts from the moment at
which a request was meant to leave.</footer>
</body>
</html>
"""


def _lead(report: Report) -> str:
    if not report.subjects:
        return "Nothing was measured."
    first = report.subjects[0]
    loads = [lv.label for s in report.subjects for lv in s.levels]
    load = f"{loads[0]} to {loads[-1]}" if len(set(loads)) > 1 else loads[0] if loads else "no load"
    way = ", ".join(dict.fromkeys(f"{s.protocol.upper()} with {s.encoding} tensors" for s in report.subjects))
    return f"{first.model} {first.version} · {way} · {load} · {report.created_at[:10]}"


def _card(report: Report, number: int) -> str:
    """A subject's figure: what it does within the goal, or at most."""
    subject, goal = report.subjects[number], report.goal
    level = plots.headline(subject)
    colour = f"c{number % plots.COLOURS}"
    name = f'<span class="name {colour}">{escape(subject.name)}</span>'
    if level is None:
        return f'<div class="card">{name}<b>-</b><span>nothing was measured</span></div>'
    percentile = goal.percentile if goal else 99.0
    at = duration(at_percentile(level, percentile))
    within = f"within p{goal.percentile:g} ≤ {duration(goal.limit_us)}" if goal else "at most"
    if subject.best is None:
        within = "over the target" if goal else "with failures"
    return (
        f'<div class="card">{name}<b>{level.throughput:,.0f}<small> requests/s</small></b>{_bar(report, number, level)}'
        f"<span>{escape(within)}, at {escape(level.label)}</span><span>p50 {duration(level.latency.p50_us)} · "
        f"p{percentile:g} {at}</span>{_ratio(report, number, level)}</div>"
    )


def _ratio(report: Report, number: int, level: Level) -> str:
    """How the first subject compares with the others that keep the target as well, in throughput."""
    if number != 0 or report.subjects[0].best is None:
        return ""
    others = [(s, s.levels[s.best]) for s in report.subjects[1:] if s.best is not None]
    texts = [
        f"<b>{level.throughput / other.throughput:.2g} times</b> {escape(subject.name)}"
        for subject, other in others[:3]
        if other.throughput
    ]
    return f'<span class="ratio">{" · ".join(texts)}</span>' if texts else ""


def _bar(report: Report, number: int, level: Level) -> str:
    """The figure's share of the largest one."""
    most = max((lv.throughput for s in report.subjects if (lv := plots.headline(s))), default=0.0)
    if len(report.subjects) < 2 or not most:
        return ""
    width = 100 * level.throughput / most
    return f'<div class="bar"><i class="c{number % plots.COLOURS}" style="width:{width:.1f}%"></i></div>'


def _figure(title: str, caption: str, drawing: str, report: Report) -> str:
    if not drawing:
        return ""
    legend = "".join(
        f'<span class="key c{n % plots.COLOURS}">{escape(s.name)}</span>' for n, s in enumerate(report.subjects)
    )
    return (
        f"<figure><figcaption><h2>{escape(title)}</h2><p>{escape(caption)}</p>"
        f'<div class="legend">{legend}</div></figcaption>{drawing}</figure>'
    )


def _percentile_caption(report: Report) -> str:
    if len(report.subjects) == 1:
        return "Every further step to the right is one nine more: one request in 10, 100, 1,000."
    return "Each server at the load of its figure above. Every step to the right is one nine more."


def _levels(subject: Subject, number: int, goal: Goal | None) -> str:
    """A subject's table."""
    rows = "".join(_row(subject, n, goal) for n in range(len(subject.levels)))
    notes = "".join(
        f"<li><b>{escape(labels)}</b>: {escape(note)}</li>" for labels, note in gathered_notes(subject.levels)
    )
    split = any(lv.server for lv in subject.levels)
    heads = ["load", "requests/s", "p50", "p90", "p99", "p99.9", "max", "failed", "windows"]
    heads += ["rows a batch", "where the mean request's time went"] if split else []
    head = "".join(f"<th{_align(h)}>{h}</th>" for h in heads)
    return f"""<section class="levels">
<h2><span class="key c{number % plots.COLOURS}">{escape(subject.name)}</span>
<small>{escape(subject.server)} · {escape(subject.address)}</small></h2>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>
{f'<ul class="notes">{notes}</ul>' if notes else ""}
</section>"""


def _row(subject: Subject, number: int, goal: Goal | None) -> str:
    level = subject.levels[number]
    latency = level.latency
    over = goal is not None and (at_percentile(level, goal.percentile) or 0.0) > goal.limit_us
    css = "best" if number == subject.best else "over" if over else ""
    mark = "" if level.stable else ' <i title="windows did not agree">~</i>'
    cells = [
        f"<td>{escape(level.label)}{mark}</td>",
        *(
            f'<td class="n">{text}</td>'
            for text in (
                f"{level.throughput:,.0f}",
                duration(latency.p50_us),
                duration(latency.p90_us),
                duration(latency.p99_us),
                duration(latency.p999_us),
                duration(latency.max_us),
                f"{level.failed:,}" if level.failed else "0",
            )
        ),
        f"<td>{plots.sparkline(level)}</td>",
    ]
    if any(lv.server for lv in subject.levels):
        batch = level.server.mean_batch_rows if level.server else None
        cells.append(f'<td class="n">{f"{batch:.1f}" if batch is not None else "-"}</td>')
        cells.append(f'<td class="w">{plots.split_bar(level)}<small>{duration(latency.mean_us)}</small></td>')
    return f'<tr class="{css}">{"".join(cells)}</tr>'


def _align(head: str) -> str:
    return "" if head in ("load", "windows") or head.startswith("where") else ' class="n"'


def _parts_legend() -> str:
    keys = "".join(f'<span class="part p-{name}">{escape(text)}</span>' for name, text in _PARTS)
    return f'<p class="legend parts">{keys}</p>'


def _facts(facts: dict[str, str]) -> str:
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<dl>{rows}</dl>"
