"""From audited labels in the tables to alarms: the order, versions, sampling with unequal chances, retention."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.alarms.bets import BINS, proxy_bins
from monitoring.alarms.labels import WEIGHT_ONE, Population, Use
from monitoring.alarms.limits import limits_of
from monitoring.alarms.queries import alarm_events, list_alarms
from monitoring.alarms.rows_moved import prune
from monitoring.alarms.rows_turn import FOREVER_NS, read_watch, take_labels
from monitoring.alarms.watch import AlarmState, Watch, Watcher
from monitoring.baselines import Baselines
from monitoring.options import AlarmOptions, ModelTolerance, MonitorOptions
from monitoring.store import Store
from tests.support import monitor_world as w

SECOND = 1_000_000_000
OPTIONS = AlarmOptions(tolerances=(ModelTolerance(model="m", tolerance=0.1),))


class World:
    """A store with a watcher, and labels to put in."""

    def __init__(self, folder: Path, options: AlarmOptions = OPTIONS) -> None:
        self.options: MonitorOptions = dataclasses.replace(w.options(folder), alarms=options, lateness_s=0.0)
        self.store = Store(self.options.database_url)
        self.watcher, self.baselines = Watcher(options), Baselines(w.MemoryCatalogue(()))
        self.count = 0
        seen = {"model": "m", "digest": "", "first_ns": 0, "last_ns": 0}
        with self.store.write() as connection:
            connection.execute(t.versions.insert(), [seen | {"id": n, "version": str(n)} for n in (1, 2)])

    def put(self, *wrong: float, version: str = "1", ready_s: int | None = None, **changes: Any) -> None:
        """Labels a second apart, all ready."""
        rows = []
        for value in wrong:
            self.count += 1
            at = self.count if ready_s is None else ready_s
            row = {
                "id": f"{self.count:016x}",
                "model": "m",
                "version_id": int(version),
                "version": version,
                "variant": "champion",
                "record_id": f"r{self.count}",
                "time_ns": at * SECOND,
                "start_s": at,
                "label_ns": at * SECOND,
                "uid": self.count,
                "ready_ns": at * SECOND,
                "wrong": value,
                "p_wrong": None,
                "probability": 1.0,
                "inclusion_probability": 0.01,
                "use": Use.WAITING.value,
            }
            rows.append(row | changes)
        with self.store.write() as connection:
            connection.execute(t.audit_labels.insert(), rows)

    def turn(self, frontier_ns: int = FOREVER_NS) -> Watch:
        with self.store.write() as connection:
            while take_labels(connection, self.watcher, self.baselines, self.options, frontier_ns):
                pass
            watch = read_watch(connection, "m")
        assert watch is not None
        return watch

    def uses(self) -> dict[str, int]:
        a = t.audit_labels.c
        with self.store.read() as connection:
            return {use: n for use, n in connection.execute(sa.select(a.use, sa.func.count()).group_by(a.use))}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def labels(rate: float, count: int, seed: int = 0) -> list[float]:
    return (np.random.default_rng(seed).random(count) < rate).astype(float).tolist()


def test_turns_of_any_size_give_the_same_alarms_and_evidence(tmp_path: Path) -> None:
    wrong = labels(0.05, 200) + labels(0.6, 60, 1) + labels(0.01, 200, 2)
    seen = []
    for steps in ([460], [1, 199, 40, 3, 217], list(range(30, 460, 30))):
        world = World(tmp_path / str(len(steps)))
        world.put(*wrong)
        for step in steps:
            world.turn(step * SECOND)
        world.turn()
        snapshot = w.snapshot(world.store)
        world.store.close()
        seen.append({name: snapshot[name] for name in ("alarms", "alarm_events", "audit_labels", "alarm_watches")})
    assert seen[0]["alarms"]
    assert seen[0] == seen[1] == seen[2]


def test_an_alarm_fires_recovers_and_is_resolved_on_evidence(world: World) -> None:
    world.put(*labels(0.02, 300), *labels(0.7, 30, 1))
    watch = world.turn()
    alarms = list_alarms(world.store, model="m")
    assert {a.promise for a in alarms} == {"lifetime", "run_length"}
    assert all(a.fired_position > 299 and a.first_position >= 295 for a in alarms)
    assert watch.lifetime.state is AlarmState.FIRING
    world.put(0.0, 0.0, 0.0)
    assert world.turn().lifetime.state is AlarmState.FIRING, "three right answers are no evidence"
    world.put(*labels(0.01, 200, 2))
    assert world.turn().lifetime.state is AlarmState.QUIET
    for alarm in list_alarms(world.store, model="m"):
        assert alarm.state == "resolved"
        assert [e.state for e in alarm_events(world.store, alarm.id)] == ["firing", "recovering", "resolved"]


def test_labels_wait_for_the_frontier_and_late_ones_are_counted_as_late(world: World) -> None:
    world.put(*labels(0.05, 10))
    assert world.turn(4 * SECOND).labels == 4
    world.turn()
    world.put(1.0, ready_s=2)
    watch = world.turn()
    assert (watch.labels, watch.late, watch.errors) == (11, 1, sum(labels(0.05, 10)) + 1)


def test_a_new_version_takes_over_in_a_later_window_and_spends_a_renewal(world: World) -> None:
    world.put(*labels(0.05, 50))
    world.put(1.0, version="2", ready_s=50)  # the same window: still the old one's
    world.put(0.0, version="2", ready_s=60)
    world.put(1.0, version="1", ready_s=60)  # a straggler
    watch = world.turn()
    assert (watch.version, watch.renewals, watch.set_aside, watch.labels) == ("2", 1, 2, 51)
    assert world.uses() == {"counted": 51, "other_version": 2}


def test_without_a_tolerance_labels_wait_and_the_reason_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, AlarmOptions())
    world.put(*labels(0.5, 50))
    watch = world.turn()
    assert watch.labels == 0
    assert "monitor.alarms.tolerances" in watch.problem
    assert world.uses() == {"waiting": 50}
    world.watcher = Watcher(OPTIONS)
    world.options = dataclasses.replace(world.options, alarms=OPTIONS)
    watch = world.turn()
    assert (watch.labels, watch.problem) == (50, "")
    world.store.close()


def test_records_that_capture_preferred_weigh_less(world: World) -> None:
    """Half of what was captured is suspicious and kept for certain; one in ten of the rest: the error rate is 6.4 %."""
    population = Population()
    population.add(np.full(100, 0.7), np.ones(100))
    population.add(np.full(100, 0.01), np.full(100, 0.1))
    assert population.records == 200
    assert population.weights[proxy_bins(0.01)] == 10 * population.weights[proxy_bins(0.7)] == 1000 * WEIGHT_ONE
    row = {"version_id": 1, "variant": "champion", "start_s": 0, "records": 200, "probability": population.probability}
    with world.store.write() as connection:
        connection.execute(t.audit_windows.insert().values(**row, weights=population.weights.tolist()))
    rng = np.random.default_rng(5)
    for suspicious in rng.random(600) < 0.5:
        kept, p, chance = (1.0, 0.7, 0.7) if suspicious else (0.1, 0.01, 0.001)
        world.put(float(rng.random() < chance), p_wrong=p, probability=kept, start_s=0, time_ns=0)
    world.turn()
    assert not list_alarms(world.store), "35 % of these labels are wrong, and 6.4 % of what they stand for"
    a = t.audit_labels.c
    with world.store.read() as connection:
        assert set(connection.scalars(sa.select(a.weight))) == {1.0, 0.1}
        wrong, n = connection.execute(sa.select(sa.func.sum(a.wrong), sa.func.count())).one()
    assert wrong / n > 0.3
    with world.store.write() as connection:  # the negative control: the same labels as if all had had the same chance
        connection.execute(t.audit_labels.update().values(use="waiting", probability=1.0, position=None))
        connection.execute(t.alarm_watches.delete())
        connection.execute(t.audit_windows.update().values(probability=1.0, weights=[0] * BINS))
    world.turn()
    assert list_alarms(world.store)


def test_retention_takes_old_labels_and_not_the_evidence(world: World) -> None:
    world.put(*labels(0.05, 40))
    before = world.turn()
    with world.store.write() as connection:
        prune(connection, 1e9, label_rows=10)
    assert world.uses() == {"counted": 10}
    assert world.turn() == before


def test_the_tolerance_is_derived_from_the_reference_unless_it_is_set() -> None:
    derived = limits_of("digits", w.baseline(), AlarmOptions(margin=0.02))
    assert derived is not None
    assert "upper 95 % bound" in derived.source or "+ 2.0%" in derived.source
    given = AlarmOptions(tolerances=(ModelTolerance(model="digits", tolerance=0.2),))
    limits = limits_of("digits", w.baseline(), given)
    assert limits is not None
    assert limits.tolerance == 0.2
    assert derived.expected < derived.tolerance
    assert limits.expected < 0.2
