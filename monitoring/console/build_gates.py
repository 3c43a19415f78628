"""The pages about gates."""

from __future__ import annotations

from monitoring.api import fields
from monitoring.api import gate_models as m
from monitoring.api.gate_views import GateDesk
from monitoring.console import gate_parts as p
from monitoring.console.build import Builder
from monitoring.gate.contracts import Check, CheckKind, Outcome
from monitoring.gate.report.draw import interval_of, scale_of
from monitoring.gate.report.page import COSTS, KINDS
from monitoring.gate.rows import ReportState

_TONES = {Outcome.PASSED.value: "good", Outcome.FAILED.value: "bad", Outcome.UNDECIDED.value: "warn"}
MOST_SLICES = 20


def gates_page(builder: Builder, desk: GateDesk) -> p.GatesPage:
    """All gates."""
    lines = tuple(_line(one) for one in desk.list(m.GateQuery(limit=200)))
    return p.GatesPage(shell=builder.shell("rollouts"), gates=lines)


def gate_page(builder: Builder, desk: GateDesk, gate: str) -> p.GatePage:
    """One gate."""
    row, one = desk.row(gate), desk.show(gate)
    result = row.result
    asked = [c for c in result.checks if c.kind is not CheckKind.SLICE]
    slices = [c for c in result.checks if c.kind is CheckKind.SLICE]
    scale = scale_of(asked, result.policy.margin)
    order = sorted(slices, key=lambda c: (c.outcome is not Outcome.FAILED, c.candidate - c.champion, c.subject))
    wide = scale_of(order[:MOST_SLICES], result.policy.margin)
    return p.GatePage(
        shell=builder.shell("rollouts"),
        line=_line(one),
        report=row.report is ReportState.KEPT and bool(row.training_id),
        seconds=row.seconds,
        checks=tuple(_check(c, scale, result.policy.margin) for c in asked),
        slices=tuple(_check(c, wide, None) for c in order[:MOST_SLICES]),
        slices_tested=len(slices),
        sets=tuple(
            p.GateSetLine(
                name=s.name,
                kind=s.kind,
                inputs=s.inputs,
                trained_on=s.trained_on,
                unusable=s.unusable,
                used=s.used,
                note=s.note,
                digest=s.digest,
            )
            for s in one.sets
        ),
        costs=tuple(
            p.GateCost(name=COSTS.get(name, name), champion=old, candidate=new)
            for name, (old, new) in one.costs.items()
        ),
        candidate_digest=one.candidate_digest,
        champion_digest=one.champion_digest,
    )


def _line(one: m.Gate) -> p.GateLine:
    return p.GateLine(
        id=one.id,
        model=one.model,
        candidate=one.candidate,
        champion=one.champion,
        outcome=one.outcome,
        tone=_TONES[one.outcome],
        words=one.words.partition(": ")[2] or one.words,
        gained=one.positive_flips,
        lost=one.negative_flips,
        training=one.training,
        at=fields.to_text(one.time),
    )


def _check(check: Check, scale: float, margin: float | None) -> p.GateCheckLine:
    drawn = interval_of(check, scale, margin if check.kind is CheckKind.NOT_WORSE else None)
    return p.GateCheckLine(
        kind=KINDS[check.kind],
        subject=COSTS.get(check.subject, check.subject),
        outcome=check.outcome.value,
        tone=_TONES[check.outcome.value],
        words=check.words,
        inputs=check.n,
        interval=None
        if drawn is None
        else p.DrawnInterval(low=drawn.low, mark=drawn.mark, high=drawn.high, margin=drawn.margin, words=drawn.words),
    )
