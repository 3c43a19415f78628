"""The trigger duty: every decision is kept, a trigger begins one turn, people approve, ask and end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from export.contracts.errors import Conflict, InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.loop import rows, writes
from monitoring.loop.contracts import JobState, Stage
from monitoring.triggers.contracts import Decision, ScheduleCondition, TriggerPolicy
from tests.support.loop_world import LoopWorld, loop_world

ALWAYS = TriggerPolicy(condition=ScheduleCondition(every_s=60), min_labels=0, cool_down_s=600)
ASKS = TriggerPolicy(condition=ScheduleCondition(every_s=60), min_labels=0, approval=True)


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[LoopWorld]:
    made = loop_world(tmp_path)
    yield made
    made.store.close()


def of(tmp_path: Path, policy: TriggerPolicy, trainers: dict[str, str] | None = None) -> LoopWorld:
    return loop_world(tmp_path, policy, trainers)


def decisions(world: LoopWorld) -> list[rows.DecisionRow]:
    with world.store.read() as connection:
        return rows.decisions(connection)


def turns(world: LoopWorld) -> list[rows.TurnRow]:
    with world.store.read() as connection:
        return rows.turns(connection)


def test_the_decision_not_to_train_is_kept_once_with_its_looks_and_again_after_an_hour(worlds: LoopWorld) -> None:
    for _ in range(3):
        worlds.trigger.turn()
        worlds.time_s += 5
    (one,) = decisions(worlds)
    assert (one.decision, one.looks, one.training_id) == (Decision.WAIT, 3, None)
    assert one.last_ns - one.time_ns == 10 * 10**9
    assert one.words == "wait: no alarm on the error rate is open"
    assert {r["name"] for r in one.reasons} >= {"alarm", "labels", "single_flight", "cool_down", "budget"}
    worlds.time_s += 3_600
    worlds.trigger.turn()
    assert len(decisions(worlds)) == 2


def test_a_decision_with_other_reasons_is_a_new_row(worlds: LoopWorld) -> None:
    worlds.trigger.turn()
    worlds.begin()
    worlds.trigger.turn()
    newest, by_hand, first = decisions(worlds)
    assert [d.actor for d in (newest, by_hand, first)] == ["hardcase", "ann", "hardcase"]
    held = {r["name"]: r["holds"] for r in newest.reasons}
    assert (held["single_flight"], {r["name"]: r["holds"] for r in first.reasons}["single_flight"]) == (False, True)


def test_a_trigger_begins_one_turn_and_no_other_while_it_is_under_way_or_soon_after(tmp_path: Path) -> None:
    world = of(tmp_path, ALWAYS)
    for _ in range(5):
        world.trigger.turn()
        world.time_s += 5
    (one,) = turns(world)
    assert (one.stage, one.actor, one.trainer) == (Stage.REQUESTED, "hardcase", "small")
    assert [d.training_id for d in decisions(world)] == [None, one.id]
    world.until(one.id, Stage.TRAINING)
    world.jobs.state[one.id] = JobState.FAILED
    world.until(one.id, Stage.FAILED)
    world.trigger.turn()
    assert len(turns(world)) == 1  # a failed training waits for the cool-down
    world.time_s += 600
    world.trigger.turn()
    assert [x.number for x in turns(world)] == [2, 1]
    world.store.close()


def test_the_database_itself_holds_a_second_turn_of_a_model_off(worlds: LoopWorld) -> None:
    one = worlds.begin()
    twice = {name: value for name, value in _row(worlds, one.id).items() if name not in ("id", "number")}
    with pytest.raises(sa.exc.IntegrityError), worlds.store.write() as connection:
        connection.execute(t.trainings.insert().values(id="other", number=2, **twice))


def test_a_turn_that_needs_approval_waits_for_a_person(tmp_path: Path) -> None:
    world = of(tmp_path, ASKS)
    world.trigger.turn()
    (one,) = turns(world)
    world.driver.turn()
    assert world.row(one.id).stage is Stage.ASKED
    with world.store.write() as connection:
        writes.approve(connection, one.id, "ann", 5)
    done = world.until(one.id, Stage.TRAINING)
    assert done.approved_by == "ann"
    with world.store.read() as connection:
        assert "training.asked" in set(connection.scalars(sa.select(t.notices.c.kind)))
    world.store.close()


def test_a_rejected_turn_is_cancelled_and_the_next_one_waits_for_the_cool_down(tmp_path: Path) -> None:
    world = of(tmp_path, ASKS)
    world.trigger.turn()
    (one,) = turns(world)
    with world.store.write() as connection:
        writes.ask_to_end(connection, one.id, "bob", "the labels are not checked yet")
    world.driver.turn()
    assert world.row(one.id).stage is Stage.CANCELLED
    with world.store.write() as connection, pytest.raises(Conflict):
        writes.approve(connection, one.id, "ann", 5)
    world.trigger.turn()
    assert len(turns(world)) == 1
    world.store.close()


def test_nobody_approves_in_time(tmp_path: Path) -> None:
    world = of(tmp_path, ASKS)
    world.trigger.turn()
    world.time_s += 8 * 86_400
    world.driver.turn()
    (one,) = turns(world)
    assert (one.stage, one.problem) == (Stage.CANCELLED, "nobody approved it in time")
    world.store.close()


def test_a_model_without_a_trainer_is_only_suggested(tmp_path: Path) -> None:
    world = of(tmp_path, ALWAYS, trainers={})
    world.trigger.turn()
    world.trigger.turn()
    (one,) = decisions(world)
    assert one.words.endswith("but no trainer is configured for this model")
    assert (one.decision, one.looks, turns(world)) == (Decision.WAIT, 2, [])
    with world.store.read() as connection:
        assert list(connection.scalars(sa.select(t.notices.c.kind))) == ["training.suggested"]
    with pytest.raises(InvalidRequest, match="no trainer"):
        world.begin()
    world.store.close()


def test_a_person_starts_one_whatever_the_policy_says_but_not_a_second(worlds: LoopWorld) -> None:
    look, none = worlds.trigger.by_hand("digits", "ann", "", dry_run=True)
    assert (look.verdict.decision, none, turns(worlds), decisions(worlds)) == (Decision.RETRAIN, None, [], [])
    one = worlds.begin()
    assert (one.actor, one.reason) == ("ann", "try it")
    with pytest.raises(Conflict, match="under way"):
        worlds.begin()
    look, none = worlds.trigger.by_hand("digits", "ann", "", dry_run=True)
    assert (look.verdict.decision, none) == (Decision.WAIT, None)
    with pytest.raises(NotFound):
        worlds.trigger.by_hand("birds", "ann", "")


def test_a_decision_and_its_turn_are_one_transaction(worlds: LoopWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "turn", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        worlds.begin()
    monkeypatch.undo()
    assert (turns(worlds), decisions(worlds)) == ([], [])


def _row(world: LoopWorld, identity: str) -> dict[str, object]:
    with world.store.read() as connection:
        return dict(connection.execute(sa.select(t.trainings).where(t.trainings.c.id == identity)).mappings().one())
