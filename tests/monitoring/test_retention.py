"""Nothing goes early because a clock jumped, and nothing grows without bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.options import RetentionOptions
from monitoring.retention import DAY_S, RetentionClock, apply_retention
from monitoring.store import Store
from tests.monitoring.test_store import case

NOW_S = 1_772_000_040.0


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store(f"sqlite:///{tmp_path / 'm.db'}")
    yield opened
    opened.close()


class Clocks:
    wall, monotonic = NOW_S, 100.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def advance(store: Store, clock: RetentionClock) -> float:
    with store.write() as connection:
        return clock.advance(connection)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_clock_that_jumps_a_day_moves_the_retention_time_by_what_really_passed(store: Store, jump_s: float) -> None:
    clocks = Clocks()
    clock = RetentionClock(lambda: clocks.wall, lambda: clocks.monotonic)
    start = advance(store, clock)
    clocks.pass_by(60)
    clocks.wall += jump_s
    later = advance(store, clock)
    assert 0 <= later - start <= 120
    clocks.wall -= jump_s
    clocks.pass_by(60)
    assert 0 <= advance(store, clock) - start <= 240


def test_a_restart_with_a_wrong_clock_deletes_nothing_and_downtime_is_made_up(store: Store) -> None:
    clocks = Clocks()
    start = advance(store, RetentionClock(lambda: clocks.wall, lambda: clocks.monotonic))
    clocks.wall += 30 * DAY_S
    again = RetentionClock(lambda: clocks.wall, lambda: clocks.monotonic)
    assert advance(store, again) == start
    clocks.pass_by(3600)
    assert advance(store, again) == pytest.approx(start + 7200)


def test_ages_and_bounds_take_the_oldest(store: Store) -> None:
    with store.write() as connection:
        newest = int((NOW_S + DAY_S) * 1e9)
        version = {"id": 1, "model": "m", "version": "1", "digest": "", "first_ns": 0, "last_ns": newest}
        connection.execute(t.versions.insert().values(**version))
        zeros = dict.fromkeys(("requests", "rows", "flagged", "labelled", "correct"), 0)
        zeros |= dict.fromkeys(("audit_labelled", "audit_correct", "p_wrong_sum", "late"), 0)
        for age_days in (0, 5, 50, 100):
            window = zeros | {"id": age_days + 1, "version_id": 1, "variant": "champion", "length_s": 60}
            window |= {"start_s": int(NOW_S - age_days * DAY_S), "outcomes": {}, "signals_due": False, "stats": b""}
            connection.execute(t.windows.insert().values(**window))
            connection.execute(t.window_samples.insert().values(window_id=age_days + 1, data=b"x"))
        connection.execute(
            t.cases.insert(), [case(f"{i:016x}", i / 100, label='"a"' if i < 5 else None) for i in range(20)]
        )
        tensor = {
            "direction": "in",
            "name": "x",
            "position": 0,
            "datatype": "UINT8",
            "shape": [1, 100],
            "data": b"x" * 100,
        }
        connection.execute(t.case_tensors.insert(), [tensor | {"case_id": f"{i:016x}"} for i in range(20)])
        apply_retention(connection, NOW_S, RetentionOptions(case_rows=12, tensor_bytes=550))
    with store.read() as connection:
        assert list(connection.scalars(sa.select(t.windows.c.id).order_by(t.windows.c.id))) == [1, 6, 51]
        assert list(connection.scalars(sa.select(t.window_samples.c.window_id))) == [1]
        kept = list(connection.scalars(sa.select(t.cases.c.id).order_by(t.cases.c.id)))
        assert kept == [f"{i:016x}" for i in (*range(5), *range(13, 20))]  # labelled ones outlive older open ones
        states = dict(connection.execute(sa.select(t.cases.c.id, t.cases.c.input_state)).all())
        assert [i for i in kept if states[i] == "kept"] == kept[-5:]
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.case_tensors)) == 5


def test_a_log_from_long_ago_is_not_deleted_while_it_is_read(store: Store) -> None:
    with store.write() as connection:
        old_s = NOW_S - 300 * DAY_S
        version = {"id": 1, "model": "m", "version": "1", "digest": "", "first_ns": 0, "last_ns": int(old_s * 1e9)}
        connection.execute(t.versions.insert().values(**version))
        feedback = {
            "uid": 1,
            "id_hash": 1,
            "model": "m",
            "record_id": "a",
            "time_ns": int(old_s * 1e9),
            "joined": False,
        }
        connection.execute(t.feedback.insert().values(**feedback))
        apply_retention(connection, NOW_S, RetentionOptions())
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.feedback)) == 1
