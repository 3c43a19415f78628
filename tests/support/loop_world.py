"""The loop with everything outside in memory: jobs that end when told, packages that are there when said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from export.contracts import codec
from export.contracts.errors import AdmissionRefused, Conflict
from export.contracts.manifest import Manifest, Provenance
from export.contracts.traffic import TrafficPlan
from export.contracts.training import PACKAGE_FOLDER, TrainingEvent, TrainingRequest
from monitoring.gate.contracts import Outcome
from monitoring.loop import rows
from monitoring.loop.contracts import Job, JobReport, JobState, Stage, Workshop
from monitoring.loop.driver import Driver
from monitoring.loop.machine import RolloutEnd
from monitoring.loop.options import LoopOptions, RetrainOptions
from monitoring.loop.rows import TurnRow
from monitoring.loop.stations import Built, Judged, Rolled
from monitoring.loop.trigger import Trigger
from monitoring.store import Store
from monitoring.triggers.contracts import AlarmCondition, TriggerPolicy
from tests.support.console_store import MemoryCatalogue, manifest

NOW_S = 1_795_262_400.0  # 2026-11-21T12:00:00Z
DIGEST = "sha256:" + "ab" * 32


@dataclass
class MemoryJobs:
    """Jobs that a test ends."""

    jobs: dict[str, Job] = field(default_factory=dict)
    state: dict[str, JobState] = field(default_factory=dict)
    reason: str = ""
    said: dict[str, list[TrainingEvent]] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def start(self, job: Job) -> None:
        assert job.request.is_file()
        self.starts.append(job.id)
        self.jobs.setdefault(job.id, job)
        self.state.setdefault(job.id, JobState.RUNNING)

    def look(self, job_id: str, since: int = 0) -> JobReport:
        said = self.said.get(job_id, [])
        state = self.state.get(job_id, JobState.UNKNOWN)
        reason = self.reason if state is JobState.FAILED else ""
        return JobReport(state=state, reason=reason, events=said[since:], next=len(said), where="process 7")

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)
        if self.state.get(job_id) is JobState.RUNNING:
            self.state[job_id] = JobState.CANCELLED

    def log(self, job_id: str, lines: int = 200) -> str:
        return f"log of {job_id}\n"


@dataclass
class MemoryCandidates:
    """Packages that are admitted, or refused."""

    refuse: str = ""
    admitted: list[Path] = field(default_factory=list)
    manifest: Manifest | None = None
    root: Path = Path("/nowhere")

    def admit(self, folder: Path) -> Manifest:
        if self.refuse:
            raise AdmissionRefused(self.refuse)
        self.admitted.append(folder)
        assert self.manifest is not None
        return self.manifest

    def folder(self, model: str, version: str) -> Path | None:
        return self.root / model / version

    def next_version(self, model: str, taken: Sequence[str] = ()) -> str:
        return str(1 + max([2, *map(int, taken)]))


@dataclass
class MemoryPlans:
    """One plan."""

    champion: str = "2"

    def read(self, model: str) -> TrafficPlan | None:
        return TrafficPlan(model=model, revision=1, champion=self.champion)

    def write(self, plan: TrafficPlan, *, expected_revision: int) -> TrafficPlan:
        raise AssertionError("the loop itself writes no plan")

    def rollback(self, model: str, *, author: str, reason: str) -> TrafficPlan:
        raise AssertionError("the loop itself writes no plan")


@dataclass
class MemoryStations:
    """Snapshots, gate and roll-outs as a test says."""

    outcome: Outcome = Outcome.PASSED
    end: Rolled | None = None
    built: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    busy: bool = False

    def build(self, turn: TurnRow, now_ns: int) -> Built:
        self.built.append(turn.id)
        return Built(id=DIGEST[7:23], digest=DIGEST, rows=120)

    def gate_request(self, turn: TurnRow, champion: Path, candidate: Path, output: Path) -> Path:
        path = output / "request.json"
        path.write_text("{}")
        return path

    def record(self, connection: sa.Connection, turn: TurnRow, output: Path, now_ns: int) -> Judged:
        return Judged(gate_id=f"g-{turn.id}", outcome=self.outcome, words=f"the gate says {self.outcome.value}")

    def judged(self, connection: sa.Connection, turn: TurnRow) -> Judged | None:
        return self.record(connection, turn, Path(), 0)

    def roll_out(self, connection: sa.Connection, turn: TurnRow, now_ns: int) -> str:
        if self.busy:
            raise Conflict("another roll-out is under way")
        self.begun.append(turn.id)
        return f"r-{turn.id}"

    def rolled(self, connection: sa.Connection, turn: TurnRow) -> Rolled | None:
        return self.end

    def withdraw(self, turn: TurnRow) -> None:
        self.withdrawn.append(turn.id)


@dataclass(kw_only=True)
class LoopWorld:
    """A trigger and a driver over one store."""

    store: Store
    jobs: MemoryJobs
    candidates: MemoryCandidates
    stations: MemoryStations
    catalogue: MemoryCatalogue
    workshop: Workshop
    trigger: Trigger
    driver: Driver
    time_s: float = NOW_S

    def now(self) -> float:
        return self.time_s

    def begin(self) -> TurnRow:
        """A turn that somebody asked for."""
        _, begun = self.trigger.by_hand("digits", "ann", "try it")
        assert begun is not None
        return self.row(begun)

    def row(self, identity: str) -> TurnRow:
        with self.store.read() as connection:
            return rows.turn(connection, identity)

    def until(self, identity: str, stage: Stage) -> TurnRow:
        """Drive until a stage is reached."""
        for _ in range(20):
            if self.row(identity).stage is stage:
                return self.row(identity)
            self.driver.turn()
        raise AssertionError(f"it stands at {self.row(identity).stage}, not at {stage}")

    def trained(self, one: TurnRow) -> None:
        """The training's job is done."""
        request = codec.loads(TrainingRequest, self.jobs.jobs[one.id].request.read_bytes())
        (Path(request.output) / PACKAGE_FOLDER).mkdir(parents=True, exist_ok=True)
        made = manifest("digits", request.version)
        provenance = Provenance(
            created_at="2026-11-21T12:00:00Z", source="test", dataset_snapshot=request.snapshot_digest
        )
        self.candidates.manifest = Manifest(
            **{name: getattr(made, name) for name in made.__dataclass_fields__ if name != "provenance"},
            provenance=provenance,
        )
        self.jobs.state[one.id] = JobState.SUCCEEDED


def loop_world(folder: Path, policy: TriggerPolicy | None = None, trainers: dict[str, str] | None = None) -> LoopWorld:
    """A world with one model, whose version 2 answers."""
    store = Store(f"sqlite:///{folder / 'monitor.db'}")
    jobs, candidates, stations = MemoryJobs(), MemoryCandidates(root=folder / "registry"), MemoryStations()
    catalogue = MemoryCatalogue(manifests=(manifest(),))
    workshop = Workshop(
        jobs=jobs,
        candidates=candidates,
        plans=MemoryPlans(),
        folder=folder / "loop",
        datasets=folder / "datasets",
        trainers={"digits": "small"} if trainers is None else trainers,
    )
    options = LoopOptions(
        default=RetrainOptions(policy=policy or TriggerPolicy(condition=AlarmCondition(), min_labels=2), seed=7)
    )
    world = LoopWorld(
        store=store,
        jobs=jobs,
        candidates=candidates,
        stations=stations,
        catalogue=catalogue,
        workshop=workshop,
        trigger=Trigger(store=store, catalogue=catalogue, options=options, trainers=workshop.trainers),
        driver=Driver(store=store, workshop=workshop, stations=stations, options=options),
    )
    world.trigger.clock = world.driver.clock = world.now
    return world


PROMOTED = Rolled(end=RolloutEnd.PROMOTED, words="all steps held")
