"""The traffic plan that each step of a roll-out wants, and whether a plan is what it wanted. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from export.contracts.traffic import ChallengerMode, TrafficPlan
from monitoring.rollout.policy import RolloutPolicy, StepKind

AUTHOR = "rollout"
_BAKES = re.compile(r"roll-out [0-9a-f]{16}: champion;")


def plan_of_step(
    now: TrafficPlan, policy: RolloutPolicy, step: int, *, candidate: str, champion: str | None, reason: str
) -> TrafficPlan:
    """The plan in which `step` runs; pins stay."""
    wanted = policy.steps[step]
    base = replace(now, author=AUTHOR, reason=reason, rolled_back=None)
    if wanted.kind is StepKind.CHAMPION:
        back = champion if champion is not None and wanted.percent > 0 else None
        return replace(
            base,
            champion=candidate,
            challenger=back,
            mode=ChallengerMode.NONE if back is None else ChallengerMode.CANARY,
            canary_percent=0.0 if back is None else wanted.percent,
        )
    mode = ChallengerMode.SHADOW if wanted.kind is StepKind.SHADOW else ChallengerMode.CANARY
    share = 0.0 if mode is ChallengerMode.SHADOW and wanted.percent in (0, 100) else wanted.percent
    return replace(base, champion=champion, challenger=candidate, mode=mode, canary_percent=share)


def plan_without(now: TrafficPlan, *, candidate: str, champion: str | None, reason: str) -> TrafficPlan:
    """The plan that withdraws the candidate; where it is the champion, the one before it answers again."""
    base = replace(
        now,
        challenger=None,
        mode=ChallengerMode.NONE,
        canary_percent=0.0,
        author=AUTHOR,
        reason=reason,
        rolled_back=None,
    )
    if now.champion != candidate:
        return base
    return replace(base, champion=champion, rolled_back=now.revision)


def plan_at_end(now: TrafficPlan, *, reason: str) -> TrafficPlan:
    """The plan after a bake time that went well: no hold-back any more."""
    return replace(
        now,
        challenger=None,
        mode=ChallengerMode.NONE,
        canary_percent=0.0,
        author=AUTHOR,
        reason=reason,
        rolled_back=None,
    )


def routes_alike(one: TrafficPlan, other: TrafficPlan) -> bool:
    """Whether the two send requests the same ways; pins, authors and revisions may differ."""
    return (one.champion, one.challenger, one.mode, one.canary_percent) == (
        other.champion,
        other.challenger,
        other.mode,
        other.canary_percent,
    )


def is_written(plan: TrafficPlan, wanted: TrafficPlan, expected: int) -> bool:
    """Whether `plan` is `wanted`, written as the revision after `expected`."""
    same = replace(plan, revision=0, changed_at="") == replace(wanted, revision=0, changed_at="")
    return plan.revision == expected + 1 and same


def tries_challenger(plan: TrafficPlan) -> bool:
    """Whether a roll-out wrote this plan to try its challenger: not the one of its bake time, nor anybody else's."""
    return plan.author == AUTHOR and plan.challenger is not None and _BAKES.match(plan.reason) is None
