"""The pages about roll-outs."""

from __future__ import annotations

from monitoring.api import fields
from monitoring.api import rollout_models as m
from monitoring.api.rollout_views import RolloutDesk
from monitoring.console import rollout_parts as p
from monitoring.console.build import Builder
from monitoring.rollout.words import seconds

_TONES = {"promoted": "good", "rolled_back": "bad", "aborted": "warn", "paused": "warn", "running": ""}
_LOG_TONES = {"rolled_back": "bad", "aborted": "warn", "promoted": "good", "paused": "warn"}
_STATES = {
    "done": "passed",
    "running": "now",
    "waiting": "to come",
    "stopped": "ended here",
    "left": "not reached",
}


def rollouts_page(builder: Builder, desk: RolloutDesk) -> p.RolloutsPage:
    """All roll-outs."""
    lines = [_line(one) for one in desk.list(limit=100)]
    choices = []
    for model in desk.catalogue.models():
        plan = desk.catalogue.plan(model)
        champion = plan.champion if plan is not None else None
        choices += [f"{model} {version}" for version in desk.catalogue.versions(model) if version != champion]
    return p.RolloutsPage(
        shell=builder.shell("rollouts"),
        running=tuple(line for line in lines if line.ended is None),
        ended=tuple(line for line in lines if line.ended is not None),
        choices=tuple(reversed(choices)),
    )


def rollout_page(builder: Builder, desk: RolloutDesk, rollout_id: str) -> p.RolloutPage:
    """One roll-out."""
    one = desk.show(rollout_id)
    ledger = one.ledger
    last = one.step == len(one.steps) - 1
    can: tuple[str, ...] = ()
    if one.ended is None:
        can = ("resume" if one.state == "paused" else "pause", "finish" if last else "promote", "abort")
    scale = max(2 * ledger.limit, ledger.exposed_share * 1.1)
    return p.RolloutPage(
        shell=builder.shell("rollouts"),
        line=_line(one),
        author=one.author,
        gate=one.gate,
        training=one.training,
        track=tuple(_stop(one, step) for step in one.steps),
        meters=tuple(_meter(reading) for reading in one.readings),
        paired=one.step >= 0 and one.steps[one.step].kind == "shadow",
        answered=ledger.answered,
        exposed_requests=ledger.exposed,
        exposure_limit=ledger.limit,
        exposure_at=round(100 * ledger.exposed_share / scale, 1),
        after=ledger.after,
        budget_ms=one.latency_budget_ms,
        false_rollback=one.false_rollback,
        wrong_promotion=one.wrong_promotion,
        asked=one.asked,
        can=can,
        log=tuple(
            p.LogLine(
                at=fields.to_text(e.time),
                actor=e.actor,
                words=e.words,
                tone=_LOG_TONES.get(e.kind, ""),
                revision=e.revision,
            )
            for e in reversed(one.events)
        ),
    )


def _line(one: m.Rollout) -> p.RolloutLine:
    return p.RolloutLine(
        id=one.id,
        model=one.model,
        candidate=one.candidate,
        champion=one.champion,
        state=one.state.replace("_", " "),
        tone=_TONES[one.state],
        step=one.step_words,
        reason=one.reason,
        began=fields.to_text(one.began),
        ended=None if one.ended is None else fields.to_text(one.ended),
        exposed=one.exposed_share,
    )


def _stop(one: m.RolloutDetail, step: m.RolloutStep) -> p.StepStop:
    share = 1.0 if step.state == "done" else 0.0
    if step.state in ("running", "stopped"):
        time = one.served_s / step.dwell_s if step.dwell_s else 1.0
        share = min(1.0, time, one.requests / step.requests if step.requests else 1.0)
    asks = f"{seconds(step.dwell_s)}, {step.requests:,} requests"
    if step.prove:
        asks += f"; to be proved: {', '.join(step.prove)}"
    return p.StepStop(
        words=step.words,
        state=step.state,
        state_words=_STATES[step.state],
        share=round(100 * share, 1),
        asks=asks,
        began=None if step.began is None else fields.to_text(step.began),
    )


def _meter(reading: m.RolloutReading) -> p.Meter:
    limit = (reading.reference or 0.0) + reading.tolerance
    largest = max(reading.rate or 0.0, reading.reference or 0.0, limit)
    scale = min(1.0, largest * 1.25)

    def at(value: float | None) -> float:
        return round(100 * min(1.0, (value or 0.0) / scale), 1)

    tone = "bad" if reading.against >= 1 else "warn" if reading.against >= 0.5 else ""
    return p.Meter(
        metric=reading.metric,
        words=reading.words,
        requests=reading.requests,
        rate=reading.rate,
        reference=reading.reference,
        rate_at=at(reading.rate),
        reference_at=at(reading.reference),
        limit_at=at(limit),
        scale=scale,
        limit=limit,
        against=round(100 * reading.against, 1),
        proved=round(100 * reading.proved, 1),
        asked=reading.asked,
        tone=tone,
    )
