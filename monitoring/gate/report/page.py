"""The report as HTML: server-side markup for everything that was decided, a script only for the table of inputs.

The page allows its own script and style by their hashes and nothing else, so it is as safe in a mail as in the console.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from monitoring.gate.contracts import Check, CheckKind
from monitoring.gate.evaluated import InputLine
from monitoring.gate.job import GateResult
from monitoring.gate.report.draw import Interval, bars_of, interval_of, scale_of

HERE = Path(__file__).parent
LESS_IS_BETTER = frozenset({"log_loss", "mae", "rmse"})
KINDS = {
    CheckKind.CONTRACT: "fits",
    CheckKind.BETTER: "better?",
    CheckKind.NOT_WORSE: "not worse?",
    CheckKind.SLICE: "slice",
    CheckKind.BUDGET: "budget",
}
COSTS = {
    "latency_p50_ms": "latency, median, ms",
    "latency_p95_ms": "latency, 95 %, ms",
    "memory_mib": "memory, MiB",
    "size_mib": "size, MiB",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownInput:
    """An input of the table.

    Attributes:
        picture: `data:` address; "" where there is none.
        words: In the place of a picture.
    """

    line: InputLine
    picture: str = ""
    words: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckRow:
    """A check as it is drawn."""

    check: Check
    kind: str
    subject: str
    interval: Interval | None
    champion: str
    candidate: str


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricRow:
    """A metric of a set."""

    set: str
    name: str
    champion: float
    candidate: float
    better: bool | None


def report_html(result: GateResult, inputs: Sequence[ShownInput], every: int) -> str:
    """The page.

    Args:
        result: The verdict.
        inputs: Of the table.
        every: Inputs there are; more than `inputs` when not all are shown.
    """
    style, script = ((HERE / name).read_text() for name in ("report.css", "report.js"))
    scale = scale_of([c for c in result.checks if c.kind is not CheckKind.SLICE], result.policy.margin)
    asked = [c for c in result.checks if c.kind is not CheckKind.SLICE]
    return (
        _environment()
        .get_template("report.html")
        .render(
            result=result,
            title=f"Gate: {result.model} {result.champion.version} → {result.candidate.version}",
            checks=[_check_row(c, scale, result) for c in asked],
            headline=_headline(result),
            costs=[(COSTS.get(n, n), old, new) for n, (old, new) in result.costs.items()],
            metrics=_metrics(result),
            bars=bars_of([c for c in result.checks if c.kind is CheckKind.SLICE]),
            rows=len(inputs),
            every=every,
            data=_data(inputs),
            style=style,
            script=script,
            style_hash=_hash(style),
            script_hash=_hash(script),
        )
    )


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _headline(result: GateResult) -> Check | None:
    """The check that the candidate was made for."""
    for kind in (CheckKind.BETTER, CheckKind.NOT_WORSE):
        for check in result.checks:
            if check.kind is kind:
                return check
    return None


def _check_row(check: Check, scale: float, result: GateResult) -> CheckRow:
    budget = check.kind is CheckKind.BUDGET
    share = check.kind in (CheckKind.BETTER, CheckKind.NOT_WORSE)
    margin = result.policy.margin if check.kind is CheckKind.NOT_WORSE else None
    return CheckRow(
        check=check,
        kind=KINDS[check.kind],
        subject=COSTS.get(check.subject, check.subject) if budget else check.subject,
        interval=interval_of(check, scale, margin),
        champion=f"{check.champion:.1%}" if share else f"{check.champion:.4g}" if budget else "",
        candidate=f"{check.candidate:.1%}" if share else f"{check.candidate:.4g}" if budget else "",
    )


def _metrics(result: GateResult) -> list[MetricRow]:
    made = []
    for one in result.sets:
        for name in one.champion:
            if name not in one.candidate:
                continue
            old, new = one.champion[name], one.candidate[name]
            better = None if old == new else (new < old) == (name in LESS_IS_BETTER)
            made.append(MetricRow(set=one.name, name=name, champion=old, candidate=new, better=better))
    return made


def _data(inputs: Sequence[ShownInput]) -> str:
    """Rows for the script, as JSON that cannot end its element."""
    rows: list[list[Any]] = []
    for x in inputs:
        line = x.line
        sure = [None if s is None else round(s, 4) for s in (line.champion_sure, line.candidate_sure)]
        good = [round(line.champion_good, 4), round(line.candidate_good, 4)]
        texts = [line.set, line.id, line.truth, line.champion, line.candidate]
        rows.append([*texts, *sure, *good, list(line.slices), x.picture, x.words])
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
