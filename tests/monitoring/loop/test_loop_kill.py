"""The loop killed anywhere ends in the same state, with one training, one gate and one roll-out for one trigger.

Twice: in this process with a "kill" before and after everything that it writes or does outside, one place after the
other; and as a real child over a real file with real jobs, under SIGKILL at random moments.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from export.contracts import codec
from monitoring.loop import rows
from monitoring.loop.contracts import JobState, Stage
from monitoring.loop.driver import Driver
from monitoring.loop.trigger import Trigger
from monitoring.store import Store
from monitoring.triggers.contracts import ScheduleCondition, TriggerPolicy
from tests.support.console_store import manifest
from tests.support.loop_world import PROMOTED, LoopWorld, loop_world

ROOT = Path(__file__).resolve().parents[3]
ONCE = TriggerPolicy(condition=ScheduleCondition(every_s=10**9), min_labels=0, cool_down_s=10**9)
STORY = ["requested", "training", "trained", "gating", "gated", "rolling_out", "promoted"]


class KilledError(BaseException):
    """The process is gone: nothing may catch it."""


class Killer:
    """Stops the world at the n-th crossing of a line."""

    def __init__(self, at: int) -> None:
        self.left = at

    def cross(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError

    def around(self, call: Any) -> Any:
        def made(*args: Any, **named: Any) -> Any:
            self.cross()
            found = call(*args, **named)
            self.cross()
            return found

        return made


class Mortal:
    """A store whose writing transactions are places to die: before, with all of it done and not committed, after."""

    def __init__(self, store: Store, killer: Killer) -> None:
        self._store, self._killer = store, killer

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        self._killer.cross()
        with self._store.write() as connection:
            yield connection
            self._killer.cross()
        self._killer.cross()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def live(world: LoopWorld, killer: Killer) -> None:
    """A life of the process: everything in memory is new; jobs, packages and the database are what they were."""
    store: Any = Mortal(world.store, killer)
    jobs, stations = world.jobs, world.stations

    class Ports:
        start, build = killer.around(jobs.start), killer.around(stations.build)

    workshop = world.workshop
    watched: Any = type("Jobs", (), {"start": staticmethod(Ports.start), "look": jobs.look, "cancel": jobs.cancel})()
    rooms: Any = type("Rooms", (), {"build": staticmethod(Ports.build)})
    for name in ("gate_request", "record", "judged", "roll_out", "rolled", "withdraw"):
        setattr(rooms, name, getattr(stations, name))
    options = world.driver.options
    trigger = Trigger(store=store, catalogue=world.catalogue, options=options, trainers=workshop.trainers)
    driver = Driver(
        store=store,
        workshop=type(workshop)(**{f: getattr(workshop, f) for f in workshop.__dataclass_fields__} | {"jobs": watched}),
        stations=rooms(),
        options=options,
    )
    trigger.clock = driver.clock = world.now
    for _ in range(30):
        trigger.turn()
        driver.turn()
        for job in list(jobs.jobs):
            if jobs.state[job] is JobState.RUNNING:
                if not job.endswith("-gate"):
                    world.trained(world.row(job))
                jobs.state[job] = JobState.SUCCEEDED
        with world.store.read() as connection:
            if any(one.stage.ended for one in rows.turns(connection)):
                return
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("every", [pytest.param(5), pytest.param(1, marks=pytest.mark.slow)])
def test_whatever_write_or_start_a_kill_falls_on_the_end_is_the_same(tmp_path: Path, every: int) -> None:
    world = loop_world(tmp_path, ONCE)
    world.stations.end = PROMOTED
    tables = ("training_events", "trainings", "trigger_decisions", "notices")
    place, stopped = 1 - every, True
    while stopped:
        place += every
        with world.store.write() as connection:
            for table in tables:
                connection.execute(sa.text(f"DELETE FROM {table}"))
        for kept in (world.jobs.jobs, world.jobs.state, world.jobs.starts, world.stations.begun):
            kept.clear()
        try:
            live(world, Killer(place))
            stopped = False
        except KilledError:
            live(world, Killer(-1))
        with world.store.read() as connection:
            (one,) = rows.turns(connection)
            story = [e.name for e in rows.events(connection, one.id, kind=rows.STAGE_EVENT)]
            numbers = [e.number for e in rows.events(connection, one.id)]
            began = [d.training_id for d in rows.decisions(connection) if d.training_id]
            told = list(connection.scalars(sa.text("SELECT kind FROM notices ORDER BY id")))
        assert (one.stage, story, began) == (Stage.PROMOTED, STORY, [one.id]), place
        assert numbers == list(range(len(numbers))), place
        assert told == ["training.started", "loop.promoted"], place
        assert sorted(world.jobs.jobs) == [one.id, one.gate_job], place
    assert place > 20, "there are more places to die than that"
    world.store.close()


@pytest.mark.parametrize("kills", [pytest.param(2), pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_process_goes_on_where_it_was(tmp_path: Path, kills: int) -> None:
    (tmp_path / "manifest.json").write_bytes(codec.dumps(manifest("digits", "0")))
    draw, done = random.Random(kills), 0
    while True:
        with _child(tmp_path) as child:
            assert child.stdout is not None
            if done < kills:
                ready = child.stdout.readline()
                time.sleep(draw.random() * 0.25)
                child.send_signal(signal.SIGKILL)
                assert child.wait(30) in (0, -signal.SIGKILL)
                if child.returncode == 0:
                    break  # it had come to the end before
                assert ready == "ready\n"
                done += 1
            else:
                assert child.wait(60) == 0
                break
    assert done > 0, "nothing was killed"
    with closing(Store(f"sqlite:///{tmp_path / 'monitor.db'}")) as store, store.read() as connection:
        (one,) = rows.turns(connection)
        assert (one.stage, one.metrics, one.champion) == (Stage.PROMOTED, {"loss": pytest.approx(1 / 3)}, "2")
        events = rows.events(connection, one.id)
        assert [e.name for e in events if e.kind == rows.STAGE_EVENT] == STORY
        assert [e.value for e in events if e.kind == "metric"] == [1.0, 0.5, pytest.approx(1 / 3)] * 2
        assert [d.training_id for d in rows.decisions(connection) if d.training_id] == [one.id]
    assert (tmp_path / "ran").read_text().splitlines() == [one.id, "gate"], "each job ran once"


@contextmanager
def _child(folder: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.loop_child", str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
