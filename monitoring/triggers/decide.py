"""Train again, ask, or wait; and why.

The regret rule: with R(t) the errors that waiting has cost since the last training, c what a training costs and r(t)
what waiting costs per request now, train when

    r(t) t >= c + R(t)

that is, when the next request costs more than the average request of this cycle would if it ended now. It is the
optimal rule of renewal reward (Barlow & Proschan, "Mathematical Theory of Reliability", 1965, for replacement): for an
error rate that grows steadily it trains at t = sqrt(2c / slope), and after a jump at once if the cycle was long enough
to pay for it.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from monitoring.triggers.contracts import (
    DAY_S,
    AlarmCondition,
    AllOf,
    AnyOf,
    Condition,
    Decision,
    Evidence,
    FailuresCondition,
    GrowthCondition,
    Reason,
    RegretCondition,
    ScheduleCondition,
    TriggerPolicy,
    Verdict,
)


def decide(policy: TriggerPolicy, evidence: Evidence) -> Verdict:
    """Apply a policy. Pure: the same evidence, the same verdict."""
    holds, conditions = _condition(policy.condition, evidence)
    guards = _guards(policy, evidence)
    closed = [guard for guard in guards if not guard.holds]
    reasons = (*conditions, *guards)
    because = "; ".join(reason.words for reason in conditions if reason.holds is holds)
    if not holds:
        return Verdict(decision=Decision.WAIT, reasons=reasons, words=f"wait: {because}")
    if closed:
        against = "; ".join(guard.words for guard in closed)
        return Verdict(decision=Decision.WAIT, reasons=reasons, words=f"wait: {because}; but {against}")
    if policy.approval and not evidence.approved:
        return Verdict(decision=Decision.ASK, reasons=reasons, words=f"approval is needed: {because}")
    return Verdict(decision=Decision.RETRAIN, reasons=reasons, words=f"train: {because}")


def _condition(asked: Condition, e: Evidence) -> tuple[bool, tuple[Reason, ...]]:
    """Whether it holds, and its parts one by one."""
    match asked:
        case AllOf() | AnyOf():
            parts = [_condition(part, e) for part in asked.conditions]
            together = all if isinstance(asked, AllOf) else any
            return together(holds for holds, _ in parts), tuple(r for _, reasons in parts for r in reasons)
        case AlarmCondition():
            reason = _alarm(e)
        case FailuresCondition():
            reason = _failures(asked, e)
        case RegretCondition():
            reason = _regret(asked, e)
        case GrowthCondition():
            reason = _growth(asked, e)
        case ScheduleCondition():
            reason = _schedule(asked, e)
    return reason.holds, (reason,)


def _alarm(e: Evidence) -> Reason:
    words = f"alarm {', '.join(e.alarms)} is open" if e.alarms else "no alarm on the error rate is open"
    return Reason(name="alarm", holds=bool(e.alarms), words=words)


def _failures(asked: FailuresCondition, e: Evidence) -> Reason:
    if not asked.one_slice:
        words = f"{e.failures} reviewed failures, {asked.count} are asked for"
        return Reason(name="failures", holds=e.failures >= asked.count, words=words)
    if not e.slices:
        return Reason(name="failures", holds=False, words="no reviewed failures lie in a slice")
    name, most = max(e.slices.items(), key=lambda item: (item[1], item[0]))
    words = f"{most} reviewed failures in slice {name}, {asked.count} are asked for"
    return Reason(name="failures", holds=most >= asked.count, words=words)


def _regret(asked: RegretCondition, e: Evidence) -> Reason:
    if e.regret is None:
        return Reason(name="regret", holds=False, words="too few audited labels to say what waiting costs")
    r = e.regret
    now, average = r.rate * r.answered, asked.cost + r.excess
    words = (
        f"waiting costs {r.rate:.2%} of the answers; over {r.answered:,.0f} requests that is {now:.0f}, "
        f"against {average:.0f} for training ({asked.cost:.0f}) and what was lost so far ({r.excess:.0f})"
    )
    return Reason(name="regret", holds=r.rate > 0 and now >= average, words=words)


def _growth(asked: GrowthCondition, e: Evidence) -> Reason:
    wanted = min(asked.enough, math.ceil(asked.factor * e.trained_present))
    words = f"{e.present} labels of the present traffic, trained on {e.trained_present}, {wanted} are asked for"
    return Reason(name="growth", holds=0 < e.trained_present < wanted <= e.present, words=words)


def _schedule(asked: ScheduleCondition, e: Evidence) -> Reason:
    if e.trained_s is None:
        return Reason(name="schedule", holds=True, words="the champion was never trained here")
    age = e.now_s - e.trained_s
    words = f"trained {_span(age)} ago, every {_span(asked.every_s)} is asked for"
    return Reason(name="schedule", holds=age >= asked.every_s, words=words)


def _guards(policy: TriggerPolicy, e: Evidence) -> tuple[Reason, ...]:
    """What may hold a training back, each told whether or not it does."""
    labels = Reason(
        name="labels",
        holds=e.labels >= policy.min_labels,
        words=f"{e.labels} new labels, at least {policy.min_labels} are needed",
    )
    single = Reason(
        name="single_flight",
        holds=e.running is None,
        words="nothing else of this model is under way" if e.running is None else f"{e.running} is under way",
    )
    since = e.now_s - max(e.starts_s) if e.starts_s else None
    cool = Reason(
        name="cool_down",
        holds=since is None or since >= policy.cool_down_s,
        words="no training began before"
        if since is None
        else f"the last training began {_span(since)} ago, {_span(policy.cool_down_s)} must pass",
    )
    recent = sum(start > e.now_s - policy.budget_s for start in e.starts_s)
    budget = Reason(
        name="budget",
        holds=recent < policy.budget,
        words=f"{recent} trainings within {_span(policy.budget_s)}, {policy.budget} are allowed",
    )
    return (labels, single, cool, budget, *_quiet(policy, e))


def _quiet(policy: TriggerPolicy, e: Evidence) -> tuple[Reason, ...]:
    if policy.quiet is None:
        return ()
    first, end = policy.quiet
    hour = datetime.fromtimestamp(e.now_s, UTC).hour
    inside = first <= hour < end if first <= end else hour >= first or hour < end
    words = f"quiet hours are {first:02}:00 to {end:02}:00 UTC, it is {hour:02} h"
    return (Reason(name="quiet_hours", holds=not inside, words=words),)


def _span(seconds: float) -> str:
    for size, unit in ((DAY_S, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
