"""Writing of turns and decisions: begun with the decision that begins them, moved one stage at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from export.contracts import codec
from export.contracts.errors import Conflict
from export.contracts.training import EventKind, TrainingEvent
from monitoring import schema as t
from monitoring.keys import printable
from monitoring.loop.contracts import Stage
from monitoring.loop.rows import HARDCASE, STAGE_EVENT, TurnRow, turn
from monitoring.loop.told import announce_stage
from monitoring.triggers.contracts import Decision, Evidence, TriggerPolicy, Verdict

MAX_EVENTS = 20_000  # of one training; later ones only move its figures
MAX_METRICS = 100
TEXT_CHARS = 2_000
ANEW_NS = 3_600 * 10**9  # a decision that stays the same is written again after so long
_STAMPS = {Stage.REQUESTED: "requested_ns", Stage.TRAINING: "began_ns", Stage.TRAINED: "trained_ns"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a turn will be, as the settings are when it begins."""

    champion: str
    trainer: str
    seed: int
    budget_s: float
    silence_s: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def note_decision(
    connection: sa.Connection,
    model: str,
    verdict: Verdict,
    evidence: Evidence,
    policy: TriggerPolicy,
    now_ns: int,
    actor: str = HARDCASE,
) -> tuple[int, bool]:
    """Write a decision down, or count one more look where the last one was the same.

    Returns:
        Row of the decision, and whether it is a new one.
    """
    d = t.trigger_decisions
    reasons = [codec.to_plain(reason) for reason in verdict.reasons]
    last = connection.execute(
        sa.select(d).where(d.c.model == model, d.c.actor == actor).order_by(d.c.id.desc()).limit(1)
    ).one_or_none()
    same = (
        last is not None
        and actor == HARDCASE
        and last.training_id is None
        and last.decision == verdict.decision.value
        and verdict.decision is Decision.WAIT
        and now_ns - last.time_ns < ANEW_NS
        and [(r["name"], r["holds"]) for r in last.reasons] == [(r["name"], r["holds"]) for r in reasons]
    )
    if last is not None and same:
        connection.execute(d.update().where(d.c.id == last.id).values(looks=last.looks + 1, last_ns=now_ns))
        return int(last.id), False
    values = {
        "model": model,
        "time_ns": now_ns,
        "last_ns": now_ns,
        "looks": 1,
        "decision": verdict.decision.value,
        "actor": actor,
        "words": printable(verdict.words),
        "reasons": reasons,
        "evidence": codec.to_plain(evidence),
        "policy": plain_policy(policy),
        "training_id": None,
    }
    return int(connection.execute(d.insert().values(**values).returning(d.c.id)).scalar_one()), True


def begin(
    connection: sa.Connection,
    *,
    model: str,
    decision: int,
    verdict: Verdict,
    evidence: Evidence,
    plan: Plan,
    now_ns: int,
    actor: str = HARDCASE,
    reason: str = "",
) -> str:
    """Begin a turn, in the transaction of the decision that begins it.

    Raises:
        Conflict: the model has one that has not ended.
    """
    c = t.trainings.c
    if connection.scalar(sa.select(c.id).where(c.flight == model)) is not None:
        raise Conflict(f"a training of '{model}' is under way already")
    number = 1 + (connection.scalar(sa.select(sa.func.max(c.number)).where(c.model == model)) or 0)
    identity = hashlib.sha256(f"{model}\0{number}\0{now_ns}".encode()).hexdigest()[:12]
    asked = verdict.decision is Decision.ASK
    row = {
        "id": identity,
        "model": model,
        "number": number,
        "flight": model,
        "stage": (Stage.ASKED if asked else Stage.REQUESTED).value,
        "stage_ns": now_ns,
        "asked_ns": now_ns,
        "requested_ns": None if asked else now_ns,
        "actor": actor,
        "reason": printable(reason or verdict.words),
        "decision_id": decision,
        "champion": plan.champion,
        "trainer": plan.trainer,
        "seed": plan.seed,
        "budget_s": plan.budget_s,
        "silence_s": plan.silence_s,
        "parameters": dict(plan.parameters),
        "recipe": dict(plan.recipe),
        "labels": evidence.labels,
        "present": evidence.present,
        "metrics": {},
    }
    connection.execute(t.trainings.insert().values(**row))
    connection.execute(
        t.trigger_decisions.update().where(t.trigger_decisions.c.id == decision).values(training_id=identity)
    )
    made = turn(connection, identity)
    _tell(connection, made, now_ns)
    return identity


def move(connection: sa.Connection, seen: TurnRow, stage: Stage, now_ns: int, **values: Any) -> TurnRow | None:
    """Write the next stage and what came of the act.

    Returns:
        The turn now; None, and nothing is written, where somebody else has moved it since it was read.
    """
    c = t.trainings.c
    changed = stage is not seen.stage
    if changed:
        values |= {"stage": stage.value, "stage_ns": now_ns}
        if stage in _STAMPS:
            values[_STAMPS[stage]] = now_ns
        if stage is Stage.GATING:
            values |= {"said": 0, "step": None, "steps": None, "note": ""}
        if stage.ended:
            values |= {"flight": None, "ended_ns": now_ns, "note": ""}
    if values:
        found = connection.execute(
            t.trainings.update().where(c.id == seen.id, c.stage == seen.stage.value).values(**values)
        )
        if found.rowcount == 0:
            return None
    now = turn(connection, seen.id)
    if changed:
        _tell(connection, now, now_ns)
    return now


def hear(
    connection: sa.Connection, seen: TurnRow, events: Iterable[TrainingEvent], said: int, place: str, now_ns: int
) -> TurnRow | None:
    """Take over what the running job has said; `said` is how many events it has said by now."""
    step, steps, note, metrics = seen.step, seen.steps, seen.note, dict(seen.metrics)
    rows: list[dict[str, Any]] = []
    number = _next_number(connection, seen.id)
    for event in events:
        text = printable(event.text)[:TEXT_CHARS]
        if event.kind is EventKind.PROGRESS:
            step, steps, note = event.step, event.of, text
            continue
        given = {event.name: event.value} if event.kind is EventKind.METRIC else event.metrics
        for name, value in given.items():
            if name and value is not None and (name in metrics or len(metrics) < MAX_METRICS):
                metrics[printable(name)[:128]] = value
        if number + len(rows) < MAX_EVENTS:
            rows.append(
                {
                    "training_id": seen.id,
                    "number": number + len(rows),
                    "time_ns": now_ns,
                    "kind": event.kind.value,
                    "step": event.step,
                    "of": event.of,
                    "name": None if event.name is None else printable(event.name)[:128],
                    "value": event.value,
                    "text": text,
                    "path": event.path,
                }
            )
    values = {"said": said, "place": place, "step": step, "steps": steps, "note": note, "metrics": metrics}
    if all(getattr(seen, name) == value for name, value in values.items()):
        return seen
    if rows:
        connection.execute(t.training_events.insert(), rows)
    return move(connection, seen, seen.stage, now_ns, **values)


def ask_to_end(connection: sa.Connection, identity: str, actor: str, reason: str) -> TurnRow:
    """A person wants a turn ended; the driver does it.

    Raises:
        NotFound: no such turn.
        Conflict: it has ended.
    """
    seen = turn(connection, identity)
    if seen.stage.ended:
        raise Conflict(f"it has ended already, as '{seen.stage.value}'")
    values = {"cancel_by": actor, "cancel_reason": printable(reason)[:TEXT_CHARS]}
    connection.execute(t.trainings.update().where(t.trainings.c.id == identity).values(**values))
    return turn(connection, identity)


def approve(connection: sa.Connection, identity: str, actor: str, now_ns: int) -> TurnRow:
    """A person approves a turn that waits for that. Again by anybody changes nothing.

    Raises:
        NotFound: no such turn.
        Conflict: it has ended, or somebody wants it ended.
    """
    seen = turn(connection, identity)
    if seen.stage.ended or seen.cancel_by:
        raise Conflict("it has ended already" if seen.stage.ended else "it is being ended")
    if seen.stage is not Stage.ASKED:
        return seen
    moved = move(connection, seen, Stage.REQUESTED, now_ns, approved_by=actor)
    assert moved is not None  # one writer at a time
    return moved


def plain_policy(policy: TriggerPolicy) -> dict[str, Any]:
    """A policy as JSON; its conditions say of which kind they are."""
    return {**codec.to_plain(policy), "condition": plain_condition(policy.condition)}


def plain_condition(condition: Any) -> dict[str, Any]:
    """A condition as JSON, with its kind."""
    inner = getattr(condition, "conditions", None)
    kind = type(condition).__name__.removesuffix("Condition").lower()
    if inner is not None:
        return {"kind": kind, "conditions": [plain_condition(part) for part in inner]}
    return {"kind": kind, **codec.to_plain(condition)}


def _next_number(connection: sa.Connection, identity: str) -> int:
    c = t.training_events.c
    last = connection.scalar(sa.select(sa.func.max(c.number)).where(c.training_id == identity))
    return 0 if last is None else int(last) + 1


def _tell(connection: sa.Connection, now: TurnRow, now_ns: int) -> None:
    """Note the stage in the turn's own story, and tell whoever wants to be told."""
    says = now.problem or {
        Stage.ASKED: now.reason,
        Stage.REQUESTED: f"approved by {now.approved_by}" if now.approved_by else now.reason,
        Stage.TRAINING: f"version {now.version} on snapshot {now.snapshot}",
        Stage.GATED: now.gate_words,
        Stage.REJECTED: now.gate_words,
        Stage.CANCELLED: f"by {now.cancel_by}: {now.cancel_reason}".rstrip(": "),
    }.get(now.stage, "")
    if now.stage is Stage.CANCELLED and now.cancel_by:
        says = f"by {now.cancel_by}: {now.cancel_reason}".rstrip(": ")
    row = {
        "training_id": now.id,
        "number": _next_number(connection, now.id),
        "time_ns": now_ns,
        "kind": STAGE_EVENT,
        "name": now.stage.value,
        "text": says,
    }
    connection.execute(t.training_events.insert().values(**row))
    announce_stage(connection, now, says, now_ns)
