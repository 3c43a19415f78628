"""Trigger policies: what makes them train, what holds them back, and that the regret rule is the optimal one."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.triggers.contracts import (
    AlarmCondition,
    AllOf,
    AnyOf,
    Decision,
    Evidence,
    FailuresCondition,
    GrowthCondition,
    Regret,
    RegretCondition,
    ScheduleCondition,
    TriggerPolicy,
)
from monitoring.triggers.decide import decide

NOON = 1_795_262_400.0  # 2026-11-21 12:00 UTC
ALARMED = Evidence(now_s=NOON, alarms=("a1",), failures=80, labels=120, trained_s=NOON - 864_000)
ON_ALARM = TriggerPolicy(condition=AlarmCondition())


def test_an_alarm_with_labels_trains_and_says_why() -> None:
    verdict = decide(ON_ALARM, ALARMED)
    assert (verdict.decision, verdict.words) == (Decision.RETRAIN, "train: alarm a1 is open")


def test_no_alarm_waits_and_says_why() -> None:
    verdict = decide(ON_ALARM, dataclasses.replace(ALARMED, alarms=()))
    assert (verdict.decision, verdict.words) == (Decision.WAIT, "wait: no alarm on the error rate is open")


@pytest.mark.parametrize(
    ("change", "guard", "says"),
    [
        ({"labels": 49}, "labels", "49 new labels, at least 50 are needed"),
        ({"running": "job-7"}, "single_flight", "job-7 is under way"),
        ({"starts_s": (NOON - 600,)}, "cool_down", "the last training began 10 min ago, 1 h must pass"),
        ({"starts_s": tuple(NOON - 5_000 * k for k in range(1, 5))}, "budget", "4 trainings within 1 d, 4 are allowed"),
        ({"now_s": NOON + 11 * 3_600}, "quiet_hours", "quiet hours are 22:00 to 06:00 UTC, it is 23 h"),
        ({"now_s": NOON - 7 * 3_600}, "quiet_hours", "quiet hours are 22:00 to 06:00 UTC, it is 05 h"),
    ],
)
def test_a_guard_holds_back_what_the_condition_wants(change: dict, guard: str, says: str) -> None:
    policy = dataclasses.replace(ON_ALARM, quiet=(22, 6))
    assert decide(policy, ALARMED).decision is Decision.RETRAIN
    verdict = decide(policy, dataclasses.replace(ALARMED, **change))
    assert verdict.decision is Decision.WAIT
    assert [r.name for r in verdict.reasons if not r.holds] == [guard]
    assert says in verdict.words


def test_a_person_approves() -> None:
    policy = dataclasses.replace(ON_ALARM, approval=True)
    assert decide(policy, ALARMED).decision is Decision.ASK
    assert decide(policy, dataclasses.replace(ALARMED, approved=True)).decision is Decision.RETRAIN


def test_failures_count_in_all_or_in_one_slice() -> None:
    spread = dataclasses.replace(ALARMED, slices={"night": 30, "rain": 41})
    assert decide(TriggerPolicy(condition=FailuresCondition(count=80)), spread).decision is Decision.RETRAIN
    in_one = TriggerPolicy(condition=FailuresCondition(count=42, one_slice=True))
    assert "41 reviewed failures in slice rain, 42 are asked for" in decide(in_one, spread).words


def test_all_and_any() -> None:
    alarm, schedule = AlarmCondition(), ScheduleCondition(every_s=20 * 86_400)
    for both, decision in ((AnyOf, Decision.RETRAIN), (AllOf, Decision.WAIT)):
        assert decide(TriggerPolicy(condition=both(conditions=(alarm, schedule))), ALARMED).decision is decision
    old = dataclasses.replace(ALARMED, trained_s=NOON - 21 * 86_400)
    assert decide(TriggerPolicy(condition=AllOf(conditions=(alarm, schedule))), old).decision is Decision.RETRAIN


@pytest.mark.parametrize(("slope", "cost"), [(1e-6, 50.0), (1e-5, 50.0), (1e-6, 400.0)])
def test_of_all_waits_the_regret_rule_takes_the_cheapest(slope: float, cost: float) -> None:
    """An error rate that grows by `slope` a request: the average cost (c + slope t^2 / 2) / t is least at its stop."""
    policy = TriggerPolicy(condition=RegretCondition(cost=cost))

    def at(t: float) -> Decision:
        regret = Regret(answered=t, excess=slope * t * t / 2, rate=slope * t)
        return decide(policy, dataclasses.replace(ALARMED, regret=regret)).decision

    stop = next(t for t in itertools.count(100, 100) if at(t) is Decision.RETRAIN)
    assert stop == pytest.approx(math.sqrt(2 * cost / slope), abs=100)


def test_after_a_jump_it_trains_at_once_when_the_cycle_has_paid_for_it() -> None:
    policy = TriggerPolicy(condition=RegretCondition(cost=50))
    for healthy, decision in ((400, Decision.WAIT), (600, Decision.RETRAIN)):
        regret = Regret(answered=healthy + 1, excess=0.1, rate=0.1)
        assert decide(policy, dataclasses.replace(ALARMED, regret=regret)).decision is decision


@pytest.mark.parametrize(
    ("trained", "present", "holds"),
    [(50, 149, False), (50, 150, True), (400, 1_000, True), (1_000, 5_000, False), (0, 500, False)],
)
def test_a_training_on_few_labels_is_followed_by_one_on_many(trained: int, present: int, holds: bool) -> None:
    policy = TriggerPolicy(condition=GrowthCondition(factor=3, enough=1_000))
    verdict = decide(policy, dataclasses.replace(ALARMED, trained_present=trained, present=present))
    assert (verdict.decision is Decision.RETRAIN) == holds
    assert f"trained on {trained}" in verdict.words


def test_regret_that_nobody_knows_is_no_reason() -> None:
    verdict = decide(TriggerPolicy(condition=RegretCondition(cost=1)), ALARMED)
    assert "too few audited labels" in verdict.words


@given(
    alarms=st.lists(st.just("a"), max_size=1),
    labels=st.integers(0, 100),
    running=st.none() | st.just("j"),
    starts=st.lists(st.floats(NOON - 200_000, NOON), max_size=6),
    approved=st.booleans(),
)
def test_it_never_trains_past_a_guard(alarms, labels, running, starts, approved) -> None:
    policy = TriggerPolicy(condition=AlarmCondition(), approval=True)
    e = Evidence(
        now_s=NOON, alarms=tuple(alarms), labels=labels, running=running, starts_s=tuple(starts), approved=approved
    )
    verdict = decide(policy, e)
    free = labels >= 50 and running is None and all(NOON - s >= 3_600 for s in starts)
    free = free and sum(s > NOON - 86_400 for s in starts) < 4
    assert (verdict.decision is not Decision.WAIT) == (bool(alarms) and free)
    assert (verdict.decision is Decision.RETRAIN) == (bool(alarms) and free and approved)
    assert verdict == decide(policy, e)


@pytest.mark.parametrize(("field", "value"), [("budget", 0), ("min_labels", -1), ("quiet", (22, 24))])
def test_a_policy_that_cannot_be_followed_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        TriggerPolicy(condition=AlarmCondition(), **{field: value})
