"""Who is due, and what one failing duty does to the others: nothing."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import pytest

from monitoring.duties import Duty, Roster


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Work:
    done: list[str] = field(default_factory=list)


def _note(name: str, *, more: bool = False) -> Duty[Work]:
    def run(work: Work) -> bool:
        work.done.append(name)
        return more

    return Duty(name=name, interval_s=10.0, run=run)


def test_a_duty_has_its_turn_once_an_interval() -> None:
    clock, work = Clock(), Work()
    roster = Roster([_note("a")], clock)
    for now in (0.0, 1.0, 9.9, 10.0, 10.5):
        clock.now = now
        roster.run_due(work)
    assert work.done == ["a", "a"]


def test_one_that_has_more_to_do_is_due_at_once() -> None:
    work = Work()
    roster = Roster([_note("a", more=True)], Clock())
    assert roster.run_due(work)
    assert roster.run_due(work)
    assert work.done == ["a", "a"]


def test_while_the_log_waits_only_those_that_must_run() -> None:
    work = Work()
    urgent = Duty[Work](name="urgent", interval_s=1.0, run=lambda w: w.done.append("urgent"), while_behind=True)
    Roster([_note("calm"), urgent], Clock()).run_due(work, behind=True)
    assert work.done == ["urgent"]


def test_a_failing_duty_is_counted_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail(work: Work) -> None:
        work.done.append("bad")
        raise OSError("disk")

    clock, work = Clock(), Work()
    roster = Roster([Duty(name="bad", interval_s=5.0, run=fail), _note("good")], clock)
    with caplog.at_level(logging.ERROR):
        roster.run_due(work)
    assert work.done == ["bad", "good"]
    assert roster.states["bad"].errors == 1
    assert roster.problem is not None
    assert "bad" in roster.problem
    assert "the duty 'bad' failed" in caplog.text
    clock.now = 4.0
    roster.run_due(work)
    assert work.done == ["bad", "good"], "it waits for its next turn"
    with pytest.raises(RuntimeError, match="bad"):
        roster.finish(work)


def test_a_long_duty_runs_beside_the_loop_one_at_a_time() -> None:
    go, work = threading.Event(), Work()

    def long(work: Work) -> None:
        assert go.wait(10)
        work.done.append(threading.current_thread().name)

    duties = [Duty(name=name, interval_s=1.0, run=long, aside=True) for name in ("first", "second")]
    roster = Roster([*duties, _note("a")], Clock())
    roster.run_due(work)
    assert work.done == ["a"], "the loop did not wait"
    assert roster.states["first"].running
    assert not roster.states["second"].running
    go.set()
    assert roster.wait(10)
    roster.run_due(work)
    assert roster.wait(10)
    assert work.done == ["a", "hardcase-first", "hardcase-second"]
