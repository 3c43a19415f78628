"""Snapshots and lineage as the API answers them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from export.contracts.dataset import Split
from export.contracts.errors import InvalidRequest, NotFound, SnapshotError
from export.contracts.task import TaskKind
from export.dataset import Snapshot
from monitoring.api import dataset_models as m
from monitoring.api.fields import from_ns
from monitoring.datasets import lineage, rows
from monitoring.datasets.build import SnapshotSource, build_snapshot, manifest_of
from monitoring.datasets.diff import Change, RowChange, diff
from monitoring.datasets.gather import Gatherer
from monitoring.datasets.noise import suspects_among
from monitoring.datasets.recipes import Labels, Recipe
from monitoring.datasets.rows import SnapshotRow, SnapshotState
from monitoring.integrations.mlflow.links import run_link, version_link

_NOWHERE = Path("/dev/null/datasets")


@dataclass(frozen=True, kw_only=True)
class DatasetDesk:
    """What the routes and the pages ask.

    Args:
        source: What snapshots are made from.
        root: Folder of the snapshots; None: there are none.
        clock: For when they were made.
        mlflow: Address of MLflow; "" where there is none.
    """

    source: SnapshotSource
    root: Path | None
    clock: Callable[[], datetime]
    mlflow: str = ""

    @property
    def folder(self) -> Path:
        """Where snapshots lie; a place that never is where there are none, so that pages are empty there."""
        return self.root or _NOWHERE

    def build(self, asked: m.DatasetBuild, actor: str) -> m.Dataset:
        """Make a snapshot.

        Raises:
            NotFound: this monitor keeps none.
        """
        if self.root is None:
            raise NotFound("this monitor keeps no data sets")
        try:
            recipe = Recipe.from_plain(asked.recipe)
        except (ValueError, TypeError) as error:
            raise InvalidRequest(str(error)[:300]) from None
        try:
            row = build_snapshot(self.source, asked.model, recipe, actor=actor, root=self.folder, now_ns=self._now_ns())
        except SnapshotError as error:
            raise InvalidRequest(error.message) from None
        return self.shown(row)

    def all(self, query: m.DatasetQuery) -> m.Datasets:
        """Snapshots; those that were laid into the folder meanwhile are entered first."""
        rows.adopt(self.source.store, self.folder, now_ns=self._now_ns())
        with self.source.store.read() as connection:
            found = rows.snapshots(connection, self.folder, model=query.model, limit=query.limit)
        return m.Datasets(datasets=[self.shown(row) for row in found])

    def row(self, identity: str) -> SnapshotRow:
        """One snapshot."""
        with self.source.store.read() as connection:
            return rows.look(connection, self.folder, identity)

    def one(self, identity: str) -> m.Dataset:
        """One snapshot."""
        return self.shown(self.row(identity))

    def opened(self, identity: str) -> Snapshot:
        """Its folder.

        Raises:
            NotFound: it is gone, or damaged; says which file.
        """
        row = self.row(identity)
        if row.state is SnapshotState.ERASED:
            raise NotFound(f"its data were erased; {row.successor or 'no snapshot'} has what was left")
        try:
            return row.open()
        except SnapshotError as error:
            raise NotFound(f"the snapshot cannot be read: {error.message}") from None

    def check(self, identity: str) -> m.DatasetCheck:
        """Whether its folder still holds what its digest names."""
        row = self.row(identity)
        try:
            row.open()
        except SnapshotError as error:
            return m.DatasetCheck(id=row.id, whole=False, problem=error.message)
        return m.DatasetCheck(id=row.id, whole=True, problem=None)

    def rows(self, identity: str, query: m.DatasetRowQuery) -> m.DatasetRows:
        """A page of its rows."""
        snapshot = self.opened(identity)
        names = ["row_id", "split", "source", "group", "weight", "label", "predicted", "author", "time_ns", "case_id",
                 "record_id", "version", "slices"]  # fmt: skip
        table = snapshot.table(None if query.split is None else Split(query.split), columns=names)
        ids = table["row_id"].to_pylist()
        start = next((i for i, row_id in enumerate(ids) if row_id > query.after), len(ids)) if query.after else 0
        page = table.slice(start, query.limit).to_pylist()
        more = start + query.limit < len(ids)
        return m.DatasetRows(rows=[_row(row) for row in page], next=page[-1]["row_id"] if more and page else None)

    def suspects(self, identity: str) -> m.DatasetSuspects:
        """Labels in it that look wrong, by what is known of their records now."""
        row = self.row(identity)
        manifest = manifest_of(self.source.catalogue, row.model)
        if manifest.task.kind is not TaskKind.CLASSIFICATION:
            return m.DatasetSuspects(suspects=[], asked=0)
        recipe = Recipe(labels=Labels.ANY)
        with self.source.store.read() as connection:
            held = {item.row_id: item for item in rows.items(connection, snapshot=identity, limit=1_000_000)}
            found = Gatherer(connection, row.model, manifest, recipe).all().rows
        asked = [x for x in found if x.row.row_id in held]
        names = manifest.task.class_names
        return m.DatasetSuspects(
            asked=len(asked),
            suspects=[
                m.DatasetSuspect(
                    row_id=s.row_id,
                    case=held[s.row_id].case_id,
                    author=held[s.row_id].author,
                    given=names[s.given] if names else s.given,
                    suggested=names[s.suggested] if names else s.suggested,
                    probability=s.probability,
                    agreeing=s.agreeing,
                    neighbours=s.asked,
                )
                for s in suspects_among(asked, names)
            ],
        )

    def diff(self, before: str, after: str, query: m.DatasetDiffQuery) -> m.DatasetDiff:
        """From one to the other."""
        found = diff(self.opened(before), self.opened(after))
        return m.DatasetDiff(
            before=self.one(before),
            after=self.one(after),
            same=found.same,
            counts={change.value: n for change, n in found.counts.items()},
            by_label={_text(label): _named(counts) for label, counts in found.by_label().items()},
            by_source={source: _named(counts) for source, counts in found.by_source().items()},
            rows=[_change(row) for row in found.rows[: query.limit]],
        )

    def of_record(self, record_id: str, model: str | None) -> m.Lineage:
        """Forwards from a record."""
        return self._lineage(lineage.of_record(self.source.store, self.source.catalogue, self.folder, record_id, model))

    def of_case(self, case: str) -> m.Lineage:
        """Forwards from a case."""
        return self._lineage(lineage.of_case(self.source.store, self.source.catalogue, self.folder, case))

    def of_version(self, model: str, version: str) -> m.Lineage:
        """Backwards from a version."""
        return self._lineage(lineage.of_version(self.source.store, self.source.catalogue, self.folder, model, version))

    def shown(self, row: SnapshotRow) -> m.Dataset:
        """A row as the API's answer."""
        named = [v.version for v in lineage.versions_of(self.source.catalogue, row.model) if v.snapshot == row.id]
        same = {name: getattr(row, name) for name in m.Dataset.model_fields if hasattr(row, name)}
        times = {"newest_at": from_ns(row.newest_ns), "created_at": from_ns(row.created_ns)}
        return m.Dataset.model_validate(
            same | times | {"notes": list(row.notes), "successor": row.successor or None, "versions": named}
        )

    def _lineage(self, found: lineage.Lineage) -> m.Lineage:
        return m.Lineage(
            about=found.about,
            records=[
                m.LineageRecord.model_validate(_fields(node) | {"time": from_ns(node.time_ns)})
                for node in found.records
            ],
            said=[
                m.LineageSaid.model_validate(
                    _fields(node)
                    | {"time": from_ns(node.time_ns), "label": _decoded(node.label), "act": node.act or None}
                )
                for node in found.said
            ],
            items=[
                m.LineageItem(
                    snapshot=item.snapshot_id,
                    row_id=item.row_id,
                    split=item.split,
                    source=item.source,
                    case=item.case_id,
                    label=_decoded(item.label),
                )
                for item in found.items
            ],
            snapshots=[m.LineageSnapshot(dataset=self.shown(n.snapshot), rows=n.rows) for n in found.snapshots],
            versions=[shown_version(node, self.mlflow) for node in found.versions],
            total=found.total,
        )

    def _now_ns(self) -> int:
        return int(self.clock().timestamp() * 1e9)


def shown_version(node: lineage.VersionNode, mlflow: str) -> m.LineageVersion:
    """A version of a lineage, with the addresses of MLflow's pages."""
    made = node.made
    there = None
    if made.number:
        there = m.LineageMlflow(
            name=made.name,
            number=made.number,
            url=version_link(mlflow, made.name, made.number) if mlflow else "",
            run=made.run,
            run_url=run_link(mlflow, made.experiment, made.run) if mlflow and made.experiment else "",
        )
    return m.LineageVersion(
        model=node.model,
        version=node.version,
        snapshot=node.snapshot,
        parent=node.parent,
        champion=node.champion,
        training=made.training,
        stage=made.stage,
        gate=made.gate,
        gate_outcome=made.gate_outcome,
        rollout=made.rollout,
        rollout_state=made.rollout_state,
        mlflow=there,
    )


def _row(row: dict[str, Any]) -> m.DatasetRow:
    return m.DatasetRow.model_validate(
        row
        | {
            "label": _decoded(row["label"]),
            "predicted": _decoded(row["predicted"]),
            "time": from_ns(row["time_ns"]) if row["time_ns"] else None,
            "case": row["case_id"] or None,
            "record_id": row["record_id"] or None,
            "version": row["version"] or None,
        }
    )


def _change(row: RowChange) -> m.DatasetChange:
    moved = row.change is Change.MOVED
    return m.DatasetChange(
        row_id=row.row_id,
        change=row.change,
        before=row.before if moved else _decoded(row.before),
        after=row.after if moved else _decoded(row.after),
        label=_decoded(row.label),
        source=row.source,
        case=row.case_id or None,
    )


def _fields(node: Any) -> dict[str, Any]:
    return {name: getattr(node, name) for name in node.__slots__}


def _decoded(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(label: str) -> str:
    value = _decoded(label)
    return value if isinstance(value, str) else label


def _named(counts: Any) -> dict[str, int]:
    return {change.value: n for change, n in counts.items()}
