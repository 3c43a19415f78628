"""A filled store of digits with snapshots: what the tests of data sets, their API and their pages build on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import sqlalchemy as sa

from export.contracts.dataset import Split
from export.dataset import DatasetRow, ManifestParts, Snapshot, write_snapshot
from monitoring import schema as t
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.datasets.build import SnapshotSource, build_snapshot
from monitoring.datasets.recipes import Recipe
from monitoring.datasets.rows import SnapshotRow
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.loop.contracts import Workshop
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import client as connected
from tests.support.console_store import CLASSES, Day, MemoryCatalogue, StillMonitor, fill, manifest
from tests.support.loop_world import MemoryJobs


@dataclass(kw_only=True)
class DatasetWorld:
    """A store, a catalogue whose champion was trained on a base snapshot, and a folder of snapshots."""

    store: Store
    day: Day
    folder: Path
    catalogue: MemoryCatalogue
    base: Snapshot

    @property
    def root(self) -> Path:
        return self.folder / "datasets"

    @property
    def source(self) -> SnapshotSource:
        return SnapshotSource(store=self.store, catalogue=self.catalogue)

    def build(self, recipe: Recipe | None = None, now_ns: int = 1, **fields: Any) -> SnapshotRow:
        """Build a snapshot."""
        wanted = recipe or Recipe(**fields)
        return build_snapshot(self.source, "digits", wanted, actor="ann", root=self.root, now_ns=now_ns)

    def trained_on(self, version: str, digest: str, parent: str | None = None) -> None:
        """Register a version that names a snapshot, and make it the champion."""
        made = manifest(version=version)
        provenance = replace(made.provenance, dataset_snapshot=digest, parent_version=parent)
        self.catalogue.manifests = (*self.catalogue.manifests, replace(made, provenance=provenance))
        self.catalogue.champion = version

    def sql(self, statement: Any) -> None:
        """Change the store behind everybody's back."""
        with self.store.write() as connection:
            connection.execute(statement)

    def set_case(self, case: str, **values: Any) -> None:
        """Change a case."""
        self.sql(t.cases.update().where(t.cases.c.id == case).values(**values))

    def labelled(self) -> list[str]:
        """Cases that a snapshot takes in, as they stand."""
        c = t.cases.c
        with self.store.read() as connection:
            query = sa.select(c.id).where(c.label.is_not(None), c.state != "dismissed", c.input_state == "kept")
            return list(connection.scalars(query.order_by(c.id)))


def base_rows(count: int = 60, seed: int = 1) -> list[DatasetRow]:
    """Rows of a base data set: noise, a quarter of it for validation."""
    rng = np.random.default_rng(seed)
    images = rng.random((count, 1, 8, 8), dtype=np.float32) * 16
    return [
        DatasetRow(
            row_id=f"base-{i:04d}",
            inputs={"x": images[i]},
            label=CLASSES[i % 10],
            split=Split.VALIDATION if i % 4 == 0 else Split.TRAIN,
            group=f"base-{i:04d}",
        )
        for i in range(count)
    ]


def parts(**given: Any) -> ManifestParts:
    """What of a manifest does not follow from the rows."""
    made = manifest()
    return ManifestParts(**{"name": "base", "model": "digits", "task": made.task, "signature": made.signature} | given)


def dataset_world(folder: Path, *, cases: int = 130) -> DatasetWorld:
    """The world; its first champion, version 2, was trained on the base."""
    store = Store(f"sqlite:///{folder}/monitor.db")
    day = fill(store, cases=cases)
    base = write_snapshot(folder / "datasets", parts(), base_rows())
    world = DatasetWorld(
        store=store, day=day, folder=folder, catalogue=MemoryCatalogue(manifests=(manifest(version="1"),)), base=base
    )
    world.trained_on("2", base.digest)
    return world


@contextmanager
def dataset_console(world: DatasetWorld, *, mlflow: str = "", **options: Any) -> Iterator[httpx.Client]:
    """A client of a console over the world; `mlflow` is the address that links lead to."""
    reports = ReportService(ReportOptions(folder=world.folder / "reports"), lambda *_: None)  # type: ignore[arg-type]
    nobody = cast(Any, None)  # nothing is trained here
    workshop = Workshop(
        jobs=MemoryJobs(), candidates=nobody, plans=nobody, folder=world.folder / "loop", datasets=world.root
    )
    app = build_console(
        world.store,
        world.catalogue,
        StillMonitor(),
        list,
        ConsoleOptions(**options),
        reports=reports,
        workshop=workshop,
        experiments=ExperimentOptions(url=mlflow),
    )
    try:
        with connected(app) as client:
            yield client
    finally:
        reports.close()
