"""The plans that a roll-out is about to write, with what follows from each. Pure."""

from __future__ import annotations

from export.contracts.traffic import TrafficPlan
from monitoring.rollout.decide import Move
from monitoring.rollout.plans import plan_at_end, plan_of_step, plan_without
from monitoring.rollout.policy import EventKind, RolloutState
from monitoring.rollout.rows import Intent, Rollout
from monitoring.rollout.words import step_words


def intent_of(rollout: Rollout, move: Move, words: str, plan: TrafficPlan, actor: str) -> Intent:
    """The plan that a move wants."""
    step = rollout.standing.step
    reason = _reason(rollout, words)
    if move is Move.ADVANCE:
        # where nobody answers there is nothing to be compared with
        following = step + 1 if rollout.champion is not None else len(rollout.policy.steps) - 1
        return step_intent(step_plan(rollout, following, plan, words), plan, following, actor, words)
    if move is Move.FINISH:
        state, kind, wanted = RolloutState.PROMOTED, EventKind.PROMOTED, plan_at_end(plan, reason=reason)
    else:
        back = move is Move.ROLL_BACK
        state = RolloutState.ROLLED_BACK if back else RolloutState.ABORTED
        kind = EventKind.ROLLED_BACK if back else EventKind.ABORTED
        wanted = plan_without(plan, candidate=rollout.candidate, champion=rollout.champion, reason=reason)
    return Intent(plan=wanted, expected=plan.revision, step=step, state=state, kind=kind, actor=actor, words=words)


def step_intent(wanted: TrafficPlan, plan: TrafficPlan, step: int, actor: str, words: str) -> Intent:
    """That `step` begins with the plan `wanted`."""
    return Intent(
        plan=wanted,
        expected=plan.revision,
        step=step,
        state=RolloutState.RUNNING,
        kind=EventKind.STEP,
        actor=actor,
        words=words,
    )


def step_plan(rollout: Rollout, step: int, plan: TrafficPlan, words: str) -> TrafficPlan:
    """The plan in which a step runs."""
    reason = _reason(rollout, f"{step_words(rollout.policy.steps[step])}; {words}")
    return plan_of_step(
        plan, rollout.policy, step, candidate=rollout.candidate, champion=rollout.champion, reason=reason
    )


def _reason(rollout: Rollout, words: str) -> str:
    return f"roll-out {rollout.id}: {words}"[:500]
