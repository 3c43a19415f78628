"""Roll-outs in the database: begun, asked for things, looked at. One runs per model at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from export.contracts import codec
from export.contracts.errors import Conflict, InvalidRequest, NotFound
from export.contracts.traffic import TrafficPlan
from monitoring import schema as t
from monitoring.record_rows import newest_record
from monitoring.rollout.policy import EventKind, RolloutPolicy, RolloutState
from monitoring.rollout.standing import Standing


class Ask(StrEnum):
    """What a person may ask of a roll-out."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"  # the last step now, or its end
    ABORT = "abort"  # withdraw the candidate


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a person asked."""

    ask: Ask
    actor: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """A plan that is being written: noted before, and struck out with what follows from it.

    Attributes:
        plan: What is to hold.
        expected: The revision before it.
        step: Index of the step that begins; that of the running one where it ends.
        state: Of the roll-out afterwards.
        kind: Of the event.
        actor: Who decided.
        words: Why.
    """

    plan: TrafficPlan
    expected: int
    step: int
    state: RolloutState
    kind: EventKind
    actor: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One roll-out. `champion` is who answered when it began."""

    id: str
    model: str
    candidate: str
    champion: str | None
    gate_id: str | None
    training_id: str | None
    author: str
    policy: RolloutPolicy
    state: RolloutState
    reason: str
    standing: Standing
    intent: Intent | None
    wish: Wish | None
    created_ns: int
    changed_ns: int
    ended_ns: int | None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self.ended_ns is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutEvent:
    """An entry of a roll-out's log. `actor` is a person or "rollout"; `revision` the plan's after it."""

    id: int
    rollout_id: str
    time_ns: int
    kind: EventKind
    step: int
    actor: str
    words: str
    revision: int | None
    evidence: Mapping[str, Any]


ITSELF = "rollout"
"""Author of what no person decided."""


def begin(
    connection: sa.Connection,
    *,
    model: str,
    candidate: str,
    champion: str | None,
    gate_id: str | None = None,
    training_id: str | None = None,
    policy: RolloutPolicy,
    author: str,
    now_ns: int,
) -> str:
    """Begin a roll-out; the duty takes it from here. The same training twice is one.

    Returns:
        Its id.

    Raises:
        Conflict: another one of the model runs.
        InvalidRequest: the candidate answers already.
    """
    if candidate == champion:
        raise InvalidRequest(f"version '{candidate}' of '{model}' is the champion already")
    many = connection.scalar(sa.select(sa.func.count()).select_from(t.rollouts))
    seed = f"training:{training_id}" if training_id else f"{model}:{candidate}:{now_ns}:{many}"
    identity = hashlib.sha256(seed.encode()).hexdigest()[:16]
    r = t.rollouts.c
    if connection.scalar(sa.select(r.id).where(r.id == identity)) is not None:
        return identity
    other = connection.execute(sa.select(r.id, r.candidate).where(r.model == model, r.ended_ns.is_(None))).first()
    if other is not None:
        raise Conflict(f"the roll-out {other.id} of '{model}' version '{other.candidate}' runs: end it first")
    cursor = newest_record(connection)  # the past of the log is not this roll-out's
    connection.execute(
        t.rollouts.insert().values(
            id=identity,
            model=model,
            candidate=candidate,
            champion=champion,
            gate_id=gate_id,
            training_id=training_id,
            author=author,
            policy=codec.to_plain(policy),
            state=RolloutState.RUNNING.value,
            reason="it begins",
            standing=codec.to_plain(Standing(cursor=cursor, phase_cursor=cursor, looked_ns=now_ns)),
            intent=sa.null(),
            wish=sa.null(),
            step=-1,
            created_ns=now_ns,
            changed_ns=now_ns,
            ended_ns=None,
        )
    )
    against = f"against {champion}" if champion else "where no version answers yet"
    note(connection, identity, EventKind.BEGUN, -1, author, f"version {candidate} {against}", now_ns=now_ns)
    return identity


def look(connection: sa.Connection, rollout_id: str) -> Rollout:
    """How it stands.

    Raises:
        NotFound: no such roll-out.
    """
    row = connection.execute(sa.select(t.rollouts).where(t.rollouts.c.id == rollout_id)).mappings().first()
    if row is None:
        raise NotFound(f"no roll-out '{rollout_id[:32]}'")
    return _rollout(row)


def running(connection: sa.Connection, model: str | None = None) -> tuple[Rollout, ...]:
    """Roll-outs that have not ended."""
    r = t.rollouts.c
    query = sa.select(t.rollouts).where(r.ended_ns.is_(None)).order_by(r.created_ns)
    if model is not None:
        query = query.where(r.model == model)
    return tuple(_rollout(row) for row in connection.execute(query).mappings())


def rollouts(connection: sa.Connection, model: str | None = None, limit: int = 50) -> tuple[Rollout, ...]:
    """Running and ended ones, the newest first."""
    r = t.rollouts.c
    query = sa.select(t.rollouts).order_by(r.created_ns.desc(), r.id).limit(limit)
    if model is not None:
        query = query.where(r.model == model)
    return tuple(_rollout(row) for row in connection.execute(query).mappings())


def events(connection: sa.Connection, rollout_id: str) -> tuple[RolloutEvent, ...]:
    """The log of a roll-out, oldest first."""
    e = t.rollout_events.c
    rows = connection.execute(sa.select(t.rollout_events).where(e.rollout_id == rollout_id).order_by(e.id))
    return tuple(RolloutEvent(**dict(row) | {"kind": EventKind(row["kind"])}) for row in rows.mappings())


def ask(
    connection: sa.Connection, rollout_id: str, what: Ask, *, actor: str, note_text: str = "", now_ns: int
) -> Rollout:
    """Note what a person asks; the duty does it within a second.

    Raises:
        NotFound: no such roll-out.
        Conflict: it has ended, or stands so already.
    """
    rollout = look(connection, rollout_id)
    if rollout.ended:
        raise Conflict(f"the roll-out {rollout.id} has ended: {rollout.state}")
    if what is Ask.RESUME and rollout.state is not RolloutState.PAUSED:
        raise Conflict(f"the roll-out {rollout.id} is not paused")
    if what is Ask.PAUSE and rollout.state is RolloutState.PAUSED:
        raise Conflict(f"the roll-out {rollout.id} is paused already")
    wish = Wish(ask=what, actor=actor, note=note_text[:500])
    values = {"wish": codec.to_plain(wish), "changed_ns": now_ns}
    connection.execute(t.rollouts.update().where(t.rollouts.c.id == rollout.id).values(**values))
    words = f"{what.value}: {wish.note}" if wish.note else what.value
    note(connection, rollout.id, EventKind.ASKED, rollout.standing.step, actor, words, now_ns=now_ns)
    return look(connection, rollout.id)


def note(
    connection: sa.Connection,
    rollout_id: str,
    kind: EventKind,
    step: int,
    actor: str,
    words: str,
    *,
    now_ns: int,
    revision: int | None = None,
    evidence: Sequence[Any] = (),
) -> None:
    """Add to the log."""
    connection.execute(
        t.rollout_events.insert().values(
            rollout_id=rollout_id,
            time_ns=now_ns,
            kind=kind.value,
            step=step,
            actor=actor[:64],
            words=words,
            revision=revision,
            evidence={"readings": [codec.to_plain(reading) for reading in evidence]} if evidence else {},
        )
    )


def save(connection: sa.Connection, rollout: Rollout) -> None:
    """Store how it stands; what it is never changes. A wish is left alone: `forget_wish`."""
    values = {
        "state": rollout.state.value,
        "reason": rollout.reason,
        "standing": codec.to_plain(rollout.standing),
        "intent": sa.null() if rollout.intent is None else codec.to_plain(rollout.intent),
        "step": rollout.standing.step,
        "changed_ns": rollout.changed_ns,
        "ended_ns": rollout.ended_ns,
    }
    connection.execute(t.rollouts.update().where(t.rollouts.c.id == rollout.id).values(**values))


def forget_wish(connection: sa.Connection, rollout_id: str) -> None:
    """It was done, or cannot be."""
    connection.execute(t.rollouts.update().where(t.rollouts.c.id == rollout_id).values(wish=sa.null()))


def _rollout(row: Mapping[Any, Any]) -> Rollout:
    plain = {name: value for name, value in row.items() if name != "step"}
    decoded = {
        "policy": codec.from_plain(RolloutPolicy, row["policy"]),
        "state": RolloutState(row["state"]),
        "standing": codec.from_plain(Standing, row["standing"]),
        "intent": None if row["intent"] is None else codec.from_plain(Intent, row["intent"]),
        "wish": None if row["wish"] is None else codec.from_plain(Wish, row["wish"]),
    }
    return Rollout(**plain | decoded)
