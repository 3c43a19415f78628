"""Versions of ours in MLflow's registry: registered with their lineage, and aliases where the traffic plan has them.

What should be registered follows from our own registry, what an alias should point at from the plan: so a promotion by
the loop, by a person or by another installation all look alike, and none is missed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from export.contracts import codec
from export.contracts.manifest import Manifest
from monitoring import schema as t
from monitoring.catalogue import Catalogue
from monitoring.integrations.mlflow import rows
from monitoring.integrations.mlflow.client import Absent, MlflowClient, Point
from monitoring.integrations.mlflow.names import CANDIDATE, CHAMPION
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.integrations.mlflow.rows import VersionRow
from monitoring.integrations.mlflow.runs import clean, put_folder
from monitoring.loop.contracts import Stage
from monitoring.store import Store

VERSION_TAG = "hardcase.version"


@dataclass(kw_only=True)
class VersionMirror:
    """Keeps registered versions and aliases in step with the registry and its plans.

    Attributes:
        package: Folder of a registered version, if it is one.
    """

    client: MlflowClient
    store: Store
    catalogue: Catalogue
    options: ExperimentOptions
    package: Callable[[str, str], Path | None] = lambda model, version: None
    _aliases: dict[str, dict[str, str]] = field(default_factory=dict)  # as they were last seen right, by model
    _seen: dict[str, tuple[object, ...]] = field(default_factory=dict)  # what there was when all was right, by model

    def turn(self, *, afresh: bool) -> bool:
        """Do one thing; returns whether there may be more. `afresh`: look at aliases even where nothing changed."""
        if afresh:
            self._aliases.clear()
            self._seen.clear()
        for model in self.catalogue.models():
            now = self._now(model)
            if self._seen.get(model) == now:
                continue
            try:
                if self._versions(model) or self._point(model):
                    return True
                self._seen[model] = now
            except Absent:  # somebody removed the model, a version or a run
                rows.forget_versions(self.store, self.options.name_of(model))
                raise
        return False

    def _now(self, model: str) -> tuple[object, ...]:
        """Whatever decides about versions and aliases, in little."""
        c, plan = t.trainings.c, self.catalogue.plan(model)
        runs = t.experiment_runs.join(t.trainings, c.id == t.experiment_runs.c.training_id)
        with self.store.read() as connection:
            moved = connection.scalar(sa.select(sa.func.max(c.stage_ns)).where(c.model == model))
            told = connection.scalar(sa.select(sa.func.count()).select_from(runs).where(c.model == model))
            known = connection.scalar(sa.select(sa.func.count()).where(t.experiment_versions.c.model == model))
        return (self.catalogue.versions(model), None if plan is None else plan.revision, moved, told, known)

    def _versions(self, model: str) -> bool:
        known = rows.version_rows(self.store, model)
        for version in self.catalogue.versions(model):
            manifest = self.catalogue.manifest(model, version)
            if manifest is None:
                continue
            tags = self._tags(manifest)
            digest = hashlib.sha256(json.dumps(tags).encode()).hexdigest()
            row = known.get(version)
            if row is None:
                made = self._register(manifest, tags)
                if made is None:
                    continue
                rows.put_version(self.store, replace(made, digest=digest))
                return True
            if row.digest != digest:
                self.client.tag_version(row.name, row.number, tags)
                rows.put_version(self.store, replace(row, digest=digest))
                return True
        return False

    def _register(self, manifest: Manifest, tags: dict[str, str]) -> VersionRow | None:
        """Register a version, unless it is there; None while the run of its training is not."""
        model, version = manifest.name, manifest.version
        name = self.options.name_of(model)
        training = self._training(model, version)
        run = "" if training is None else getattr(rows.run_of(self.store, training), "run", "")
        if training is not None and not run:
            return None
        self.client.register(name)
        found = [v for v in self.client.versions(f"name='{name}'") if v.tags.get(VERSION_TAG) == version]
        if found:
            return VersionRow(
                model=model, version=version, name=name, number=found[0].number, run=found[0].run, digest=""
            )
        if not run:
            run = self._run_by_hand(manifest)
        source = f"runs:/{run}/package" if self.options.upload_packages else f"hardcase://{model}/{version}"
        number = self.client.add_version(name, source, run, tags)
        return VersionRow(model=model, version=version, name=name, number=number, run=run, digest="")

    def _run_by_hand(self, manifest: Manifest) -> str:
        """A run for a version that no training of ours made: its package, and what it says of itself."""
        experiment = self.client.experiment(self.options.experiment_of(manifest.name))
        title = f"{manifest.name} version {manifest.version}"
        key = f"{manifest.name}@{manifest.version}"
        made_ms = _milliseconds(manifest.provenance.created_at)
        run = self.client.run(experiment, "hardcase.package", key, name=title, start_ms=made_ms)
        figures = manifest.provenance.metrics
        self.client.log(run, points=[Point(name=clean(k), value=v, time_ms=made_ms) for k, v in figures.items()])
        self.client.put(experiment, run, "manifest.json", codec.dumps(manifest))
        folder = self.package(manifest.name, manifest.version) if self.options.upload_packages else None
        if folder is not None:
            put_folder(self.client, experiment, run, folder, "package", self.options.file_bytes)
        self.client.set_status(run, "FINISHED", made_ms)
        return run

    def _tags(self, manifest: Manifest) -> dict[str, str]:
        """Lineage of a version, and what became of it."""
        about = manifest.provenance
        tags = {VERSION_TAG: manifest.version, "hardcase.source": about.source, "hardcase.created_at": about.created_at}
        tags |= {"hardcase.snapshot": about.dataset_snapshot} if about.dataset_snapshot else {}
        tags |= {"hardcase.parent_version": about.parent_version} if about.parent_version else {}
        turn = self._turn(manifest.name, manifest.version)
        if turn is not None:
            said = {
                "training": turn["id"],
                "stage": turn["stage"],
                "digest": turn["digest"],
                "gate": turn["gate_id"],
                "gate_says": turn["gate_words"],
                "problem": turn["problem"],
            }
            tags |= {f"hardcase.{name}": str(value) for name, value in said.items() if value}
        return tags

    def _training(self, model: str, version: str) -> str | None:
        turn = self._turn(model, version)
        return None if turn is None else str(turn["id"])

    def _turn(self, model: str, version: str) -> sa.RowMapping | None:
        c = t.trainings.c
        query = sa.select(t.trainings).where(c.model == model, c.version == version, c.digest != "")
        with self.store.read() as connection:
            return connection.execute(query.order_by(c.number.desc()).limit(1)).mappings().one_or_none()

    def _point(self, model: str) -> bool:
        """Have the aliases point where the traffic plan says; returns whether one was changed."""
        wanted = self._wanted(model)
        if wanted is None or self._aliases.get(model) == wanted:
            return False
        name = self.options.name_of(model)
        found = self.client.aliases(name)
        changed = False
        for alias in (CHAMPION, CANDIDATE):
            number, is_now = wanted.get(alias), found.get(alias)
            if number is not None and number != is_now:
                self.client.set_alias(name, alias, number)
                changed = True
            elif number is None and is_now is not None:
                self.client.drop_alias(name, alias)
                changed = True
        self._aliases[model] = wanted
        return changed

    def _wanted(self, model: str) -> dict[str, str] | None:
        """{alias: number}; None while a version that it should point at is not registered."""
        plan = self.catalogue.plan(model)
        known = rows.version_rows(self.store, model)
        if plan is None or not known:
            return None
        wanted = {CHAMPION: plan.champion, CANDIDATE: plan.challenger or self._before_the_gate(model)}
        if any(version is not None and version not in known for version in wanted.values()):
            return None
        return {alias: known[version].number for alias, version in wanted.items() if version is not None}

    def _before_the_gate(self, model: str) -> str | None:
        """The version that the loop has registered and that takes no traffic yet."""
        c = t.trainings.c
        stages = (Stage.TRAINED.value, Stage.GATING.value, Stage.GATED.value, Stage.ROLLING_OUT.value)
        query = sa.select(c.version).where(c.model == model, c.flight == model, c.digest != "", c.stage.in_(stages))
        with self.store.read() as connection:
            return connection.scalar(query)


def _milliseconds(created_at: str) -> int:
    """RFC 3339 as milliseconds since the epoch; 0 where it is none."""
    try:
        return int(datetime.fromisoformat(created_at).timestamp() * 1000)
    except ValueError:
        return 0
