"""Evidence from a real store: what counts as new, as a failure, as of the present; and what waiting has cost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.codec import to_plain
from monitoring import schema as t
from monitoring.alarms.watch import AlarmState, Line, Watch
from monitoring.loop.evidence import gather
from monitoring.loop.regret import FRESH, rate_now, regret_of
from monitoring.store import Store
from tests.support.console_store import complete, fill
from tests.support.loop_world import LoopWorld, loop_world

S = 10**9


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopWorld]:
    made = loop_world(tmp_path_factory.mktemp("evidence"))
    fill(made.store, cases=60, windows=10)
    with made.store.write() as connection:
        connection.execute(t.feedback.delete())
        connection.execute(t.cases.update().values(label=None, correct=None))
        connection.execute(t.records.update().values(label=None))
    yield made
    made.store.close()


@pytest.fixture
def labelled(world: LoopWorld) -> Iterator[Store]:
    """Ten cases of which people said something at second 100, 101, …; each second one is a failure."""
    with world.store.write() as connection:
        rows = connection.execute(sa.select(t.cases.c.id, t.cases.c.id_hash, t.cases.c.record_id).limit(10)).all()
        for i, row in enumerate(rows):
            one = {"uid": 10_000 + i, "id_hash": row.id_hash, "model": "digits", "record_id": row.record_id}
            one |= {"time_ns": (_first_s(connection) + 100 + i) * S, "label": "3", "joined": True, "withdrawn": False}
            connection.execute(t.feedback.insert().values(**complete(t.feedback, one)))
            here = t.cases.c.id == row.id
            connection.execute(t.cases.update().where(here).values(version="2", label="3", correct=bool(i % 2)))
            connection.execute(t.records.update().where(t.records.c.id_hash == row.id_hash).values(label="3"))
    yield world.store
    with world.store.write() as connection:
        for table in (t.feedback, t.training_events, t.trainings, t.trigger_decisions, t.alarms):
            connection.execute(table.delete())


def _first_s(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.min(t.versions.c.first_ns))) or 0) // S


def test_labels_since_the_champion_began_are_new_and_wrong_ones_are_failures(labelled: Store) -> None:
    with labelled.read() as connection:
        found = gather(connection, "digits", "2", 10**18)
    assert (found.labels, found.failures, found.present, found.trained_present) == (10, 5, 10, 0)
    assert (found.trained_s, found.running, found.starts_s, found.regret) == (None, None, (), None)


def test_what_was_withdrawn_or_is_of_no_record_counts_for_nothing(labelled: Store) -> None:
    with labelled.write() as connection:
        u = t.feedback.c.uid
        connection.execute(t.feedback.update().where(u == 10_000).values(withdrawn=True))
        connection.execute(t.feedback.update().where(u == 10_001).values(joined=False))
    with labelled.read() as connection:
        found = gather(connection, "digits", "2", 10**18)
    assert (found.labels, found.failures) == (8, 4)


def test_what_was_said_before_the_champions_snapshot_is_known_to_it(labelled: Store, world: LoopWorld) -> None:
    one = world.begin()
    with labelled.write() as connection:
        then = (_first_s(connection) + 104) * S
        values = {"version": "2", "digest": "sha256:x", "requested_ns": then, "flight": None, "stage": "promoted"}
        connection.execute(t.trainings.update().where(t.trainings.c.id == one.id).values(**values))
    with labelled.read() as connection:
        found = gather(connection, "digits", "2", 10**18)
    assert (found.labels, found.failures, found.present, found.trained_present) == (5, 2, 10, 5)
    assert found.trained_s == then / S
    assert found.starts_s == (then / S,)


def test_failures_of_an_earlier_version_say_nothing_about_the_champion(labelled: Store) -> None:
    with labelled.write() as connection:
        connection.execute(t.cases.update().values(version="1"))
    with labelled.read() as connection:
        found = gather(connection, "digits", "2", 10**18)
    assert (found.labels, found.failures) == (10, 0)


def test_a_turn_under_way_is_named(labelled: Store, world: LoopWorld) -> None:
    one = world.begin()
    with labelled.read() as connection:
        assert gather(connection, "digits", "2", 10**18).running == f"training {one.id} (requested)"


@pytest.mark.parametrize(
    ("version", "state", "counts"),
    [("2", "firing", True), ("2", "recovering", True), ("2", "resolved", False), ("1", "firing", False)],
)
def test_only_open_alarms_of_the_champion_count(labelled: Store, version: str, state: str, counts: bool) -> None:
    alarm = {"id": "a" * 16, "model": "digits", "version": version, "promise": "lifetime", "number": 1, "state": state}
    row = alarm | {"threshold": 100.0, "examples": [], "from_ns": 0}
    with labelled.write() as connection:
        connection.execute(t.alarms.insert().values(**complete(t.alarms, row)))
    with labelled.read() as connection:
        assert gather(connection, "digits", "2", 10**18).alarms == (("a" * 16,) if counts else ())


@pytest.mark.parametrize(("watched", "level", "counts"), [("2", 150.0, True), ("2", 50.0, False), ("3", 150.0, False)])
def test_an_older_alarm_counts_once_the_champions_own_labels_would_raise_it(
    labelled: Store, watched: str, level: float, counts: bool
) -> None:
    alarm = {"id": "a" * 16, "model": "digits", "version": "1", "promise": "lifetime", "number": 1, "threshold": 100.0}
    watch = Watch(model="digits", version=watched, lifetime=Line(state=AlarmState.FIRING, level=level))
    with labelled.write() as connection:
        row = alarm | {"state": "firing", "examples": [], "from_ns": 0}
        connection.execute(t.alarms.insert().values(**complete(t.alarms, row)))
        before = connection.execute(t.alarm_watches.delete().returning(*t.alarm_watches.c)).mappings().all()
        connection.execute(t.alarm_watches.insert().values(model="digits", state=to_plain(watch)))
    with labelled.read() as connection:
        assert gather(connection, "digits", "2", 10**18).alarms == (("a" * 16,) if counts else ())
    with labelled.write() as connection:
        connection.execute(t.alarm_watches.delete())
        for old in before:
            connection.execute(t.alarm_watches.insert().values(**old))


def test_regret_is_nothing_without_labels_and_nothing_while_nothing_changes() -> None:
    rng, ones = np.random.default_rng(1), np.ones(600)
    steady = (rng.random(600) < 0.05).astype(float)
    assert regret_of(steady[: FRESH + 10], ones[: FRESH + 10], 1e4) is None
    found = regret_of(steady, ones, 1e4)
    assert found is not None
    assert found.rate == 0.0


def test_regret_after_a_jump_is_about_its_size() -> None:
    rng, ones = np.random.default_rng(2), np.ones(600)
    jumped = (rng.random(600) < np.where(np.arange(600) < 300, 0.05, 0.45)).astype(float)
    found = regret_of(jumped, ones, 6_000)
    assert found is not None
    assert 0.3 < found.rate < 0.5
    assert 600 < found.excess < 2_000  # 3,000 requests that failed 40 points more often


def test_unequal_weights_are_worth_fewer_labels() -> None:
    wrong = np.tile([1.0, 0.0, 0.0, 0.0, 0.0], 8)  # 20 % of 40
    even, odd = np.ones(40), np.where(np.arange(40) == 0, 40.0, 1.0)
    assert rate_now(wrong, even, 0.05) > 0
    assert rate_now(wrong, odd, 0.3) == 0.0
