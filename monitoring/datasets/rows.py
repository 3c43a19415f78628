"""The tables of snapshots: what is known of each, and the records in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from export.contracts.dataset import Source
from export.contracts.errors import NotFound
from export.dataset import DatasetRow, Snapshot
from export.dataset.columns import to_json
from export.dataset.content import signed
from monitoring import schema as t
from monitoring.keys import record_hash
from monitoring.store import Store
from monitoring.store_rows import FIXED_POINT


class SnapshotState(StrEnum):
    """What there is of a snapshot."""

    WHOLE = "whole"  # its folder holds what its digest names
    ERASING = "erasing"  # it holds data that must go; its successor is being written
    ERASED = "erased"  # its data were deleted; its successor has what may stay


@dataclass(frozen=True, kw_only=True)
class SnapshotRow:
    """A row of `snapshots`, and where its folder lies."""

    id: str
    digest: str
    name: str
    model: str
    rows: int
    splits: Mapping[str, int]
    sources: Mapping[str, int]
    classes: Mapping[str, int]
    base: str | None
    recipe: Mapping[str, Any]
    notes: Sequence[str]
    newest_ns: int
    created_ns: int
    created_by: str
    state: SnapshotState
    erased: int
    successor: str
    folder: Path

    def open(self) -> Snapshot:
        """Its folder, checked.

        Raises:
            SnapshotError: it is damaged or gone.
        """
        return Snapshot.open(self.folder, digest=self.digest)


@dataclass(frozen=True, kw_only=True)
class ItemRow:
    """A row of `snapshot_items`: a row of a snapshot that a record is behind."""

    snapshot_id: str
    row_id: str
    split: str
    source: str
    case_id: str
    record_id: str
    time_ns: int
    version: str
    label: str
    predicted: str | None
    author: str


def add_snapshot(
    connection: sa.Connection, snapshot: Snapshot, rows: Iterable[DatasetRow], *, actor: str, now_ns: int
) -> bool:
    """Enter a snapshot with the records in it; returns whether it was not there yet."""
    manifest = snapshot.manifest
    values = {
        "id": snapshot.id,
        "digest": snapshot.digest,
        "name": manifest.name[:120],
        "model": manifest.model,
        "rows": manifest.rows,
        "splits": manifest.splits,
        "sources": manifest.sources,
        "classes": manifest.classes,
        "base": manifest.base,
        "recipe": manifest.recipe,
        "notes": list(manifest.notes),
        "newest_ns": round(datetime.fromisoformat(manifest.created_at).timestamp()) * 10**9,
        "created_ns": now_ns,
        "created_by": actor[:64],
        "state": SnapshotState.WHOLE.value,
    }
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    insert = dialect.insert(t.snapshots).values(**values).on_conflict_do_nothing(index_elements=["id"])
    if not connection.execute(insert).rowcount:
        return False
    items = [_item(snapshot, row) for row in rows if row.source is not Source.BASE]
    for start in range(0, len(items), 2000):
        connection.execute(t.snapshot_items.insert(), items[start : start + 2000])
    return True


def adopt(store: Store, root: Path, *, now_ns: int, actor: str = "hardcase") -> list[str]:
    """Enter snapshots that lie in the folder and are not known yet, such as imported ones; returns their ids."""
    if not root.is_dir():
        return []
    with store.read() as connection:
        known = set(connection.scalars(sa.select(t.snapshots.c.id)))
    found = []
    for folder in sorted(root.iterdir()):
        if folder.name in known or folder.name.startswith(".") or not (folder / "snapshot.json").is_file():
            continue
        snapshot = Snapshot.open(folder)
        if folder.name != snapshot.id:
            continue
        rows = [row for row in snapshot.items() if row.source is not Source.BASE] if _holds_records(snapshot) else []
        with store.write() as connection:
            if add_snapshot(connection, snapshot, rows, actor=actor, now_ns=now_ns):
                found.append(snapshot.id)
    return found


def snapshots(
    connection: sa.Connection, root: Path, *, model: str | None = None, limit: int = 200
) -> list[SnapshotRow]:
    """Snapshots, newest first."""
    s = t.snapshots.c
    query = sa.select(t.snapshots).order_by(s.created_ns.desc(), s.id).limit(limit)
    if model is not None:
        query = query.where(s.model == model)
    return [_row(row, root) for row in connection.execute(query).mappings()]


def look(connection: sa.Connection, root: Path, name: str) -> SnapshotRow:
    """The snapshot of an id, or of a digest.

    Raises:
        NotFound: there is none.
    """
    s = t.snapshots.c
    identity = name.removeprefix("sha256:")[:16]
    found = connection.execute(sa.select(t.snapshots).where(s.id == identity)).mappings().one_or_none()
    if found is None or (name.startswith("sha256:") and found["digest"] != name):
        raise NotFound("there is no snapshot with this id")
    return _row(found, root)


def latest_of(connection: sa.Connection, root: Path, name: str) -> SnapshotRow:
    """The same, or what took its place after an erasure.

    Raises:
        NotFound: there is none.
    """
    found = look(connection, root, name)
    seen = {found.id}
    while found.successor and found.successor not in seen:
        found = look(connection, root, found.successor)
        seen.add(found.id)
    return found


def items(
    connection: sa.Connection,
    *,
    snapshot: str | None = None,
    case: str | None = None,
    model: str | None = None,
    record_id: str | None = None,
    after: str = "",
    limit: int = 500,
) -> list[ItemRow]:
    """Rows with a record behind them: of a snapshot, of a case or of a record, by snapshot and row."""
    i = t.snapshot_items.c
    query = sa.select(*(i[field.name] for field in dataclasses.fields(ItemRow)))
    if snapshot is not None:
        query = query.where(i.snapshot_id == snapshot, i.row_id > after)
    if case is not None:
        query = query.where(i.case_id == case)
    if record_id is not None:
        hashes = [record_hash(name, record_id) for name in _models(connection, model)]
        query = query.where(i.id_hash.in_(hashes), i.record_id == record_id)
    found = connection.execute(query.order_by(i.snapshot_id, i.row_id).limit(limit)).mappings()
    return [ItemRow(**row) for row in found]


def _models(connection: sa.Connection, model: str | None) -> list[str]:
    if model is not None:
        return [model]
    return list(connection.scalars(sa.select(t.snapshots.c.model).distinct()))


def _item(snapshot: Snapshot, row: DatasetRow) -> dict[str, Any]:
    return {
        "snapshot_id": snapshot.id,
        "row_id": row.row_id,
        "split": row.split.value,
        "source": row.source.value,
        "case_id": row.case_id,
        "id_hash": record_hash(snapshot.manifest.model, row.record_id),
        "record_id": row.record_id,
        "time_ns": row.time_ns,
        "version": row.version,
        "label": to_json(row.label),
        "predicted": None if row.predicted is None else to_json(row.predicted),
        "author": row.author[:64],
        "content_hash": signed(row.content) if row.content else None,
        "weight": round(row.weight * FIXED_POINT),
    }


def _holds_records(snapshot: Snapshot) -> bool:
    return any(source != Source.BASE.value for source in snapshot.manifest.sources)


def _row(row: Any, root: Path) -> SnapshotRow:
    return SnapshotRow(**{**row, "state": SnapshotState(row["state"]), "folder": root / row["id"]})
