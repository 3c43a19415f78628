"""Puts a model's challenger on duty as its plan says, and takes it off again. On the loop, between two requests."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from export.contracts.traffic import ChallengerMode, TrafficPlan
from serving.assignment import Assignment
from serving.breaker import Breaker
from serving.canary import Canary
from serving.evidence import Evidence
from serving.options import ChallengerOptions
from serving.served import ServedModel
from serving.shadow import Shadow

if TYPE_CHECKING:
    from serving.runtime.base import Fact
    from serving.version_loader import Tell

_log = logging.getLogger("hardcase.pool")
_END_PATIENCE_S = 2.0  # for a shadow's pass that is under way when the process stops


class ChallengerDuty:
    """Canaries and shadows of one pool.

    Args:
        options: Bounds.
        tell: Takes events.
    """

    def __init__(self, options: ChallengerOptions, *, tell: Tell) -> None:
        self._options = options
        self._tell = tell

    def arrange(self, served: ServedModel) -> None:
        """Let the challenger do what the plan says now; nothing changes when it does already.

        A challenger that is not READY, or was taken out for its failures, is not on duty: the champion answers.
        """
        plan = served.plan
        evidence = self._evidence(served)
        champion, challenger = served.champion, served.challenger()
        if plan is None or evidence is None or champion is None or challenger is None or evidence.tripped:
            self._relieve(served)
            return
        wanted = (champion, challenger, plan.mode, plan.challenger_percent)
        if wanted == served.arranged:
            return
        self._relieve(served)
        served.arranged = wanted
        share = Assignment(served.name, challenger.version, plan.challenger_percent)
        if plan.mode is ChallengerMode.SHADOW:
            served.shadow = Shadow(champion, challenger, share, options=self._options, evidence=evidence)
        else:
            served.canary = Canary(
                served, challenger, share, evidence=evidence, trip=lambda reason: self._trip(served, evidence, reason)
            )
        self._tell(
            "challenger_on_duty",
            served.name,
            challenger.version,
            {"revision": plan.revision, "mode": plan.mode, "percent": plan.challenger_percent},
        )
        _log.info("model %s: %s is %s with %g %%", served.name, challenger.version, plan.mode, share.percent)

    async def end(self, served: ServedModel) -> None:
        """Take the challenger off duty for good, and wait a moment for what it is still computing."""
        shadow = served.shadow
        self._relieve(served)
        give_up = time.monotonic() + _END_PATIENCE_S
        while shadow is not None and not shadow.idle and time.monotonic() < give_up:
            await asyncio.sleep(0.01)

    def _relieve(self, served: ServedModel) -> None:
        for challenger in (served.canary, served.shadow):
            if challenger is not None:
                challenger.close()
        served.canary = served.shadow = None
        served.arranged = ()

    def _evidence(self, served: ServedModel) -> Evidence | None:
        """What is known about the plan's challenger; begun anew when it, or what it does, changes."""
        plan, known = served.plan, served.evidence
        if plan is None or plan.challenger is None or plan.mode is ChallengerMode.NONE:
            served.evidence = None
        elif known is None or (known.challenger, known.mode) != (plan.challenger, plan.mode) or _again(plan, known):
            breaker = Breaker(bound=self._options.failure_rate)
            served.evidence = Evidence(plan.challenger, plan.mode, time.time_ns(), breaker)
        return served.evidence

    def _trip(self, served: ServedModel, evidence: Evidence, reason: str) -> None:
        """Take a failing challenger out, here and at once. The plan stays: whoever decides reads why."""
        if evidence.tripped:
            return
        evidence.tripped = reason
        evidence.tripped_revision = served.plan.revision if served.plan else 0
        if served.evidence is evidence:
            self._relieve(served)
        detail: dict[str, Fact] = {
            "reason": reason,
            "revision": evidence.tripped_revision,
            "requests": evidence.breaker.requests,
            "failures": evidence.breaker.failures,
        }
        self._tell("challenger_tripped", served.name, evidence.challenger, detail)
        _log.warning("model %s: challenger %s is out: %s", served.name, evidence.challenger, reason)


def _again(plan: TrafficPlan, known: Evidence) -> bool:
    """Whether somebody has decided anew since the challenger was taken out."""
    return bool(known.tripped) and plan.revision > known.tripped_revision
