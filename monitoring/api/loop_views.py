"""The loop as the API answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from export.contracts import codec
from export.contracts.errors import HardcaseError, InvalidRequest
from monitoring.api import loop_models as m
from monitoring.api.fields import from_ns
from monitoring.api.views import View
from monitoring.datasets.recipes import Recipe
from monitoring.loop import rows, writes
from monitoring.loop.contracts import Stage, Workshop
from monitoring.loop.trigger import Look, Trigger
from monitoring.people.contracts import Principal
from monitoring.triggers.contracts import Verdict

EVENTS = 2_000


@dataclass(frozen=True, kw_only=True)
class LoopDesk:
    """Answers about the loop, and what people ask of it.

    Attributes:
        workshop: None: this monitor trains nothing.
    """

    view: View
    trigger: Trigger
    workshop: Workshop | None
    clock: Callable[[], datetime]

    def overview(self) -> m.LoopOverview:
        """Every model."""
        return m.LoopOverview(
            active=self.workshop is not None, models=[self.model(name) for name in self.view.catalogue.models()]
        )

    def model(self, name: str) -> m.LoopModel:
        """Where one model stands, and what its policy says now."""
        plan = self.view.catalogue.plan(name)
        champion = None if plan is None else plan.champion
        with self.view.store.read() as connection:
            look = None if champion is None else self.trigger.look(connection, name, champion, self._now_ns())
            found = rows.turns(connection, name, limit=2)
        running = next((one for one in found if not one.stage.ended), None)
        last = next((one for one in found if one.stage.ended), None)
        return m.LoopModel(
            model=name,
            champion=champion,
            trainer=self.trigger.trainers.get(name),
            turn=None if running is None else turn_of(running),
            verdict=None if look is None else verdict_of(look.verdict),
            turns=max((one.number for one in found), default=0),
            last=None if last is None else turn_of(last),
        )

    def turns(self, model: str | None, limit: int, skip: int = 0) -> list[m.Turn]:
        """Turns, the newest first."""
        with self.view.store.read() as connection:
            return [turn_of(one) for one in rows.turns(connection, model, limit=limit, skip=skip)]

    def turn(self, identity: str) -> m.TurnDetail:
        """One turn.

        Raises:
            NotFound: there is none.
        """
        with self.view.store.read() as connection:
            one = rows.turn(connection, identity)
            began = rows.decision(connection, one.decision_id)
        return m.TurnDetail(
            training=turn_of(one),
            verdict=m.LoopVerdict(decision=began.decision, words=began.words, reasons=_reasons(began.reasons)),
        )

    def events(self, identity: str, since: int, limit: int = EVENTS) -> m.TurnEvents:
        """What was said since.

        Raises:
            NotFound: there is no such turn.
        """
        with self.view.store.read() as connection:
            rows.turn(connection, identity)
            found = rows.events(connection, identity, since, limit)
        said = [m.TurnEvent(at=from_ns(e.time_ns), **_plain(e, leave_out="time_ns")) for e in found]
        return m.TurnEvents(events=said, next=found[-1].number + 1 if found else since)

    def log(self, identity: str, lines: int, gate: bool) -> m.TurnLog:
        """The end of what its job has printed.

        Raises:
            NotFound: there is no such turn.
        """
        with self.view.store.read() as connection:
            one = rows.turn(connection, identity)
        if self.workshop is None:
            return m.TurnLog(text="")
        return m.TurnLog(text=self.workshop.jobs.log(one.gate_job if gate else one.id, lines))

    def decisions(self, model: str | None, limit: int) -> list[m.LoopDecision]:
        """Decisions, the newest first."""
        with self.view.store.read() as connection:
            found = rows.decisions(connection, model, limit)
        return [
            m.LoopDecision(
                id=d.id,
                model=d.model,
                at=from_ns(d.time_ns),
                last_at=from_ns(d.last_ns),
                looks=d.looks,
                decision=d.decision,
                actor=d.actor,
                words=d.words,
                reasons=_reasons(d.reasons),
                evidence=d.evidence,
                training=d.training_id,
            )
            for d in found
        ]

    def retrain(self, asked: m.RetrainAsked, who: Principal) -> m.Retrain:
        """Begin a training by hand, or say what would happen.

        Raises:
            NotFound: no such model.
            InvalidRequest: nothing of it answers, it has no trainer, or this monitor trains nothing.
            Conflict: a training of it is under way.
        """
        if self.workshop is None and not asked.dry_run:
            raise InvalidRequest("this monitor trains nothing: it has no registry to put a package into")
        trigger = self.trigger
        with self.view.store.read() as connection:  # before: what begins is no reason not to begin
            alone = trigger.look(connection, asked.model, trigger.champion(asked.model), self._now_ns())
        look, begun = trigger.by_hand(asked.model, who.name, asked.reason, dry_run=asked.dry_run)
        return self._retrain(look, alone, begun)

    def approve(self, identity: str, who: Principal) -> m.Turn:
        """Approve a turn that waits for it."""
        with self.view.store.write() as connection:
            return turn_of(writes.approve(connection, identity, who.name, self._now_ns()))

    def end(self, identity: str, who: Principal, reason: str, *, only_asked: bool = False) -> m.Turn:
        """Have a turn ended; `only_asked` refuses one that has begun.

        Raises:
            Conflict: it has ended, or has begun.
        """
        with self.view.store.write() as connection:
            if only_asked and rows.turn(connection, identity).stage is not Stage.ASKED:
                raise InvalidRequest("it does not wait for an approval: cancel it instead")
            return turn_of(writes.ask_to_end(connection, identity, who.name, reason))

    def _retrain(self, look: Look, alone: Look, begun: str | None) -> m.Retrain:
        settings, manifest = self.trigger.options.of(look.model), self.view.manifest(look.model, look.champion)
        return m.Retrain(
            model=look.model,
            champion=look.champion,
            decision=look.verdict.decision,
            words=look.verdict.words,
            reasons=verdict_of(look.verdict).reasons,
            policy=verdict_of(alone.verdict),
            evidence=codec.to_plain(look.evidence),
            trainer=self.trigger.trainers.get(look.model),
            version=self._next_version(look.model),
            snapshot=m.SnapshotPreview(
                labels=look.evidence.labels,
                failures=look.evidence.failures,
                base=None if manifest is None else manifest.provenance.dataset_snapshot,
                recipe=Recipe.from_plain(dict(settings.recipe)).to_plain(),
            ),
            training=begun,
        )

    def _next_version(self, model: str) -> str | None:
        if self.workshop is None:
            return None
        with self.view.store.read() as connection:
            taken = [one.version for one in rows.turns(connection, model, limit=1_000) if one.version]
        try:
            return self.workshop.candidates.next_version(model, taken)
        except HardcaseError:
            return None

    def _now_ns(self) -> int:
        return int(self.clock().timestamp() * 1e9)


def verdict_of(verdict: Verdict) -> m.LoopVerdict:
    """A verdict as the API answers it."""
    reasons = [m.LoopReason(name=r.name, holds=r.holds, words=r.words) for r in verdict.reasons]
    return m.LoopVerdict(decision=verdict.decision, words=verdict.words, reasons=reasons)


def turn_of(one: rows.TurnRow) -> m.Turn:
    """A turn as the API answers it."""
    same = set(m.Turn.model_fields) & set(rows.TurnRow.__dataclass_fields__)
    times = {"since": one.stage_ns, "asked_at": one.asked_ns, "requested_at": one.requested_ns}
    times |= {"began_at": one.began_ns, "trained_at": one.trained_ns, "ended_at": one.ended_ns}
    given: dict[str, Any] = {name: getattr(one, name) for name in same}
    given |= {name: None if at is None else from_ns(at) for name, at in times.items()}
    return m.Turn(**given, gate=one.gate_id, rollout=one.rollout_id, decision=one.decision_id)


def _reasons(plain: list[dict[str, Any]]) -> list[m.LoopReason]:
    return [m.LoopReason(name=r["name"], holds=r["holds"], words=r["words"]) for r in plain]


def _plain(row: rows.EventRow, leave_out: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__ if name != leave_out}
