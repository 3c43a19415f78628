"""The machine of a turn: forwards only, ended for good, and ended when a person says so."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.gate.contracts import Outcome
from monitoring.loop.contracts import JobState, Stage
from monitoring.loop.machine import Act, Facts, RolloutEnd, step

ORDER = [
    Stage.ASKED,
    Stage.REQUESTED,
    Stage.TRAINING,
    Stage.TRAINED,
    Stage.GATING,
    Stage.GATED,
    Stage.ROLLING_OUT,
]
FACTS = st.builds(
    Facts,
    stage=st.sampled_from(Stage),
    trainer=st.booleans(),
    approved=st.booleans(),
    cancelled=st.booleans(),
    approval_over=st.booleans(),
    built=st.booleans(),
    job=st.sampled_from(JobState),
    job_reason=st.sampled_from(["", "out of memory"]),
    overdue=st.booleans(),
    admitted=st.booleans(),
    judged=st.none() | st.sampled_from(Outcome),
    rolling=st.booleans(),
    rollout=st.none() | st.sampled_from(RolloutEnd),
)


@given(FACTS)
def test_a_turn_moves_one_station_forwards_or_ends(facts: Facts) -> None:
    found = step(facts)
    if facts.stage.ended:
        assert (found.act, found.stage, found.problem) == (Act.NONE, facts.stage, "")
    elif not found.stage.ended:
        assert ORDER.index(found.stage) - ORDER.index(facts.stage) in (0, 1)
    assert step(facts) == found


@given(FACTS)
def test_only_a_promotion_ends_without_a_reason(facts: Facts) -> None:
    found = step(facts)
    if found.stage.ended and not facts.stage.ended:
        assert bool(found.problem) is (found.stage is not Stage.PROMOTED)


@given(FACTS)
def test_a_person_ends_any_turn_in_one_step_unless_the_roll_out_has_ended(facts: Facts) -> None:
    asked = dataclasses.replace(facts, cancelled=True)
    if not facts.stage.ended and facts.rollout is None:
        assert step(asked).stage is Stage.CANCELLED


@given(FACTS)
def test_what_may_run_outside_is_stopped_before_a_turn_is_cancelled(facts: Facts) -> None:
    found = step(dataclasses.replace(facts, cancelled=True, rollout=None))
    if facts.stage in (Stage.TRAINING, Stage.GATING) or (facts.stage is Stage.REQUESTED and facts.built):
        assert found.act is Act.STOP_JOB
    elif facts.stage in (Stage.GATED, Stage.ROLLING_OUT):
        assert found.act is Act.STOP_ROLLOUT


@given(FACTS)
def test_nothing_but_a_gate_that_passed_leads_to_a_roll_out(facts: Facts) -> None:
    gating = dataclasses.replace(facts, stage=Stage.GATING, cancelled=False)
    assert (step(gating).stage is Stage.GATED) is (facts.judged is Outcome.PASSED)


@given(FACTS)
def test_nothing_begins_without_the_approval_that_was_asked_for(facts: Facts) -> None:
    if step(dataclasses.replace(facts, stage=Stage.ASKED)).stage is Stage.REQUESTED:
        assert facts.approved
        assert not facts.cancelled


@pytest.mark.parametrize(
    ("facts", "act", "stage"),
    [
        (Facts(stage=Stage.REQUESTED), Act.BUILD, Stage.REQUESTED),
        (Facts(stage=Stage.REQUESTED, built=True), Act.TRAIN, Stage.TRAINING),
        (Facts(stage=Stage.TRAINING), Act.TRAIN, Stage.TRAINING),
        (Facts(stage=Stage.TRAINING, job=JobState.RUNNING), Act.FOLLOW, Stage.TRAINING),
        (Facts(stage=Stage.TRAINING, job=JobState.RUNNING, overdue=True), Act.STOP_JOB, Stage.FAILED),
        (Facts(stage=Stage.TRAINING, job=JobState.SUCCEEDED), Act.FOLLOW, Stage.TRAINED),
        (Facts(stage=Stage.TRAINING, job=JobState.FAILED), Act.FOLLOW, Stage.FAILED),
        (Facts(stage=Stage.TRAINED), Act.ADMIT, Stage.TRAINED),
        (Facts(stage=Stage.TRAINED, admitted=True), Act.JUDGE, Stage.GATING),
        (Facts(stage=Stage.GATING, job=JobState.SUCCEEDED), Act.RECORD, Stage.GATING),
        (Facts(stage=Stage.GATING, judged=Outcome.UNDECIDED), Act.NONE, Stage.REJECTED),
        (Facts(stage=Stage.GATED), Act.ROLL_OUT, Stage.ROLLING_OUT),
        (Facts(stage=Stage.ROLLING_OUT, rolling=True), Act.NONE, Stage.ROLLING_OUT),
        (Facts(stage=Stage.ROLLING_OUT, rolling=True, rollout=RolloutEnd.PROMOTED), Act.NONE, Stage.PROMOTED),
        (Facts(stage=Stage.ROLLING_OUT, rolling=True, rollout=RolloutEnd.ROLLED_BACK), Act.NONE, Stage.ROLLED_BACK),
    ],
)
def test_each_station_leads_to_the_next(facts: Facts, act: Act, stage: Stage) -> None:
    found = step(facts)
    assert (found.act, found.stage) == (act, stage)
