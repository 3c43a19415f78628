"""The duty over a real store: good candidates arrive, bad ones go, people are obeyed, and crashes leave no trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from export.contracts.errors import Conflict, InvalidRequest
from export.contracts.traffic import ChallengerMode
from monitoring.rollout.policy import EventKind, RolloutState
from monitoring.rollout.rows import Ask
from tests.support.rollout_world import QUICK, Character, MemoryPlans, World


def test_a_good_candidate_goes_every_step_and_stays(tmp_path: Path) -> None:
    world = World(folder=tmp_path)
    identity = world.begin()
    done = world.run(identity, 240)
    assert done.state is RolloutState.PROMOTED, done.reason
    assert (world.plans.now.champion, world.plans.now.challenger) == ("2", None)
    modes = [(p.champion, p.challenger, p.mode.value, p.canary_percent) for p in world.plans.history]
    assert modes == [
        ("1", None, "none", 0.0),
        ("1", "2", "shadow", 0.0),
        ("1", "2", "canary", 0.5),
        ("1", "2", "canary", 1.0),
        ("2", "1", "canary", 5.0),
        ("2", None, "none", 0.0),
    ]
    assert [e.words.split(":")[0] for e in world.events(identity) if e.kind is EventKind.STEP] == [
        "shadow", "canary 0.5 %", "canary 1 %", "champion"
    ]  # fmt: skip
    assert done.standing.exposed == world.requests_of("2")
    assert done.standing.exposed_share <= 0.01


@pytest.mark.parametrize(
    ("who", "disagreement", "said"),
    [
        (Character(errors=0.2), 0.02, "errors"),
        (Character(invalid=1.0), 0.02, "not finite"),
        (Character(flagged=0.5), 0.02, "flagged"),
        (Character(), 0.6, "disagreement"),
        (Character(slow=1.0), 0.02, "slow"),
    ],
)
def test_a_bad_candidate_is_withdrawn_within_thirty_seconds(
    tmp_path: Path, who: Character, disagreement: float, said: str
) -> None:
    world = World(folder=tmp_path, disagreement=disagreement)
    world.characters["2"] = who
    identity = world.begin()
    done = world.run(identity, 120)
    assert done.state is RolloutState.ROLLED_BACK
    assert said in done.reason
    assert (world.plans.now.champion, world.plans.now.challenger) == ("1", None)
    assert done.standing.exposed_share <= 0.01
    step = [e for e in world.events(identity) if e.kind is EventKind.STEP][-1]
    assert done.ended_ns is not None
    assert done.ended_ns - step.time_ns <= 30e9


def test_one_that_turns_bad_in_its_bake_time_is_taken_back(tmp_path: Path) -> None:
    world = World(folder=tmp_path)
    identity = world.begin(replace(QUICK, steps=(*QUICK.steps[:-1], replace(QUICK.steps[-1], dwell_s=60.0))))
    while world.plans.now.champion != "2":
        world.second()
    world.characters["2"] = Character(errors=0.1)
    began = world.now_ns
    done = world.run(identity, 60)
    assert done.state is RolloutState.ROLLED_BACK
    assert world.now_ns - began <= 30e9
    assert (world.plans.now.champion, world.plans.now.challenger) == ("1", None)
    assert world.plans.now.rolled_back == world.plans.history[-2].revision


def test_without_traffic_it_holds_and_says_so_and_gives_up_in_the_end(tmp_path: Path) -> None:
    world = World(folder=tmp_path)
    steps = (replace(QUICK.steps[0], max_s=100.0), *QUICK.steps[1:])
    identity = world.begin(replace(QUICK, steps=steps))
    for _ in range(20):
        world.second(requests=0)
    assert world.look(identity).reason == "not enough traffic: 0 of 200 requests"
    held = [e for e in world.events(identity) if e.kind is EventKind.HELD]
    assert len(held) == 1, "what stays the same is told once"
    done = world.run(identity, 120, requests=0)
    assert done.state is RolloutState.ABORTED
    assert "given up" in done.reason
    assert world.plans.now.challenger is None


@pytest.mark.parametrize("kind", ["challenger_tripped", "version_unavailable"])
def test_what_replicas_tell_of_the_candidate_ends_it(tmp_path: Path, kind: str) -> None:
    world = World(folder=tmp_path)
    identity = world.begin()
    world.second()
    world.event(kind, "2", reason="golden cases: not finite")
    world.second()
    done = world.look(identity)
    assert done.state is RolloutState.ROLLED_BACK
    assert "golden cases: not finite" in done.reason


def test_people_pause_resume_abort_and_promote(tmp_path: Path) -> None:
    world = World(folder=tmp_path)
    identity = world.begin()
    world.second()
    world.ask(identity, Ask.PAUSE)
    for _ in range(60):
        world.second()
    stands = world.look(identity)
    assert (stands.state, stands.standing.step) == (RolloutState.PAUSED, 0)
    assert "ben paused it" in stands.reason
    with pytest.raises(Conflict):
        world.ask(identity, Ask.PAUSE)
    world.ask(identity, Ask.RESUME)
    world.turn()
    assert world.look(identity).state is RolloutState.RUNNING
    world.ask(identity, Ask.PROMOTE)
    world.turn()
    assert world.plans.now.champion == "2"
    world.ask(identity, Ask.ABORT)
    world.turn()
    assert world.look(identity).state is RolloutState.ABORTED
    assert world.plans.now.champion == "1"
    with pytest.raises(Conflict):
        world.ask(identity, Ask.RESUME)
    asked = [e.words for e in world.events(identity) if e.kind is EventKind.ASKED]
    assert asked == ["pause", "resume", "promote", "abort"]


def test_a_paused_one_is_still_withdrawn_on_evidence(tmp_path: Path) -> None:
    world = World(folder=tmp_path)
    identity = world.begin()
    world.second()
    world.ask(identity, Ask.PAUSE)
    world.characters["2"] = Character(errors=0.5)
    assert world.run(identity, 30).state is RolloutState.ROLLED_BACK


def test_a_plan_that_somebody_changes_is_never_written_over(tmp_path: Path) -> None:
    world = World(folder=tmp_path)
    identity = world.begin()
    world.second()
    plan = replace(world.plans.now, canary_percent=20.0, mode=ChallengerMode.CANARY, author="eve", reason="faster")
    world.plans.write(plan, expected_revision=world.plans.now.revision)
    for _ in range(30):
        world.second()
    stands = world.look(identity)
    assert stands.state is RolloutState.PAUSED
    assert "eve changed the plan (revision 3: faster)" in stands.reason
    assert world.plans.now.revision == 3
    world.ask(identity, Ask.RESUME)
    world.turn()
    assert world.plans.now.mode is ChallengerMode.SHADOW, "it goes on with the step that it was in"
    assert world.look(identity).state is RolloutState.RUNNING


def test_a_pin_concerns_no_rollout(tmp_path: Path) -> None:
    world = World(folder=tmp_path)
    identity = world.begin()
    world.second()
    world.plans.write(replace(world.plans.now, pinned=("3",), author="eve"), expected_revision=2)
    done = world.run(identity, 240)
    assert done.state is RolloutState.PROMOTED
    assert world.plans.now.pinned == ("3",)


def test_a_rollback_by_hand_ends_it(tmp_path: Path) -> None:
    world = World(folder=tmp_path)
    identity = world.begin()
    while world.plans.now.champion != "2":
        world.second()
    world.plans.rollback("digits", author="eve", reason="no")
    revision = world.plans.now.revision
    world.turn()
    done = world.look(identity)
    assert done.state is RolloutState.ROLLED_BACK
    assert "eve" in done.reason
    assert world.plans.now.revision == revision


def test_one_at_a_time_and_the_same_training_is_one(tmp_path: Path) -> None:
    world = World(folder=tmp_path)
    first = world.begin(training_id="t1")
    assert world.begin(training_id="t1") == first
    with pytest.raises(Conflict, match="end it first"):
        world.begin(candidate="3", training_id="t2")
    with pytest.raises(InvalidRequest):
        world.begin(candidate="1")


def test_where_nobody_answers_the_first_version_does_at_once(tmp_path: Path) -> None:
    world = World(folder=tmp_path, plans=MemoryPlans(champion=None))
    identity = world.begin(champion=None)
    world.turn()
    assert world.plans.now.champion == "2"
    assert world.run(identity, 60).state is RolloutState.PROMOTED


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_any_write_of_the_plan_changes_nothing(tmp_path: Path, when: str) -> None:
    world, died = World(folder=tmp_path), set()
    identity = world.begin()
    for _ in range(240):
        if (step := len(world.plans.history)) not in died:
            world.plans.die = when
        try:
            world.second()
        except KeyboardInterrupt:
            died.add(step)
        if world.look(identity).ended:
            break
    assert len(died) == 5, "once around every write"
    assert world.look(identity).state is RolloutState.PROMOTED
    assert [p.canary_percent for p in world.plans.history] == [0.0, 0.0, 0.5, 1.0, 5.0, 0.0]
    assert len([e for e in world.events(identity) if e.kind is EventKind.STEP]) == 4
