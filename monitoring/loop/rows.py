"""Turns of the loop and decisions about them, read from the database. `monitoring.loop.writes` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import NotFound
from monitoring import schema as t
from monitoring.loop.contracts import Stage
from monitoring.triggers.contracts import Decision

HARDCASE = "hardcase"  # who decides where no person does
STAGE_EVENT = "stage"  # kind of an event that says where the turn stands now


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnRow:
    """One turn. Columns as in `monitoring.schema_loop.trainings`."""

    id: str
    model: str
    number: int
    flight: str | None
    stage: Stage
    stage_ns: int
    asked_ns: int
    requested_ns: int | None
    began_ns: int | None
    trained_ns: int | None
    ended_ns: int | None
    actor: str
    reason: str
    decision_id: int
    approved_by: str
    cancel_by: str
    cancel_reason: str
    champion: str
    trainer: str
    seed: int
    budget_s: float
    silence_s: float
    parameters: dict[str, Any]
    recipe: dict[str, Any]
    snapshot: str
    snapshot_digest: str
    rows: int
    labels: int
    present: int
    version: str
    digest: str
    place: str
    said: int
    step: int | None
    steps: int | None
    note: str
    metrics: dict[str, float]
    gate_id: str
    gate_words: str
    rollout_id: str
    problem: str

    @property
    def gate_job(self) -> str:
        """Id of the gate's job; that of the training is the turn's own."""
        return f"{self.id}-gate"


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRow:
    """Something that a trainer said, or a change of stage."""

    number: int
    time_ns: int
    kind: str
    step: int | None
    of: int | None
    name: str | None
    value: float | None
    text: str
    path: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionRow:
    """A look at the evidence, or several with the same outcome. Columns as in `trigger_decisions`."""

    id: int
    model: str
    time_ns: int
    last_ns: int
    looks: int
    decision: Decision
    actor: str
    words: str
    reasons: list[dict[str, Any]]
    evidence: dict[str, Any]
    policy: dict[str, Any]
    training_id: str | None


def turn(connection: sa.Connection, identity: str) -> TurnRow:
    """One turn.

    Raises:
        NotFound: there is none of this id.
    """
    row = connection.execute(sa.select(t.trainings).where(t.trainings.c.id == identity)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no training with this id")
    return _turn(row)


def turns(
    connection: sa.Connection, model: str | None = None, *, open_only: bool = False, limit: int = 100, skip: int = 0
) -> list[TurnRow]:
    """Turns, the newest first."""
    c = t.trainings.c
    query = sa.select(t.trainings).order_by(c.asked_ns.desc(), c.id).limit(limit).offset(skip)
    if model is not None:
        query = query.where(c.model == model)
    if open_only:
        query = query.where(c.flight.is_not(None))
    return [_turn(row) for row in connection.execute(query).mappings()]


def of_version(connection: sa.Connection, model: str, version: str) -> TurnRow | None:
    """The newest turn that made this version."""
    c = t.trainings.c
    query = sa.select(t.trainings).where(c.model == model, c.version == version, c.digest != "")
    row = connection.execute(query.order_by(c.number.desc()).limit(1)).mappings().one_or_none()
    return None if row is None else _turn(row)


def events(
    connection: sa.Connection, identity: str, since: int = 0, limit: int = 1000, kind: str | None = None
) -> list[EventRow]:
    """Events with a number of at least `since`, oldest first."""
    c = t.training_events.c
    query = sa.select(t.training_events).where(c.training_id == identity, c.number >= since)
    if kind is not None:
        query = query.where(c.kind == kind)
    names = [f.name for f in fields(EventRow)]
    found = connection.execute(query.order_by(c.number).limit(limit)).mappings()
    return [EventRow(**{name: row[name] for name in names}) for row in found]


def decisions(connection: sa.Connection, model: str | None = None, limit: int = 100) -> list[DecisionRow]:
    """Decisions, the newest first."""
    d = t.trigger_decisions
    query = sa.select(d).order_by(d.c.id.desc()).limit(limit)
    if model is not None:
        query = query.where(d.c.model == model)
    return [
        DecisionRow(**{**row, "decision": Decision(row["decision"])}) for row in connection.execute(query).mappings()
    ]


def decision(connection: sa.Connection, row: int) -> DecisionRow:
    """The decision of a row."""
    d = t.trigger_decisions
    found = connection.execute(sa.select(d).where(d.c.id == row)).mappings().one()
    return DecisionRow(**{**found, "decision": Decision(found["decision"])})


def _turn(row: Mapping[Any, Any]) -> TurnRow:
    return TurnRow(**{**row, "stage": Stage(row["stage"])})
