"""The monitor dies at random moments, by SIGKILL, and what it ends up with is what an undisturbed one has."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.store import Store
from tests.support import monitor_world as w

CHILD = Path(w.__file__).with_name("monitor_child.py")


def child(folder: Path, log: Path, reference: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", str(CHILD), str(folder), "60000", str(log), str(reference)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run_and_kill(folder: Path, log: Path, reference: Path, delay_s: float) -> tuple[bool, int]:
    """Start a monitor and kill it `delay_s` after it has opened the database; (killed at work, cycles it finished)."""
    process = child(folder, log, reference)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "open"
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    lines = process.stdout.read().split()
    process.wait()
    return "done" not in lines, lines.count("cycle")


@pytest.mark.fault
@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_cases_and_windows_after_kills_equal_those_of_an_undisturbed_run(kills: int, tmp_path: Path) -> None:
    log, reference = tmp_path / "log", tmp_path / "reference"
    # Long enough that the monitor is killed at work every time.
    w.day(log, seconds=90 if kills == 10 else 240, rate=40, shift_from=45, seed=5)
    w.catalogue(reference)
    disturbed, plain = tmp_path / "disturbed", tmp_path / "plain"
    chance = random.Random(kills)
    at_work, positions = 0, set()
    for _ in range(kills):
        killed, _ = run_and_kill(disturbed, log, reference, chance.uniform(0.0, 0.25))
        at_work += killed
        store = Store(f"sqlite:///{disturbed / 'monitor.db'}")
        with store.read() as connection:
            positions.add(tuple(connection.execute(sa.select(t.offsets.c.sequence)).scalars()))
        store.close()
    for folder in (disturbed, plain):
        process = child(folder, log, reference)
        assert process.stdout is not None
        assert process.stdout.read().split()[-1] == "done"
        assert process.wait() == 0
    assert at_work >= kills * 0.7, "the kills came too late to mean anything"
    assert len(positions) >= 3, "the kills all hit the same place"
    stores = [Store(f"sqlite:///{folder / 'monitor.db'}") for folder in (disturbed, plain)]
    got, wanted = (w.snapshot(store) for store in stores)
    for store in stores:
        store.close()
    assert len(wanted["cases"]) > 100
    for table in wanted:
        assert got[table] == wanted[table], table
