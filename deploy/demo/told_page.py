"""The story's report as one page that needs nothing else: no script, no network, charts and pictures inside."""

from __future__ import annotations

from html import escape

from deploy.demo.findings import percent
from deploy.demo.told import Event, Recovery, Told, Turn
from deploy.demo.told_charts import accuracy_chart, latency_chart, share_chart

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6573; --line: #d9dee5; --ground: #ffffff; --card: #f6f8fa;
  --bad: #c2362b; --good: #1f7a4d; --mark: #2f5fd0; --t1: #2f5fd0; --t2: #b35309; --t3: #a21caf; --t4: #c2362b;
  --t5: #1f7a4d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b4; --line: #2c333d; --ground: #12161b;
  --card: #1a2028; --bad: #ff8077; --good: #5fd39a; --mark: #7ea6ff; --t1: #7ea6ff; --t2: #f3a75c; --t3: #e08af0;
  --t4: #ff8077; --t5: #5fd39a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 70rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; letter-spacing: -.02em; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p.lead, .soft { color: var(--soft); }
p.lead { margin: 0 0 1.5rem; }
a { color: var(--mark); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.1rem; }
.figure b { display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.figure span { color: var(--soft); font-size: .9rem; }
figure { margin: 0 0 1.25rem; background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .9rem 1rem .5rem; overflow-x: auto; }
figcaption { font-weight: 600; font-size: .95rem; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.keys { display: inline-flex; flex-wrap: wrap; gap: .25rem .9rem; font-weight: 400; color: var(--soft); }
.key i { display: inline-block; width: .9rem; height: .2rem; margin-right: .35rem; vertical-align: middle;
  background: var(--tone); }
svg { width: 100%; min-width: 40rem; height: auto; display: block; }
.grid { stroke: var(--line); } .tick { fill: var(--soft); font-size: 11px; }
.line { fill: none; stroke: var(--tone); stroke-width: 1.8; } circle { fill: var(--tone); }
.mark { stroke: var(--soft); stroke-dasharray: 3 3; } .mark.bad { stroke: var(--bad); }
.mark.good { stroke: var(--good); }
.tone-all { --tone: var(--ink); } .tone-1 { --tone: var(--t1); } .tone-2 { --tone: var(--t2); }
.tone-3 { --tone: var(--t3); } .tone-4 { --tone: var(--t4); } .tone-5 { --tone: var(--t5); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.at { white-space: nowrap; color: var(--soft); }
.bad { color: var(--bad); } .good { color: var(--good); }
ul.claims { padding-left: 1.1rem; } .claims li { margin: .3rem 0; }
.scroll { overflow-x: auto; }
code { font-size: .9em; overflow-wrap: anywhere; }
"""


def render_told(told: Told) -> str:
    """The page."""
    first = told.recoveries[0] if told.recoveries else None
    bad = sum(t.answered for t in told.turns if t.stage != "promoted")
    figures = (
        (f"{told.failed:,} of {told.sent:,}", "requests failed"),
        (percent(first.share if first else None), "of the accuracy lost to the shift came back"),
        (str(first.labels if first else 0), "labels it took"),
        (percent(bad / told.answered if told.answered else None), "of the answers came from a candidate that failed"),
        (f"{told.seconds / 60:.1f} min", "from the first request to the last"),
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hardcase: the loop, told by run {escape(told.run)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>A camera is knocked askew, and nobody has to get up</h1>
<p class="lead">{escape(told.started_at)} · run {escape(told.run)} · {escape(_machine(told))}.
Nobody touched anything while this ran: traffic, a stand-in reviewer who mistypes {percent(told.error_rate)} of the
labels, and Hardcase.</p>
<div class="figures">{"".join(_figure(value, text) for value, text in figures)}</div>
<h2>Accuracy over time</h2>
{accuracy_chart(told)}
{share_chart(told)}
{latency_chart(told)}
<h2>What happened when</h2>
<div class="scroll"><table><tr><th>time</th><th></th><th></th></tr>{
        "".join(_event(e) for e in told.events)
    }</table></div>
<h2>Turns of the loop</h2>
<div class="scroll"><table>
<tr><th>version</th><th>the trainer</th><th>ended</th><th>why</th><th>trigger to end</th>
<th>answers before its end</th></tr>
{"".join(_turn(t, told.answered) for t in told.turns)}</table></div>
<h2>What the shifts cost, and what came back</h2>
<div class="scroll"><table>
<tr><th>scene</th><th>before</th><th>under the shift</th><th>after</th><th>recovered</th><th>labels</th>
<th>shift to champion</th></tr>
{"".join(_recovery(r) for r in told.recoveries)}</table></div>
<p class="soft">Shares of right answers among all that were answered, by the truth that the clients know and Hardcase
does not. With the first new champion the clients go over to digits that nobody had labelled by then; the second shift
is labelled and judged on those.</p>
<h2>Labels</h2>
<div class="scroll"><table><tr><th>chapter</th><th>typed</th><th>of them audit items</th><th>mistyped</th></tr>
{
        "".join(
            f"<tr><td>{escape(x.chapter)}</td><td>{x.typed}</td><td>{x.audits}</td><td>{x.mistaken}</td></tr>"
            for x in told.labels
        )
    }</table></div>
<h2>Requests by client</h2>
<div class="scroll"><table><tr><th>client</th><th>requests</th></tr>
{"".join(f"<tr><td>{escape(name)}</td><td>{count:,}</td></tr>" for name, count in told.by_client.items())}</table></div>
{_failures(told)}
<h2>What this run claims</h2>
<ul class="claims">{
        "".join(
            f'<li><b class="{"good" if c.holds else "bad"}">{"holds" if c.holds else "fails"}</b> {escape(c.name)}: '
            f"{escape(c.detail)}</li>"
            for c in told.claims
        )
    }</ul>
</body>
</html>
"""


def clock(seconds: float) -> str:
    """62.4 to "1:02"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _machine(told: Told) -> str:
    return f"{told.machine.get('processor', 'unknown processor')}, {told.machine.get('cores', '?')} cores"


def _figure(value: str, text: str) -> str:
    return f'<div class="figure"><b>{escape(value)}</b><span>{escape(text)}</span></div>'


def _event(event: Event) -> str:
    return (
        f'<tr><td class="at">{clock(event.at_s)}</td><td class="soft">{escape(event.kind.value)}</td>'
        f'<td class="{escape(event.tone)}">{escape(event.text)}</td></tr>'
    )


def _turn(turn: Turn, answered: int) -> str:
    tone = "good" if turn.stage == "promoted" else "bad"
    took = "–" if turn.took_s is None else f"{turn.took_s:.0f} s"  # noqa: RUF001  # a dash as wide as a digit
    return (
        f"<tr><td>{escape(turn.version)}</td><td>{escape(turn.fault or 'in order')}</td>"
        f'<td class="{tone}">{escape(turn.stage)}</td><td>{escape(turn.reason)}</td><td>{took}</td>'
        f"<td>{turn.answered:,} ({percent(turn.answered / answered if answered else None)})</td></tr>"
    )


def _recovery(r: Recovery) -> str:
    took = "–" if r.seconds is None else f"{r.seconds:.0f} s"  # noqa: RUF001  # a dash as wide as a digit
    return (
        f"<tr><td>{escape(r.scene)}</td><td>{percent(r.before)}</td><td>{percent(r.under)}</td>"
        f"<td>{percent(r.after)}</td><td>{percent(r.share)}</td><td>{r.labels}</td><td>{took}</td></tr>"
    )


def _failures(told: Told) -> str:
    if not told.failures:
        return ""
    items = "".join(f"<li><code>{escape(x)}</code></li>" for x in told.failures)
    return f"<h2>Requests that failed</h2><ul>{items}</ul>"
