"""Parts of the page of a case: the verdict, bars, scores, time, facts."""

from __future__ import annotations

import numpy as np

from monitoring.api import fields
from monitoring.api import models as m
from monitoring.baseline import EDGES, Baseline
from monitoring.console import case_parts, parts, words
from monitoring.console.build_answers import label_roles

MAX_BARS = 12


def verdict_of(card: parts.CaseCard) -> tuple[str, str]:
    """What is known about the answer, and its tone."""
    if card.outcome != "ok":
        return words.plain(f"the request ended as {card.outcome}"), "bad"
    if card.correct is True:
        return "the answer was right", "good"
    if card.correct is False:
        return "the answer was wrong", "bad"
    return "nobody knows yet whether the answer is right", ""


def bars_of(case: m.CaseDetail, card: parts.CaseCard) -> tuple[tuple[case_parts.Bar, ...], int]:
    """Class probabilities, and how many are left out."""
    values = [p or 0.0 for p in case.probabilities or ()]
    names = [words.label(i, case.class_names) or str(i) for i in range(len(values))]
    several = label_roles(case)
    bars = []
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        predicted, truth = i == case.predicted, card.label is not None and name == card.label
        if several is not None:
            predicted, truth = i in several[0], name in several[1]
        role = "both" if predicted and truth else "predicted" if predicted else "truth" if truth else ""
        bars.append(case_parts.Bar(label=name, value=value, role=role))
    if len(bars) <= MAX_BARS:
        return tuple(bars), 0
    bars.sort(key=lambda b: (not b.role, -b.value))
    return tuple(bars[:MAX_BARS]), len(bars) - MAX_BARS


def spans_of(timing_us: dict[str, int]) -> tuple[case_parts.Span, ...]:
    """The answer's time by what it was spent on."""
    queue, compute, total = (timing_us.get(n, 0) for n in ("queue", "compute", "total"))
    other = max(total - queue - compute, 0)
    named = (
        ("waiting for a batch", queue, "tone-2"),
        ("model", compute, "tone-1"),
        ("everything else", other, "tone-5"),
    )
    return tuple(case_parts.Span(name=name, us=us, tone=tone) for name, us, tone in named)


def facts_of(case: m.CaseDetail) -> tuple[parts.Fact, ...]:
    """What the request was."""
    facts = [
        parts.Fact(
            name="model", value=f"{case.model} {case.version}", href=f"/models/{case.model}?version={case.version}"
        ),
        parts.Fact(name="answered as", value=case.variant),
        parts.Fact(name="outcome", value=case.outcome),
        parts.Fact(name="received", value=words.clock(fields.to_text(case.time))),
        parts.Fact(name="state", value=words.state(case.state.value)),
    ]
    if case.rows > 1:
        facts.append(parts.Fact(name="row of the request", value=f"{case.row} of {case.rows}"))
    if case.inclusion_probability is not None:
        facts.append(parts.Fact(name="drawn with probability", value=words.percent(case.inclusion_probability)))
    facts.append(parts.Fact(name="record", value=case.record_id, code=True))
    facts.append(parts.Fact(name="case", value=case.id, code=True))
    for name, value in (
        ("trace", case.trace_id),
        ("parameters", words.pretty(case.params)),
        ("tags", words.pretty(case.tags)),
    ):
        if value:
            facts.append(parts.Fact(name=name, value=value, code=True))
    return tuple(facts)


def scores_of(case: m.CaseDetail, baseline: Baseline) -> tuple[case_parts.ScoreLine, ...]:
    """Scores with what they are, and how this one compares with the reference."""
    return tuple(
        case_parts.ScoreLine(
            name=words.SCORES[name][0],
            value=case.scores[name],
            meaning=words.SCORES[name][1],
            reading=_reading(baseline, name, case.scores[name]),
        )
        for name in words.SCORES
        if name in case.scores
    )


def _reading(baseline: Baseline, name: str, value: float | None) -> str:
    """Where a score lies among those of the reference, in words; "" where there is none to compare with."""
    place = baseline.index.get(name)
    if place is None or value is None or not baseline.counted[place]:
        return ""
    below = int(np.searchsorted(baseline.edges[place, : EDGES - 1], np.float32(value), side="left"))
    if below <= 1:
        return "smaller than nearly everything in the reference"
    if below >= EDGES - 2:
        return "larger than nearly everything in the reference"
    return f"larger than {below} % of the reference"
