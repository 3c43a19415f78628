"""Trainings as MLflow runs: parameters and tags at once, every point of every metric, artefacts once they are there.

Nothing here is an event that can be lost: what a run should say follows from the database at any time, and what it was
told last is kept as a digest. So a tracker that was away for an hour, or a monitor that was killed in between, ends
at the same run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from export.contracts import codec
from export.contracts.manifest import Manifest
from monitoring import schema as t
from monitoring.integrations.contracts import ToolError
from monitoring.integrations.mlflow import rows
from monitoring.integrations.mlflow.client import Absent, MlflowClient, Point
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.integrations.mlflow.rows import RunRow
from monitoring.loop.contracts import Stage
from monitoring.store import Store

POINTS_A_TURN = 2000
GATE_FILES = ("report.html", "verdict.json", "junit.xml", "openlineage.json")
_BAD = re.compile(r"[^A-Za-z0-9_\-. /:]")  # what MLflow does not take in names of metrics and parameters
_STATUS = {Stage.FAILED: "FAILED", Stage.CANCELLED: "KILLED"}

Turn = Mapping[str, Any]


@dataclass(kw_only=True)
class RunMirror:
    """Keeps runs in step with trainings.

    Attributes:
        package: Folder of a registered version, if it is one.
        gate_folder: Where a training's gate has left its reports, if it has.
        manifest: Of a registered version.
    """

    client: MlflowClient
    store: Store
    options: ExperimentOptions
    package: Callable[[str, str], Path | None] = lambda model, version: None
    gate_folder: Callable[[str], Path | None] = lambda training: None
    manifest: Callable[[str, str], Manifest | None] = lambda model, version: None
    _seen: dict[str, str] = field(default_factory=dict)  # training: digest of its row when everything was told

    def turn(self) -> bool:
        """Tell of one training that has news; returns whether others may have some."""
        return any(self.tell(turn) for turn in self._open_turns())

    def _open_turns(self) -> list[Turn]:
        c, r = t.trainings.c, t.experiment_runs.c
        joined = t.trainings.outerjoin(t.experiment_runs, r.training_id == c.id)
        query = (
            sa.select(t.trainings)
            .select_from(joined)
            .where(r.complete.is_not(True), c.stage != Stage.ASKED.value)
            .order_by(c.asked_ns, c.id)
            .limit(50)
        )
        with self.store.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def tell(self, turn: Turn) -> bool:
        """Bring a training's run up to date; returns whether anything was new."""
        row = rows.run_of(self.store, turn["id"]) or self._make(turn)
        try:
            told = self._tell_points(row)
            return self._tell_rest(row, turn) or told
        except Absent:
            rows.forget_run(self.store, turn["id"])  # somebody removed it: made anew at the next turn
            raise

    def _make(self, turn: Turn) -> RunRow:
        model = turn["model"]
        experiment = self.client.experiment(self.options.experiment_of(model))
        name = f"{model} turn {turn['number']}"
        run = self.client.run(
            experiment, "hardcase.training", turn["id"], name=name, start_ms=turn["asked_ns"] // 10**6
        )
        return rows.add_run(self.store, turn["id"], experiment, run)

    def _tell_points(self, row: RunRow) -> bool:
        e = t.training_events.c
        with self.store.read() as connection:
            query = sa.select(t.training_events).where(e.training_id == row.training_id, e.number >= row.metrics)
            found = connection.execute(query.order_by(e.number).limit(POINTS_A_TURN)).mappings().all()
        if not found:
            return False
        points = [
            Point(name=clean(one["name"]), value=one["value"], time_ms=one["time_ns"] // 10**6, step=one["step"] or 0)
            for one in found
            if one["kind"] == "metric" and one["name"] and one["value"] is not None
        ]
        if points:
            self.client.log(row.run, points=points)
        rows.note_run(self.store, row.training_id, metrics=found[-1]["number"] + 1)
        return True

    def _tell_rest(self, row: RunRow, turn: Turn) -> bool:
        stage = Stage(turn["stage"])
        tags = self.tags(turn)
        status = _STATUS.get(stage, "FINISHED") if stage.ended else "RUNNING"
        digest = hashlib.sha256(json.dumps([tags, status, self._final(turn)]).encode()).hexdigest()
        if digest == row.digest:
            return False
        params = {} if row.digest else parameters(turn)  # MLflow never changes a parameter
        ended_ms = (turn["ended_ns"] or turn["stage_ns"]) // 10**6
        final = [Point(name=clean(n), value=v, time_ms=ended_ms) for n, v in self._final(turn).items()]
        self.client.log(row.run, params=params, tags=tags, points=final)
        problem = self._store(row, turn) if turn["digest"] else ""
        self.client.set_status(row.run, status, ended_ms if stage.ended else None)
        rows.note_run(self.store, row.training_id, digest=digest, complete=stage.ended, problem=problem)
        return True

    def _final(self, turn: Turn) -> dict[str, float]:
        """Figures of the end: those that the trainer gave with its last word, and the gate's."""
        made = {} if turn["trained_ns"] is None else {f"final/{k}": v for k, v in turn["metrics"].items()}
        return made | {f"gate/{k}": v for k, v in gate_figures(self.store, turn["gate_id"]).items()}

    def tags(self, turn: Turn) -> dict[str, str]:
        """What a run says of its training besides figures."""
        same = {
            "training": "id",
            "model": "model",
            "version": "version",
            "stage": "stage",
            "reason": "reason",
            "by": "actor",
            "trainer": "trainer",
            "parent_version": "champion",
            "snapshot": "snapshot_digest",
            "digest": "digest",
            "gate": "gate_id",
            "gate_says": "gate_words",
            "rollout": "rollout_id",
            "problem": "problem",
        }
        return {f"hardcase.{tag}": str(turn[name]) for tag, name in same.items() if turn[name]}

    def _store(self, row: RunRow, turn: Turn) -> str:
        """Store what there is to store; returns what was left out."""
        left: list[str] = []
        manifest = self.manifest(turn["model"], turn["version"])
        if manifest is not None:
            self.client.put(row.experiment, row.run, "manifest.json", codec.dumps(manifest))
        folder = self.package(turn["model"], turn["version"]) if self.options.upload_packages else None
        if folder is not None:
            left += put_folder(self.client, row.experiment, row.run, folder, "package", self.options.file_bytes)
        gate = self.gate_folder(turn["id"]) if turn["gate_id"] else None
        for file in [] if gate is None else [gate / name for name in GATE_FILES]:
            if file.is_file() and file.stat().st_size <= self.options.file_bytes:
                self.client.put(row.experiment, row.run, f"gate/{file.name}", file.read_bytes())
        return f"left out, as larger than experiments.file_bytes: {', '.join(left)}" if left else ""


def put_folder(client: MlflowClient, experiment: str, run: str, folder: Path, below: str, file_bytes: int) -> list[str]:
    """Store a folder's files with a run; returns those that are too large, by their paths.

    Raises:
        ToolError: the server stores no artefacts.
    """
    left = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        path = file.relative_to(folder).as_posix()
        if file.stat().st_size > file_bytes:
            left.append(path)
            continue
        try:
            client.put(experiment, run, f"{below}/{path}", file.read_bytes())
        except ToolError as error:
            if not error.about_request:
                raise
            return [*left, f"{path} and what follows ({error.message})"]
    return left


def parameters(turn: Turn) -> dict[str, str]:
    """What a training was asked for, as MLflow parameters."""
    own = {str(k): str(v) for k, v in turn["parameters"].items()}
    recipe = {f"recipe.{k}": str(v) for k, v in turn["recipe"].items() if v is not None}
    asked = {"seed": str(turn["seed"]), "budget_s": f"{turn['budget_s']:g}", "labels": str(turn["labels"])}
    return {clean(name): value for name, value in {**recipe, **asked, **own}.items()}


def gate_figures(store: Store, gate_id: str) -> dict[str, float]:
    """Numbers of a gate's result: flips, inputs, and each set's figures."""
    if not gate_id:
        return {}
    g, s = t.gates.c, t.gate_sets.c
    with store.read() as connection:
        row = connection.execute(sa.select(t.gates).where(g.id == gate_id)).mappings().one_or_none()
        inputs = connection.scalar(sa.select(sa.func.sum(s.inputs)).where(s.gate_id == gate_id))
    if row is None:
        return {}
    made = {
        "passed": float(row["outcome"] == "passed"),
        "negative_flips": float(row["negative_flips"]),
        "positive_flips": float(row["positive_flips"]),
        "inputs": float(inputs or 0),
    }
    for name, pair in (row["result"].get("costs") or {}).items():
        made |= {clean(f"champion/{name}"): float(pair[0]), clean(f"candidate/{name}"): float(pair[1])}
    return made


def clean(name: str) -> str:
    """A name that MLflow takes: other characters become `_`, at most 250 of them."""
    return _BAD.sub("_", name)[:250]
