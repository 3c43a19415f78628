"""The loop in a process of its own, to be killed: `python -m tests.support.loop_child FOLDER`.

Database, jobs with their supervisors, requests and packages are real; trainer and gate are small programs
(`loop_trainer`); snapshots, registry and roll-outs are a few files in the folder. Ends once a turn has ended.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from deploy.jobs.local import SupervisedJobs
from deploy.jobs.programs import GATE, Program
from export.contracts import codec
from export.contracts.manifest import Manifest
from monitoring.gate.contracts import Outcome
from monitoring.loop import rows
from monitoring.loop.contracts import Workshop
from monitoring.loop.driver import Driver
from monitoring.loop.machine import RolloutEnd
from monitoring.loop.options import LoopOptions, RetrainOptions
from monitoring.loop.rows import TurnRow
from monitoring.loop.stations import Built, Judged, Rolled
from monitoring.loop.trigger import Trigger
from monitoring.store import Store
from monitoring.triggers.contracts import ScheduleCondition, TriggerPolicy
from tests.support.console_store import MemoryCatalogue, manifest
from tests.support.loop_world import DIGEST, MemoryPlans, MemoryStations

ROOT = Path(__file__).resolve().parents[2]
POLICY = TriggerPolicy(condition=ScheduleCondition(every_s=10**9), min_labels=0, cool_down_s=10**9)


class Files:
    """`Candidates` that only looks at what was left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def admit(self, folder: Path) -> Manifest:
        return codec.loads(Manifest, (folder / "manifest.json").read_bytes())

    def folder(self, model: str, version: str) -> Path | None:
        return self._folder / "registry" / model / version

    def next_version(self, model: str, taken: Sequence[str] = ()) -> str:
        return str(3 + len(taken))


class Stations(MemoryStations):
    """Snapshots and roll-outs that are there at once; a verdict that the gate's job left."""

    def build(self, turn: TurnRow, now_ns: int) -> Built:
        return Built(id=DIGEST[7:23], digest=DIGEST, rows=120)

    def gate_request(self, turn: TurnRow, champion: Path, candidate: Path, output: Path) -> Path:
        path = output / "request.json"
        path.write_text("{}")
        return path

    def record(self, connection: sa.Connection, turn: TurnRow, output: Path, now_ns: int) -> Judged:
        return Judged(gate_id=turn.gate_job, outcome=Outcome((output / "verdict.json").read_text()), words="it says so")

    def judged(self, connection: sa.Connection, turn: TurnRow) -> Judged | None:
        return Judged(gate_id=turn.gate_job, outcome=Outcome.PASSED, words="it says so")

    def roll_out(self, connection: sa.Connection, turn: TurnRow, now_ns: int) -> str:
        return f"r-{turn.id}"[:16]

    def rolled(self, connection: sa.Connection, turn: TurnRow) -> Rolled | None:
        return Rolled(end=RolloutEnd.PROMOTED, words="all steps held")


def main(folder: Path) -> None:
    """Drive until a turn has ended."""
    trainer = [sys.executable, "-m", "tests.support.loop_trainer", str(folder / "ran")]
    programs = {
        name: Program(argv=tuple(trainer), environment=(("PYTHONPATH", str(ROOT)),)) for name in ("small", GATE)
    }
    store, options = Store(f"sqlite:///{folder / 'monitor.db'}"), LoopOptions(default=RetrainOptions(policy=POLICY))
    workshop = Workshop(
        jobs=SupervisedJobs(folder / "jobs", programs),
        candidates=Files(folder),
        plans=MemoryPlans(),
        folder=folder / "loop",
        datasets=folder / "datasets",
        trainers={"digits": "small"},
    )
    catalogue = MemoryCatalogue(manifests=(manifest(),))
    trigger = Trigger(store=store, catalogue=catalogue, options=options, trainers=workshop.trainers)
    driver = Driver(store=store, workshop=workshop, stations=Stations(), options=options)
    print("ready", flush=True)
    while True:
        trigger.turn()
        more = driver.turn()
        with store.read() as connection:
            if any(one.stage.ended for one in rows.turns(connection)):
                return
        time.sleep(0.0 if more else 0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
