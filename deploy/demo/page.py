"""The demo's report as one page that needs nothing else: no script, no network, pictures inside."""

from __future__ import annotations

import base64
from html import escape

from deploy.demo import findings as f
from deploy.errors import CommandError
from deploy.monitor_client import MonitorClient

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6573; --line: #d9dee5; --ground: #ffffff; --card: #f6f8fa;
  --bad: #c2362b; --good: #1f7a4d; --mark: #2f5fd0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b4; --line: #2c333d; --ground: #12161b;
  --card: #1a2028; --bad: #ff8077; --good: #5fd39a; --mark: #7ea6ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 70rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; letter-spacing: -.02em; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p.lead { color: var(--soft); margin: 0 0 1.5rem; }
a { color: var(--mark); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .75rem; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.1rem; }
.figure b { display: block; font-size: 1.7rem; font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.figure span { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); }
td.bar { width: 40%; }
.bar i { display: block; height: .7rem; border-radius: .35rem; background: var(--good); }
.bar i.shifted { background: var(--bad); }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.2rem, 1fr)); gap: .75rem; padding: 0;
  list-style: none; }
.cases a { display: block; color: inherit; text-decoration: none; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; padding: .6rem; font-size: .85rem; }
.cases a:hover, .cases a:focus-visible { border-color: var(--mark); outline: none; }
.cases img { width: 100%; image-rendering: pixelated; border-radius: .3rem; display: block; margin-bottom: .4rem; }
.wrong { color: var(--bad); } .right { color: var(--good); }
.soft { color: var(--soft); }
.claims li { margin: .3rem 0; }
.scroll { overflow-x: auto; }
"""


def render(found: f.Findings, client: MonitorClient | None) -> str:
    """The page.

    Args:
        found: What was measured.
        client: Fetches the cases' pictures; None leaves them out.
    """
    healthy = next(p for p in found.phases if p.key == "healthy")
    wrong = sum(c.correct is False for c in found.cases)
    over = sum(s.exceeded_under for s in found.signals)
    figures = (
        (f.percent(healthy.accuracy), "accuracy on healthy traffic"),
        (f.percent(f.shifted_accuracy(found)), "accuracy under the shift"),
        (f"{over} of {len(found.signals)}", "drift signals over their threshold"),
        (f"{wrong} of {len(found.cases)}", "top flagged cases that were wrong"),
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hardcase demo {escape(found.run)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>A day in the life of a digit classifier</h1>
<p class="lead">{escape(found.started_at)} · run {escape(found.run)} · {found.seconds:.0f} s ·
<a href="{escape(found.console)}/">open the console</a></p>
<div class="figures">{"".join(_figure(value, text) for value, text in figures)}</div>
<h2>Accuracy, measured from feedback</h2>
<div class="scroll"><table>
<tr><th>part of the day</th><th>requests</th><th>mean confidence</th><th>accuracy</th><th></th></tr>
{"".join(_phase(p) for p in found.phases)}
</table></div>
<h2>Drift signals</h2>
<p class="soft">Largest value of each signal in the windows before and under the shift, against its threshold.</p>
<div class="scroll"><table>
<tr><th>of</th><th>method</th><th>subject</th><th>before</th><th>under</th><th>threshold</th></tr>
{"".join(_signal(s) for s in found.signals[:20])}
</table></div>
<h2>The {len(found.cases)} cases that were most probably wrong</h2>
<p class="soft">Ranked before any label was known; what was true came afterwards. {found.flagged} of the shifted
requests were flagged.</p>
<ul class="cases">{"".join(_case(c, client) for c in found.cases)}</ul>
<h2>What this run claims</h2>
<ul class="claims">{"".join(_claim(c) for c in found.claims)}</ul>
</body>
</html>
"""


def _figure(value: str, text: str) -> str:
    return f'<div class="figure"><b>{escape(value)}</b><span>{escape(text)}</span></div>'


def _phase(phase: f.PhaseResult) -> str:
    width = 100 * (phase.accuracy or 0.0)
    css = "shifted" if phase.harmful else ""
    return (
        f"<tr><td>{escape(phase.title)}</td><td>{phase.requests}</td><td>{f.percent(phase.confidence)}</td>"
        f"<td>{f.percent(phase.accuracy)}</td>"
        f'<td class="bar"><i class="{css}" style="width:{width:.1f}%"></i></td></tr>'
    )


def _signal(signal: f.SignalResult) -> str:
    under = f'<td class="{"wrong" if signal.exceeded_under else ""}">{_number(signal.under)}</td>'
    return (
        f"<tr><td>{escape(signal.kind)}</td><td>{escape(signal.method)}</td><td>{escape(signal.subject)}</td>"
        f"<td>{_number(signal.before)}</td>{under}<td>{_number(signal.threshold)}</td></tr>"
    )


def _case(case: f.CaseResult, client: MonitorClient | None) -> str:
    image = ""
    if client is not None and case.picture:
        try:
            data = base64.b64encode(client.bytes_of(case.picture)).decode()
            image = f'<img src="data:image/png;base64,{data}" alt="input of case {escape(case.id)}">'
        except CommandError:
            image = ""
    verdict = "wrong" if case.correct is False else "right" if case.correct else "unknown"
    return (
        f'<li><a href="{escape(case.link)}">{image}<b class="{verdict}">{escape(str(case.predicted))}</b> '
        f'<span class="soft">truth {escape(str(case.label))}<br>P(wrong) {_number(case.p_wrong)}<br>'
        f"{escape(case.phase)}</span></a></li>"
    )


def _claim(claim: f.Claim) -> str:
    css, word = ("right", "holds") if claim.holds else ("wrong", "fails")
    return f'<li><b class="{css}">{word}</b> {escape(claim.name)}: {escape(claim.detail)}</li>'


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
