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


def run_and_kill(folder: Path, log: Path, reference: Path, cycles: int, delay_s: float) -> bool:
    """Start a monitor and kill it `delay_s` after so many cycles; whether it was still at work then."""
    process = child(folder, log, reference)
    assert process.stdout is not None
    try:
        with process.stdout as lines:
            for _ in range(1 + cycles):  # "open", then one line a cycle
                lines.readline()
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
            rest = lines.read().split()
    finally:
        process.kill()  # also when the test's own time is over
        process.wait()
    return "done" not in rest


@pytest.mark.fault
@pytest.mark.parametrize(
    "kills",  # limits beside the numbers: one of the function itself would hold for both
    [
        pytest.param(10, marks=pytest.mark.timeout(400)),
        pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_cases_and_windows_after_kills_equal_those_of_an_undisturbed_run(kills: int, tmp_path: Path) -> None:
    log, reference = tmp_path / "log", tmp_path / "reference"
    # Some four cycles a kill, so that every kill finds the monitor at work.
    w.day(log, seconds=50 if kills == 10 else 350, rate=40, shift_from=35, seed=5)
    w.catalogue(reference)
    disturbed, plain = tmp_path / "disturbed", tmp_path / "plain"
    chance = random.Random(kills)
    at_work, positions = 0, set()
    for _ in range(kills):
        at_work += run_and_kill(disturbed, log, reference, chance.randrange(4), chance.uniform(0.0, 0.1))
        store = Store(f"sqlite:///{disturbed / 'monitor.db'}")
        with store.read() as connection:
            positions.add(tuple(connection.execute(sa.select(t.offsets.c.sequence)).scalars()))
        store.close()
    for folder in (disturbed, plain):
        process = child(folder, log, reference)
        lines, _ = process.communicate()
        assert (process.returncode, lines.split()[-1]) == (0, "done")
    assert at_work >= kills * 0.7, "the kills came too late to mean anything"
    assert len(positions) >= 3, "the kills all hit the same place"
    stores = [Store(f"sqlite:///{folder / 'monitor.db'}") for folder in (disturbed, plain)]
    got, wanted = (w.snapshot(store) for store in stores)
    for store in stores:
        store.close()
    assert len(wanted["cases"]) > 100
    for table in wanted:
        assert got[table] == wanted[table], table
