"""The duty that drives roll-outs: gather, decide, note the intent, write the plan, note that it is written.

A plan is written between two transactions: the first notes what will be written and over which revision, the second
what follows. After a crash the intent says what to look for, so the step is done exactly once. A plan with another
revision was changed by somebody else: the roll-out pauses and says so, or ends where the candidate was withdrawn; it
never writes over what a person decided.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import Conflict, HardcaseError
from export.contracts.traffic import TrafficPlan
from monitoring import schema as t
from monitoring.duties import Duty
from monitoring.loop.contracts import Plans, Workshop
from monitoring.rollout import rows
from monitoring.rollout.decide import Decision, Move, Now, decide
from monitoring.rollout.evidence import gather, trouble_since
from monitoring.rollout.intents import intent_of, step_intent, step_plan
from monitoring.rollout.plans import is_written, routes_alike
from monitoring.rollout.policy import EventKind, RolloutState, StepKind
from monitoring.rollout.rows import ITSELF, Ask, Intent, Rollout, Wish
from monitoring.rollout.words import step_words
from monitoring.store import Store

logger = logging.getLogger(__name__)

EVERY_S = 0.5
_NUMBERS = re.compile(r"[\d.]+")


@dataclass(frozen=True, kw_only=True)
class Driver:
    """What a turn works with.

    Attributes:
        store: The monitor's.
        plans: Traffic plans.
        frontier_ns: Everything that happened before is in the database.
        apart: Of a model and version: how far two numbers may lie from each other (see `evidence.gather`).
        wall: The clock, in seconds.
    """

    store: Store
    plans: Plans
    frontier_ns: Callable[[], int]
    apart: Callable[[str, str], float | None] = lambda model, version: None
    wall: Callable[[], float] = time.time


def drive(driver: Driver) -> bool:
    """One turn of every roll-out that runs; returns whether one wants another at once."""
    with driver.store.read() as connection:
        ids = connection.scalars(sa.select(t.rollouts.c.id).where(t.rollouts.c.ended_ns.is_(None))).all()
    return any([_turn(driver, identity) for identity in ids])


def _turn(driver: Driver, identity: str) -> bool:
    now_ns = int(driver.wall() * 1e9)
    with driver.store.read() as connection:
        rollout = rows.look(connection, identity)
    plan = driver.plans.read(rollout.model)
    if plan is None:
        if rollout.standing.revision:
            return False  # there was one: it cannot be read just now
        plan = TrafficPlan(model=rollout.model, revision=0, champion=None)
    if rollout.intent is not None:
        return _write(driver, rollout, rollout.intent, plan, now_ns)
    changed = _changed_by_others(driver, rollout, plan, now_ns)
    if changed is None:
        return False
    rollout = changed
    with driver.store.write() as connection:
        rollout = replace(rows.look(connection, identity), standing=rollout.standing)
        rollout, decision = _look(driver, connection, rollout, now_ns)
        intent, rollout = _resolve(connection, rollout, decision, plan, now_ns)
        rollout = replace(rollout, intent=intent, changed_ns=now_ns)
        if rollout.state.ended:
            rollout = replace(rollout, ended_ns=now_ns)
        rows.save(connection, rollout)
    return False if rollout.intent is None else _write(driver, rollout, rollout.intent, plan, now_ns)


def _look(driver: Driver, connection: sa.Connection, rollout: Rollout, now_ns: int) -> tuple[Rollout, Decision]:
    """Take in what came, and decide."""
    standing, policy, paused = rollout.standing, rollout.policy, rollout.state is RolloutState.PAUSED
    trouble = ""
    if standing.step >= 0:
        block = gather(
            connection,
            rollout.model,
            rollout.candidate,
            rollout.champion,
            standing,
            policy,
            lambda: driver.apart(rollout.model, rollout.champion or ""),
        )
        standing = standing.look(block, policy, now_ns, counts_time=not paused)
        trouble = trouble_since(connection, rollout.model, rollout.candidate, rollout.created_ns)
    else:
        standing = replace(standing, looked_ns=now_ns)
    now = Now(time_ns=now_ns, evidence_ns=driver.frontier_ns(), paused=paused, trouble=trouble)
    return replace(rollout, standing=standing), decide(policy, standing, now)


def _resolve(
    connection: sa.Connection, rollout: Rollout, decision: Decision, plan: TrafficPlan, now_ns: int
) -> tuple[Intent | None, Rollout]:
    """What is written, if anything, and how the roll-out stands until then."""
    wish = rollout.wish
    if wish is not None:
        rows.forget_wish(connection, rollout.id)
        rollout = replace(rollout, wish=None)
        if decision.move is not Move.ROLL_BACK:  # what speaks against the candidate is stronger than any wish
            return _grant(connection, rollout, wish, decision, plan, now_ns)
    if decision.move is not Move.HOLD:
        return intent_of(rollout, decision.move, decision.reason, plan, ITSELF), rollout
    reason = rollout.reason if rollout.state is RolloutState.PAUSED else decision.reason
    if _NUMBERS.sub("", reason) != _NUMBERS.sub("", rollout.reason):
        step, found = rollout.standing.step, decision.readings
        rows.note(connection, rollout.id, EventKind.HELD, step, ITSELF, reason, now_ns=now_ns, evidence=found)
    return None, replace(rollout, reason=reason)


def _grant(
    connection: sa.Connection, rollout: Rollout, wish: Wish, decision: Decision, plan: TrafficPlan, now_ns: int
) -> tuple[Intent | None, Rollout]:
    """Do what a person asked."""
    step, words = rollout.standing.step, wish.note or f"asked by {wish.actor}"
    if wish.ask is Ask.PAUSE:
        reason = f"{wish.actor} paused it" + (f": {wish.note}" if wish.note else "")
        rows.note(connection, rollout.id, EventKind.PAUSED, step, wish.actor, reason, now_ns=now_ns)
        return None, replace(rollout, state=RolloutState.PAUSED, reason=reason)
    if wish.ask is Ask.RESUME:
        rows.note(connection, rollout.id, EventKind.RESUMED, step, wish.actor, words, now_ns=now_ns)
        rollout = replace(rollout, state=RolloutState.RUNNING, reason="resumed")
        if step < 0:
            return None, rollout
        wanted = step_plan(rollout, step, plan, "resumed")
        if routes_alike(plan, wanted):
            return None, rollout
        return step_intent(wanted, plan, step, wish.actor, "resumed"), rollout
    if wish.ask is Ask.ABORT:
        return intent_of(rollout, Move.ABORT, words, plan, wish.actor), rollout
    last = len(rollout.policy.steps) - 1
    if step == last:
        return intent_of(rollout, Move.FINISH, words, plan, wish.actor), rollout
    rollout = replace(rollout, state=RolloutState.RUNNING)
    return step_intent(step_plan(rollout, last, plan, words), plan, last, wish.actor, words), rollout


def _write(driver: Driver, rollout: Rollout, intent: Intent, plan: TrafficPlan, now_ns: int) -> bool:
    """Write the intended plan, unless it is written already, and note it."""
    try:
        if is_written(plan, intent.plan, intent.expected) or (
            plan.revision == intent.expected and routes_alike(plan, intent.plan)
        ):
            written = plan  # before a crash; or there is nothing to change
        else:
            written = driver.plans.write(intent.plan, expected_revision=intent.expected)
    except Conflict:
        with driver.store.write() as connection:  # the next turn sees who changed what
            rows.save(connection, replace(rows.look(connection, rollout.id), intent=None))
        return True
    except HardcaseError as error:
        return _not_written(driver, rollout, intent, str(error), now_ns)
    policy, standing = rollout.policy, rollout.standing
    with driver.store.write() as connection:
        now = rows.look(connection, rollout.id)
        if now.ended:
            return False
        if intent.kind is EventKind.STEP:
            kind = policy.steps[intent.step].kind
            standing = standing.enter(intent.step, kind, written.revision, now_ns)
            words = f"{step_words(policy.steps[intent.step])}: {intent.words}"
        else:
            standing, words = replace(standing, revision=written.revision), intent.words
        found = decide(policy, rollout.standing, Now(time_ns=now_ns, evidence_ns=now_ns)).readings
        rows.note(
            connection,
            rollout.id,
            intent.kind,
            intent.step,
            intent.actor,
            words,
            now_ns=now_ns,
            revision=written.revision,
            evidence=found,
        )
        after = replace(now, standing=standing, state=intent.state, reason=words, intent=None, changed_ns=now_ns)
        rows.save(connection, replace(after, ended_ns=now_ns if intent.state.ended else None))
    logger.info("roll-out %s of %s: %s", rollout.id, rollout.model, words)
    return False


def _not_written(driver: Driver, rollout: Rollout, intent: Intent, why: str, now_ns: int) -> bool:
    """The registry refuses the plan, as when somebody removed the version: the roll-out ends and says so."""
    words = f"{intent.words}; the plan could not be written: {why}"
    with driver.store.write() as connection:
        now = rows.look(connection, rollout.id)
        rows.note(connection, now.id, EventKind.ABORTED, now.standing.step, ITSELF, words, now_ns=now_ns)
        ended = replace(now, intent=None, state=RolloutState.ABORTED, reason=words, changed_ns=now_ns, ended_ns=now_ns)
        rows.save(connection, ended)
    return False


def _changed_by_others(driver: Driver, rollout: Rollout, plan: TrafficPlan, now_ns: int) -> Rollout | None:
    """The roll-out as it may go on; None when somebody's change of the plan keeps it from doing anything."""
    standing = rollout.standing
    if plan.revision == standing.revision and standing.step >= 0:
        return rollout
    if standing.step < 0:
        if plan.champion == rollout.champion and plan.challenger in (None, rollout.candidate):
            return rollout
        reason = f"version '{plan.challenger}' is the challenger, by {plan.author}: withdraw it first"
        if plan.champion != rollout.champion:
            reason = f"'{plan.champion}' is the champion by now, by {plan.author}, and not '{rollout.champion}'"
        _end(driver, rollout, RolloutState.ABORTED, EventKind.ABORTED, plan, reason, now_ns)
        return None
    who = f"{plan.author} changed the plan (revision {plan.revision}" + (f": {plan.reason})" if plan.reason else ")")
    wanted = step_plan(rollout, standing.step, plan, "")
    if routes_alike(plan, wanted):  # a pin: nothing that concerns this
        return replace(rollout, standing=replace(standing, revision=plan.revision))
    if rollout.candidate not in (plan.champion, plan.challenger):
        reason = f"{who} and withdrew the version"
        _end(driver, rollout, RolloutState.ROLLED_BACK, EventKind.ROLLED_BACK, plan, reason, now_ns)
        return None
    wish = rollout.wish
    bakes = rollout.policy.steps[standing.step].kind is StepKind.CHAMPION
    fits = plan.champion == (rollout.candidate if bakes else rollout.champion)
    if wish is not None and (wish.ask is Ask.ABORT or (wish.ask in (Ask.RESUME, Ask.PROMOTE) and fits)):
        return replace(rollout, standing=replace(standing, revision=plan.revision))
    reason = f"{who}: resume to go on from there, or abort"
    if not fits:
        reason = f"{who}, and '{plan.champion}' is the champion: promote it by hand or abort"
    if rollout.state is not RolloutState.PAUSED or rollout.reason != reason or wish is not None:
        with driver.store.write() as connection:
            now = rows.look(connection, rollout.id)
            rows.forget_wish(connection, now.id)
            rows.note(
                connection,
                now.id,
                EventKind.PAUSED,
                standing.step,
                plan.author,
                reason,
                now_ns=now_ns,
                revision=plan.revision,
            )
            rows.save(connection, replace(now, state=RolloutState.PAUSED, reason=reason, changed_ns=now_ns))
    return None


def _end(
    driver: Driver,
    rollout: Rollout,
    state: RolloutState,
    kind: EventKind,
    plan: TrafficPlan,
    reason: str,
    now_ns: int,
) -> None:
    """End without writing any plan: somebody else has."""
    with driver.store.write() as connection:
        now = rows.look(connection, rollout.id)
        rows.forget_wish(connection, now.id)
        step = now.standing.step
        rows.note(connection, now.id, kind, step, plan.author, reason, now_ns=now_ns, revision=plan.revision)
        rows.save(connection, replace(now, state=state, reason=reason, changed_ns=now_ns, ended_ns=now_ns))


def rollout_duty(workshop: Workshop, error_apart: Callable[[str, str], float | None]) -> Duty[Any]:
    """The duty for the monitor's roster.

    Args:
        workshop: Whose traffic plans are changed.
        error_apart: Of a model and version: how far two numbers may lie from each other.
    """

    def run(loop: Any) -> bool:
        return drive(
            Driver(
                store=loop.store,
                plans=workshop.plans,
                frontier_ns=lambda: loop.frontier_ns,
                apart=error_apart,
                wall=loop.wall,
            )
        )

    return Duty(name="rollout", interval_s=EVERY_S, run=run, while_behind=True)
