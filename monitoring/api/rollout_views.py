"""Roll-outs as the API and the console show them, and what people ask of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from export.contracts.errors import InvalidRequest
from monitoring.api import fields
from monitoring.api import rollout_models as m
from monitoring.catalogue import Catalogue
from monitoring.people.contracts import Principal
from monitoring.rollout import rows
from monitoring.rollout.options import RolloutOptions
from monitoring.rollout.policy import EventKind, RolloutState
from monitoring.rollout.readings import Reading, readings
from monitoring.rollout.rows import Ask, Rollout, RolloutEvent
from monitoring.rollout.words import METRIC_WORDS, step_words
from monitoring.store import Store


@dataclass(frozen=True, kw_only=True)
class RolloutDesk:
    """What is known of roll-outs, and what can be asked of them."""

    store: Store
    catalogue: Catalogue
    clock: Callable[[], datetime]
    options: RolloutOptions = field(default_factory=RolloutOptions)

    def list(self, model: str | None = None, limit: int = 50) -> Sequence[m.Rollout]:
        """Newest first."""
        with self.store.read() as connection:
            return [m.Rollout(**_short(one)) for one in rows.rollouts(connection, model, limit)]

    def show(self, rollout_id: str) -> m.RolloutDetail:
        """One, with everything.

        Raises:
            NotFound: no such roll-out.
        """
        with self.store.read() as connection:
            one, log = rows.look(connection, rollout_id), rows.events(connection, rollout_id)
        return _detail(one, log)

    def begin(self, asked: m.RolloutStart, who: Principal) -> m.RolloutDetail:
        """Roll a registered version out.

        Raises:
            InvalidRequest: no such version, or it answers already.
            Conflict: another roll-out of the model runs.
        """
        if asked.version not in self.catalogue.versions(asked.model):
            raise InvalidRequest(f"model '{asked.model}' has no version '{asked.version}' in the registry")
        plan = self.catalogue.plan(asked.model)
        with self.store.write() as connection:
            identity = rows.begin(
                connection,
                model=asked.model,
                candidate=asked.version,
                champion=plan.champion if plan is not None else None,
                policy=self.options.of(asked.model, disagreement=asked.disagreement),
                author=who.name,
                now_ns=self._now_ns(),
            )
        return self.show(identity)

    def ask(self, rollout_id: str, what: Ask, note: str, who: Principal) -> m.RolloutDetail:
        """Ask for something; it is done within a second.

        Raises:
            NotFound: no such roll-out.
            Conflict: it has ended, or stands so already.
        """
        with self.store.write() as connection:
            rows.ask(connection, rollout_id, what, actor=who.name, note_text=note, now_ns=self._now_ns())
        return self.show(rollout_id)

    def _now_ns(self) -> int:
        return int(self.clock().timestamp() * 1e9)


def _short(one: Rollout) -> dict[str, Any]:
    step = one.standing.step
    return {
        "id": one.id,
        "model": one.model,
        "candidate": one.candidate,
        "champion": one.champion,
        "state": one.state.value,
        "step": step,
        "step_words": step_words(one.policy.steps[step]) if step >= 0 else "not begun",
        "reason": one.reason,
        "author": one.author,
        "began": fields.from_ns(one.created_ns),
        "ended": None if one.ended_ns is None else fields.from_ns(one.ended_ns),
        "exposed_share": one.standing.exposed_share,
    }


def _detail(one: Rollout, log: Sequence[RolloutEvent]) -> m.RolloutDetail:
    standing, policy = one.standing, one.policy
    asked = policy.steps[standing.step].prove if standing.step >= 0 else ()
    return m.RolloutDetail(
        **_short(one),
        gate=one.gate_id,
        training=one.training_id,
        served_s=standing.served_ns / 1e9,
        requests=standing.requests,
        latency_budget_ms=None if standing.budget_us is None else standing.budget_us / 1000,
        false_rollback=policy.alpha,
        wrong_promotion=policy.beta,
        steps=[_step(one, number, log) for number in range(len(policy.steps))],
        readings=[_reading(reading, reading.metric in asked) for reading in readings(standing, policy)],
        ledger=m.RolloutLedger(
            answered=standing.answered,
            exposed=standing.exposed,
            exposed_share=standing.exposed_share,
            limit=policy.exposure,
            after=standing.after,
        ),
        asked=None if one.wish is None else one.wish.ask.value,
        events=[
            m.RolloutEvent(
                time=fields.from_ns(e.time_ns),
                kind=e.kind.value,
                step=e.step,
                actor=e.actor,
                words=e.words,
                revision=e.revision,
            )
            for e in log
        ],
    )


def _step(one: Rollout, number: int, log: Sequence[RolloutEvent]) -> m.RolloutStep:
    step, at = one.policy.steps[number], one.standing.step
    began = [e.time_ns for e in log if e.kind is EventKind.STEP and e.step == number]
    state = "done" if began else "left"  # one that a person skipped, or that was never reached
    if number == at and one.state is not RolloutState.PROMOTED:
        state = "stopped" if one.ended else "running"
    elif number > at and not one.ended:
        state = "waiting"
    return m.RolloutStep(
        number=number,
        kind=step.kind.value,
        words=step_words(step),
        percent=step.percent,
        state=state,
        dwell_s=step.dwell_s,
        requests=step.requests,
        prove=[METRIC_WORDS[metric] for metric in step.prove],
        max_s=step.max_s,
        began=fields.from_ns(began[-1]) if began else None,
    )


def _reading(reading: Reading, asked: bool) -> m.RolloutReading:
    return m.RolloutReading(
        metric=reading.metric.value,
        words=METRIC_WORDS[reading.metric],
        requests=reading.n,
        rate=reading.rate,
        reference=reading.reference,
        tolerance=reading.tolerance,
        margin=reading.margin,
        against=min(1.0, reading.worse),
        proved=min(1.0, reading.safe),
        asked=asked,
    )
