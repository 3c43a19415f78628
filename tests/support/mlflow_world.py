"""The monitor's side of MLflow: a registry of digits models, a store, turns of the loop as rows, and a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.bring_in import bring_in
from deploy.wiring import RegistryCatalogue
from deploy.workshop import RegistryCandidates
from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.registry import Registry
from monitoring import schema as t
from monitoring.integrations.mlflow.duty import make_worker
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.integrations.mlflow.worker import MlflowWorker
from monitoring.loop.contracts import Stage
from monitoring.store import Store
from tests.support.packages import digits_like_package

SECOND = 10**9
START = 1_772_000_000 * SECOND
REPORT = b"<!doctype html><title>gate</title>"


@dataclass(kw_only=True)
class MlflowWorld:
    """A store, a registry, and the worker between them and a server."""

    folder: Path
    store: Store
    registry: Registry
    worker: MlflowWorker
    now: list[int] = field(default_factory=lambda: [START])

    def turns(self, most: int = 300) -> None:
        """Let the worker work until nothing is new."""
        for _ in range(most):
            self.now[0] += SECOND
            if not self.worker.turn():
                return
        raise AssertionError("the worker does not come to an end")

    def later(self, seconds: float = 600.0) -> None:
        """So much later."""
        self.now[0] += int(seconds * SECOND)

    def version(self, version: str, *, seed: int = 0) -> str:
        """Register a version; returns its digest."""
        made = digits_like_package(self.folder / "made" / version, version=version, seed=seed)
        self.registry.add(made.dir)
        return made.digest

    def plan(self, champion: str, challenger: str | None = None) -> None:
        """Change who answers."""
        known = self.registry.plan("digits")
        mode = ChallengerMode.NONE if challenger is None else ChallengerMode.SHADOW
        revision = 0 if known is None else known.revision
        made = TrafficPlan(model="digits", revision=revision + 1, champion=champion, challenger=challenger, mode=mode)
        self.registry.set_plan(made, expected_revision=revision)

    def training(self, identity: str, stage: Stage, *, number: int = 1, **values: Any) -> None:
        """A turn of the loop as it is written at a stage."""
        decision = {"model": "digits", "time_ns": START, "last_ns": START, "looks": 1, "decision": "retrain",
                    "actor": "hardcase", "words": "40 failures", "reasons": [], "evidence": {},
                    "policy": {}}  # fmt: skip
        row = {"id": identity, "model": "digits", "number": number, "flight": None if stage.ended else "digits",
               "stage": stage.value, "stage_ns": self.now[0], "asked_ns": START, "actor": "hardcase",
               "reason": "40 failures", "champion": "1", "trainer": "digits", "seed": 7, "budget_s": 600.0,
               "silence_s": 60.0, "parameters": {"lr": 0.01}, "recipe": {"base": "parent"}, "metrics": {}}  # fmt: skip
        with self.store.write() as connection:
            made = connection.execute(t.trigger_decisions.insert().values(**decision))
            row["decision_id"] = made.inserted_primary_key[0]
            connection.execute(t.trainings.insert().values(**(row | values)))

    def move(self, identity: str, stage: Stage, **values: Any) -> None:
        """Another stage."""
        ended = {"flight": None, "ended_ns": self.now[0]} if stage.ended else {}
        values = {"stage": stage.value, "stage_ns": self.now[0], **ended, **values}
        with self.store.write() as connection:
            connection.execute(t.trainings.update().where(t.trainings.c.id == identity).values(**values))

    def metrics(self, identity: str, points: Mapping[int, float], name: str = "val_accuracy") -> None:
        """What a trainer has said: {step: value}."""
        rows = [
            {"training_id": identity, "number": step, "time_ns": START + step * SECOND, "kind": "metric", "step": step,
             "name": name, "value": value, "text": ""}
            for step, value in points.items()
        ]  # fmt: skip
        with self.store.write() as connection:
            connection.execute(t.training_events.insert(), rows)

    def gate(self, identity: str, training: str, outcome: str = "passed") -> None:
        """What a gate has written down and left."""
        row = {"id": identity, "model": "digits", "candidate": "2", "candidate_digest": "sha256:0", "champion": "1",
               "champion_digest": "sha256:1", "training_id": training, "outcome": outcome,
               "words": "better by 3 points",
               "result": {"costs": {"p99_ms": [1.5, 1.25]}}, "negative_flips": 2, "positive_flips": 17,
               "report": "ready", "created_ns": START, "seconds": 1.0}  # fmt: skip
        with self.store.write() as connection:
            connection.execute(t.gates.insert().values(**row))
        folder = self.folder / "loop" / "trainings" / training / "gate"
        folder.mkdir(parents=True)
        (folder / "report.html").write_bytes(REPORT)
        (folder / "verdict.json").write_bytes(b"{}")

    def story(self, identity: str = "0123456789ab", points: int = 3) -> None:
        """A whole turn: trained on a snapshot, gated, promoted, written in one go."""
        digest = self.version("2", seed=1)
        self.training(identity, Stage.TRAINING, version="2", snapshot="a" * 16, snapshot_digest="sha256:" + "a" * 64)
        self.metrics(identity, {i: 0.5 + i / 100 for i in range(points)})
        self.gate("gate-1", identity)
        self.move(
            identity,
            Stage.PROMOTED,
            digest=digest,
            trained_ns=START + 60 * SECOND,
            metrics={"val_accuracy": 0.97},
            gate_id="gate-1",
            gate_words="better by 3 points",
        )
        self.plan("2")


def mlflow_world(folder: Path, url: str, **options: Any) -> MlflowWorld:
    """A world with version 1 of digits as its champion."""
    store, registry = Store(f"sqlite:///{folder / 'monitor.db'}"), Registry(folder / "registry")
    settings = ExperimentOptions(**{"url": url, "poll_s": 30.0, **options})
    worker = make_worker(
        settings,
        store,
        RegistryCatalogue(registry),
        candidates=RegistryCandidates(registry),
        loop_folder=folder / "loop",
        bring_in=bring_in,
    )
    world = MlflowWorld(folder=folder, store=store, registry=registry, worker=worker)
    worker.clock = lambda: world.now[0]
    worker.runs.client.egress.sleep = lambda seconds: None
    if worker.incoming is not None:
        worker.incoming.clock = lambda: world.now[0]
    world.version("1")
    world.plan("1")
    return world
