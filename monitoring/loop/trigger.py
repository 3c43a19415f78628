"""Whether models are to be trained again: looks at the evidence, writes every decision down, begins turns.

A decision and the turn that it begins are one transaction, and a turn is the model's only one by a unique column: so a
trigger begins exactly one training, whatever is killed when.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from export.contracts.errors import Conflict, InvalidRequest, NotFound
from monitoring.catalogue import Catalogue
from monitoring.loop import rows, writes
from monitoring.loop.evidence import gather
from monitoring.loop.options import LoopOptions
from monitoring.loop.told import announce_suggestion
from monitoring.store import Store
from monitoring.triggers.contracts import Decision, Evidence, Reason, Verdict
from monitoring.triggers.decide import decide

logger = logging.getLogger(__name__)

BY_HAND = "by_hand"
TRAINER = "trainer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One look at a model: what is known, and what follows."""

    model: str
    champion: str
    evidence: Evidence
    verdict: Verdict


@dataclass(kw_only=True)
class Trigger:
    """Looks at models.

    Attributes:
        trainers: {model: name of its trainer}.
        clock: Seconds since the epoch.
    """

    store: Store
    catalogue: Catalogue
    options: LoopOptions
    trainers: Mapping[str, str]
    clock: Callable[[], float] = time.time

    def turn(self) -> None:
        """Look at every model that answers."""
        for model in self.catalogue.models():
            plan = self.catalogue.plan(model)
            if plan is None or plan.champion is None:
                continue
            self.decide(model, plan.champion)

    def decide(self, model: str, champion: str) -> str | None:
        """Look at one model, write the decision down, and begin what follows; returns the id of the turn, if any."""
        now_ns = int(self.clock() * 1e9)
        with self.store.read() as connection:  # the counting keeps nobody from writing
            look = self.look(connection, model, champion, now_ns)
        with self.store.write() as connection:
            policy = self.options.of(model).policy
            row, fresh = writes.note_decision(connection, model, look.verdict, look.evidence, policy, now_ns)
            if look.verdict.decision is Decision.WAIT:
                if fresh and _only_trainer_missing(look.verdict):
                    announce_suggestion(connection, model, row, look.verdict.words, now_ns)
                return None
            begun = self._begin(connection, look, row, now_ns)
        logger.info("training %s of %s: %s", begun, model, look.verdict.words)
        return begun

    def look(self, connection: sa.Connection, model: str, champion: str, now_ns: int) -> Look:
        """What a policy says now. Changes nothing."""
        evidence = gather(connection, model, champion, now_ns)
        verdict = self._with_trainer(model, decide(self.options.of(model).policy, evidence))
        return Look(model=model, champion=champion, evidence=evidence, verdict=verdict)

    def by_hand(self, model: str, actor: str, reason: str, *, dry_run: bool = False) -> tuple[Look, str | None]:
        """A person wants a training: neither condition nor cool-down holds it back, only what is under way.

        Returns:
            What was seen with the verdict, and the id of the turn; None where `dry_run` begins none.

        Raises:
            NotFound: no such model.
            InvalidRequest: the model answers nothing, or has no trainer.
            Conflict: a training of it is under way.
        """
        champion, now_ns = self.champion(model), int(self.clock() * 1e9)
        with self.store.read() as connection:
            look = self.look(connection, model, champion, now_ns)
        said = reason or "asked for by hand"
        asked = Reason(name=BY_HAND, holds=True, words=f"{actor} asks for it: {said}")
        reasons, words = (asked, *look.verdict.reasons), f"train: {asked.words}"
        made = dataclasses.replace(look, verdict=Verdict(decision=Decision.RETRAIN, reasons=reasons, words=words))
        if model not in self.trainers:
            problem = f"no trainer is configured for '{model}' (retrain.trainers in the settings)"
            if not dry_run:
                raise InvalidRequest(problem)
            return dataclasses.replace(look, verdict=_held(made.verdict, "", problem)), None
        if look.evidence.running is not None:
            problem = f"{look.evidence.running} is under way"
            if not dry_run:
                raise Conflict(problem)
            return dataclasses.replace(look, verdict=_held(made.verdict, "", problem)), None
        if dry_run:
            return made, None
        with self.store.write() as connection:
            policy = self.options.of(model).policy
            row, _ = writes.note_decision(connection, model, made.verdict, made.evidence, policy, now_ns, actor)
            return made, self._begin(connection, made, row, now_ns, actor, said)

    def champion(self, model: str) -> str:
        """The version that answers.

        Raises:
            NotFound: no such model.
            InvalidRequest: none does.
        """
        if model not in self.catalogue.models():
            raise NotFound("there is no model of this name")
        plan = self.catalogue.plan(model)
        if plan is None or plan.champion is None:
            raise InvalidRequest(f"'{model}' has no version that answers: there is nothing to train from")
        return plan.champion

    def plan(self, model: str, champion: str) -> writes.Plan:
        """What a turn of this model would be now."""
        settings = self.options.of(model)
        return writes.Plan(
            champion=champion,
            trainer=self.trainers.get(model, ""),
            seed=settings.seed,
            budget_s=settings.budget_s,
            silence_s=settings.silence_s,
            parameters=settings.parameters,
            recipe=settings.recipe,
        )

    def _begin(
        self,
        connection: sa.Connection,
        look: Look,
        decision: int,
        now_ns: int,
        actor: str = rows.HARDCASE,
        reason: str = "",
    ) -> str:
        return writes.begin(
            connection,
            model=look.model,
            decision=decision,
            verdict=look.verdict,
            evidence=look.evidence,
            plan=self.plan(look.model, look.champion),
            now_ns=now_ns,
            actor=actor,
            reason=reason,
        )

    def _with_trainer(self, model: str, verdict: Verdict) -> Verdict:
        """A model without a trainer is not trained; the decision says so."""
        if model in self.trainers:
            return verdict
        says = "no trainer is configured for this model"
        if verdict.decision is Decision.WAIT:
            reason = Reason(name=TRAINER, holds=False, words=says)
            return dataclasses.replace(verdict, reasons=(*verdict.reasons, reason))
        return _held(verdict, TRAINER, says)


def _held(verdict: Verdict, name: str, says: str) -> Verdict:
    reasons = (*verdict.reasons, Reason(name=name, holds=False, words=says)) if name else verdict.reasons
    because = verdict.words.partition(": ")[2] or verdict.words
    return Verdict(decision=Decision.WAIT, reasons=reasons, words=f"wait: {because}; but {says}")


def _only_trainer_missing(verdict: Verdict) -> bool:
    """Everything speaks for a training but that there is nobody to do it."""
    return verdict.reasons[-1].name == TRAINER and verdict.words.endswith(verdict.reasons[-1].words)
