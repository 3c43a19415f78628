"""Turns driven from the request to the end, with what is outside in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from export.contracts import codec
from export.contracts.training import EventKind, TrainingEvent, TrainingRequest
from monitoring import schema as t
from monitoring.gate.contracts import Outcome
from monitoring.loop import rows, writes
from monitoring.loop.contracts import JobState, Stage
from monitoring.loop.driver import PATIENCE
from tests.support.loop_world import DIGEST, PROMOTED, LoopWorld, loop_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LoopWorld]:
    made = loop_world(tmp_path)
    yield made
    made.store.close()


def stages(world: LoopWorld, identity: str) -> list[str]:
    with world.store.read() as connection:
        return [e.name or "" for e in rows.events(connection, identity, kind=rows.STAGE_EVENT)]


def test_a_turn_goes_through_every_station_to_the_promotion(world: LoopWorld) -> None:
    one = world.until(world.begin().id, Stage.TRAINING)
    assert (one.version, one.snapshot_digest, one.rows, one.champion) == ("3", DIGEST, 120, "2")
    request = codec.loads(TrainingRequest, world.jobs.jobs[one.id].request.read_bytes())
    assert (request.id, request.version, request.snapshot_digest, request.seed) == (one.id, "3", DIGEST, 7)
    assert request.parent == str(world.candidates.root / "digits" / "2")
    world.trained(one)
    world.until(one.id, Stage.GATING)
    world.jobs.state[one.gate_job] = JobState.SUCCEEDED
    world.until(one.id, Stage.ROLLING_OUT)
    assert world.stations.begun == [one.id]
    world.stations.end = PROMOTED
    done = world.until(one.id, Stage.PROMOTED)
    assert (done.flight, done.problem, done.gate_words) == (None, "", "the gate says passed")
    assert world.jobs.starts == [one.id, one.gate_job]
    expected = ["requested", "training", "trained", "gating", "gated", "rolling_out", "promoted"]
    assert stages(world, one.id) == expected
    with world.store.read() as connection:
        told = list(connection.scalars(sa.select(t.notices.c.kind).order_by(t.notices.c.id)))
    assert told == ["training.started", "loop.promoted"]


def test_what_a_trainer_says_is_taken_over_once(world: LoopWorld) -> None:
    one = world.until(world.begin().id, Stage.TRAINING)
    world.jobs.said[one.id] = [
        TrainingEvent(kind=EventKind.PROGRESS, step=1, of=4, text="epoch 1"),
        TrainingEvent(kind=EventKind.METRIC, name="val_accuracy", value=0.5, step=1),
    ]
    world.driver.turn()
    world.driver.turn()
    world.jobs.said[one.id] += [
        TrainingEvent(kind=EventKind.METRIC, name="val_accuracy", value=0.75, step=2),
        TrainingEvent(kind=EventKind.PROGRESS, step=2, of=4, text="epoch 2"),
    ]
    world.driver.turn()
    now = world.row(one.id)
    assert (now.step, now.steps, now.note, now.metrics, now.said) == (2, 4, "epoch 2", {"val_accuracy": 0.75}, 4)
    with world.store.read() as connection:
        found = [(e.step, e.value) for e in rows.events(connection, one.id, kind="metric")]
    assert found == [(1, 0.5), (2, 0.75)]


def test_a_failed_training_ends_with_its_reason_and_is_told(world: LoopWorld) -> None:
    one = world.until(world.begin().id, Stage.TRAINING)
    world.jobs.state[one.id], world.jobs.reason = JobState.FAILED, "the trainer ended with status 3"
    done = world.until(one.id, Stage.FAILED)
    assert done.problem == "the trainer ended with status 3"
    with world.store.read() as connection:
        kinds = list(connection.scalars(sa.select(t.notices.c.kind).order_by(t.notices.c.id)))
    assert kinds[-1] == "training.failed"


def test_a_package_that_admission_refuses_ends_the_turn(world: LoopWorld) -> None:
    one = world.until(world.begin().id, Stage.TRAINING)
    world.trained(one)
    world.candidates.refuse = "an operator is not allowed"
    assert world.until(one.id, Stage.FAILED).problem == "an operator is not allowed"


def test_a_package_of_another_version_ends_the_turn(world: LoopWorld) -> None:
    one = world.until(world.begin().id, Stage.TRAINING)
    world.trained(one)
    assert world.candidates.manifest is not None
    world.candidates.manifest = dataclasses.replace(world.candidates.manifest, version="9")
    assert "version '9'" in world.until(one.id, Stage.FAILED).problem


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNDECIDED])
def test_a_gate_that_does_not_pass_it_rejects(world: LoopWorld, outcome: Outcome) -> None:
    world.stations.outcome = outcome
    one = world.until(world.begin().id, Stage.TRAINING)
    world.trained(one)
    world.until(one.id, Stage.GATING)
    world.jobs.state[one.gate_job] = JobState.SUCCEEDED
    assert world.until(one.id, Stage.REJECTED).problem == f"the gate says {outcome.value}"
    assert world.stations.begun == []


def test_another_roll_out_is_waited_for(world: LoopWorld) -> None:
    world.stations.busy = True
    one = world.until(world.begin().id, Stage.TRAINING)
    world.trained(one)
    world.until(one.id, Stage.GATING)
    world.jobs.state[one.gate_job] = JobState.SUCCEEDED
    world.until(one.id, Stage.GATED)
    world.driver.turn()
    assert world.row(one.id).stage is Stage.GATED
    world.stations.busy = False
    world.until(one.id, Stage.ROLLING_OUT)


@pytest.mark.parametrize("stage", [Stage.REQUESTED, Stage.TRAINING, Stage.GATING, Stage.ROLLING_OUT])
def test_a_person_ends_a_turn_wherever_it_stands(world: LoopWorld, stage: Stage) -> None:
    one = world.begin()
    if stage is not Stage.REQUESTED:
        world.until(one.id, Stage.TRAINING)
    if stage in (Stage.GATING, Stage.ROLLING_OUT):
        world.trained(one)
        world.until(one.id, Stage.GATING)
    if stage is Stage.ROLLING_OUT:
        world.jobs.state[one.gate_job] = JobState.SUCCEEDED
        world.until(one.id, Stage.ROLLING_OUT)
    with world.store.write() as connection:
        writes.ask_to_end(connection, one.id, "bob", "wrong labels")
    world.driver.turn()
    done = world.row(one.id)
    assert (done.stage, done.cancel_by, done.flight) == (Stage.CANCELLED, "bob", None)
    if stage in (Stage.TRAINING, Stage.GATING):
        assert world.jobs.cancelled == [one.id, one.gate_job]
    assert (world.stations.withdrawn == [one.id]) is (stage is Stage.ROLLING_OUT)


def test_a_job_that_its_executor_does_not_end_is_ended(world: LoopWorld) -> None:
    one = world.until(world.begin().id, Stage.TRAINING)
    world.time_s += one.budget_s + 61
    assert world.until(one.id, Stage.FAILED).problem == "the training took longer than its budget"
    assert one.id in world.jobs.cancelled


def test_an_error_nobody_expected_is_tried_again_and_given_up_at_last(
    world: LoopWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world.begin()
    monkeypatch.setattr(world.stations, "build", lambda turn, now_ns: (_ for _ in ()).throw(OSError("disk")))
    for _ in range(PATIENCE):
        assert world.row(one.id).stage is Stage.REQUESTED
        with pytest.raises(OSError, match="disk"):
            world.driver.turn()
    assert world.row(one.id).stage is Stage.FAILED


def test_a_turn_that_ends_lets_the_next_one_begin(world: LoopWorld) -> None:
    one = world.until(world.begin().id, Stage.TRAINING)
    world.jobs.state[one.id] = JobState.FAILED
    world.until(one.id, Stage.FAILED)
    two = world.until(world.begin().id, Stage.TRAINING)
    assert (two.number, two.version) == (2, "4")
