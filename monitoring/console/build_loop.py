"""The pages about the loop, from what the API answers."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

from monitoring.api import fields
from monitoring.api import loop_models as m
from monitoring.api.loop_views import LoopDesk
from monitoring.console import loop_parts as p
from monitoring.console import parts
from monitoring.console.build import Builder
from monitoring.console.loop_picture import TONES, WORDS, stations
from monitoring.loop.contracts import Stage
from monitoring.loop.rows import STAGE_EVENT

TURNS = 30
DECISIONS = 30
LOG_LINES = 60
CURVES = 6
_REASONS = {"single_flight": "one at a time", "cool_down": "cool-down", "quiet_hours": "quiet hours"}
_DECIDED = {"retrain": "good", "ask": "warn", "wait": "muted"}


def loop_page(builder: Builder, desk: LoopDesk) -> p.LoopPage:
    """Every model, the newest turns, the newest decisions."""
    overview = desk.overview()
    cards = tuple(_card(one, desk.clock()) for one in overview.models)
    return p.LoopPage(
        shell=builder.shell("loop"),
        active=overview.active,
        live=True,
        cards=cards,
        turns=tuple(_line(turn, desk.clock()) for turn in desk.turns(None, TURNS)),
        decisions=tuple(_decision(one) for one in desk.decisions(None, DECISIONS)),
    )


def turn_page(builder: Builder, desk: LoopDesk, identity: str) -> p.TurnPage:
    """One turn."""
    detail = desk.turn(identity)
    turn, events = detail.training, desk.events(identity, 0).events
    running = not turn.stage.ended
    return p.TurnPage(
        shell=builder.shell("loop"),
        live=running,
        turn=_line(turn, desk.clock()),
        stations=stations(turn),
        center=f"version {turn.version}" if turn.version else turn.model,
        under=WORDS[turn.stage],
        tone=TONES.get(turn.stage, "now"),
        asks=turn.stage is Stage.ASKED,
        running=running,
        note=turn.note,
        share=_share(turn),
        progress="" if turn.step is None else f"{turn.step} of {turn.steps}" if turn.steps else f"step {turn.step}",
        facts=_facts(turn),
        metrics=tuple(parts.Fact(name=name, value=f"{value:.6g}") for name, value in sorted(turn.metrics.items())),
        curves=_curves(events),
        verdict=detail.verdict.words,
        reasons=_reasons(detail.verdict),
        story=tuple(_story(e) for e in events if e.kind != "metric"),
        gate=turn.gate,
        gate_words=turn.gate_words,
        rollout=turn.rollout,
        log=desk.log(identity, LOG_LINES, gate=False).text if turn.began_at else "",
        gate_log=desk.log(identity, LOG_LINES, gate=True).text if turn.trained_at else "",
    )


def _card(one: m.LoopModel, now: datetime) -> p.LoopCard:
    shown = one.turn or one.last
    if one.turn is not None:
        center, under = (one.turn.version and f"version {one.turn.version}") or "a new turn", WORDS[one.turn.stage]
    else:
        center, under = (f"version {one.champion}", "answers") if one.champion else ("no version", "answers")
    return p.LoopCard(
        model=one.model,
        champion=one.champion or "",
        trainer=one.trainer or "",
        stations=stations(one.turn),
        center=center,
        under=under,
        tone="now" if one.turn is not None else "good",
        turn=shown.id if shown is not None else "",
        asks=one.turn is not None and one.turn.stage is Stage.ASKED,
        running=one.turn is not None,
        note="" if one.turn is None else one.turn.note,
        share=None if one.turn is None else _share(one.turn),
        verdict=one.verdict.words if one.verdict is not None else "no version answers: there is nothing to train from",
        decision=one.verdict.decision.value if one.verdict is not None else "wait",
        reasons=() if one.verdict is None else _reasons(one.verdict),
        turns=one.turns,
    )


def _line(turn: m.Turn, now: datetime) -> p.TurnLine:
    end = turn.ended_at or now
    return p.TurnLine(
        id=turn.id,
        number=turn.number,
        model=turn.model,
        version=turn.version,
        stage=turn.stage.value.replace("_", " "),
        tone=TONES.get(turn.stage, "now"),
        at=fields.to_text(turn.asked_at),
        took=_span((end - turn.asked_at).total_seconds()),
        actor=turn.actor,
        words=turn.problem or turn.reason,
    )


def _facts(turn: m.Turn) -> tuple[parts.Fact, ...]:
    facts = [
        parts.Fact(name="model", value=turn.model, href=f"/models/{turn.model}"),
        parts.Fact(name="because", value=turn.reason),
        parts.Fact(name="asked by", value=turn.actor),
        parts.Fact(name="approved by", value=turn.approved_by),
        parts.Fact(name="champion then", value=turn.champion),
        parts.Fact(name="candidate", value=turn.version, href=_lineage(turn)),
        parts.Fact(name="snapshot", value=turn.snapshot, href=f"/datasets/{turn.snapshot}"),
        parts.Fact(name="rows", value=f"{turn.rows:,}" if turn.rows else ""),
        parts.Fact(name="new labels", value=f"{turn.labels:,}"),
        parts.Fact(name="trainer", value=turn.trainer),
        parts.Fact(name="seed", value=str(turn.seed)),
        parts.Fact(name="where", value=turn.place),
        parts.Fact(name="ended because", value=turn.problem),
        parts.Fact(name="training", value=turn.id, code=True),
    ]
    return tuple(fact for fact in facts if fact.value)


def _lineage(turn: m.Turn) -> str:
    """Of the candidate, once it is registered."""
    unborn = (Stage.ASKED, Stage.REQUESTED, Stage.TRAINING, Stage.FAILED, Stage.CANCELLED)
    return "" if turn.stage in unborn else f"/lineage/version/{turn.model}?version={quote(turn.version)}"


def _curves(events: list[m.TurnEvent]) -> tuple[parts.Panel, ...]:
    """One chart a metric, over the trainer's steps."""
    found: dict[str, list[parts.Point]] = {}
    for event in events:
        if event.kind == "metric" and event.name and event.step is not None:
            found.setdefault(event.name, []).append(parts.Point(at_s=event.step, value=event.value))
    made: list[parts.Panel] = []
    for name, points in list(found.items())[:CURVES]:
        if len(points) == 1:
            continue
        points.sort(key=lambda point: point.at_s)
        axis = parts.Axis(from_s=points[0].at_s, to_s=points[-1].at_s + 1, step_s=1, counts=True)
        series = parts.Series(name=name, tone="tone-1", points=tuple(points))
        made.append(
            parts.Panel(
                key=f"curve-{len(made)}",
                title=name,
                hint="By the trainer's steps.",
                unit="count",
                axis=axis,
                series=(series,),
            )
        )
    return tuple(made)


def _story(event: m.TurnEvent) -> p.StoryLine:
    if event.kind == STAGE_EVENT:
        stage = Stage(event.name or "")
        return p.StoryLine(
            at=fields.to_text(event.at),
            what=stage.value.replace("_", " "),
            text=event.text,
            tone=TONES.get(stage, "now"),
        )
    text = event.text or event.path or ""
    return p.StoryLine(at=fields.to_text(event.at), what=event.kind, text=text, tone="muted")


def _decision(one: m.LoopDecision) -> p.DecisionLine:
    return p.DecisionLine(
        model=one.model,
        at=fields.to_text(one.at),
        last_at=fields.to_text(one.last_at),
        looks=one.looks,
        decision=one.decision.value,
        tone=_DECIDED[one.decision.value],
        words=one.words,
        turn=one.training or "",
    )


def _reasons(verdict: m.LoopVerdict) -> tuple[p.ReasonLine, ...]:
    return tuple(
        p.ReasonLine(name=_REASONS.get(r.name, r.name.replace("_", " ")), holds=r.holds, words=r.words)
        for r in verdict.reasons
    )


def _share(turn: m.Turn) -> float | None:
    if turn.step is None or not turn.steps or turn.stage not in (Stage.TRAINING, Stage.GATING):
        return None
    return min(1.0, max(0.0, turn.step / turn.steps))


def _span(seconds: float) -> str:
    """A time in the two units that people would use."""
    left = max(0, round(seconds))
    for size, unit, smaller, name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if left >= size:
            return f"{left // size} {unit} {left % size // smaller} {name}"
    return f"{left} s"
