"""Writing a snapshot: sorted, hashed, put in place whole."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from export.contracts import codec
from export.contracts.dataset import DATA_FILE, SNAPSHOT_FILE, SnapshotManifest
from export.contracts.errors import SnapshotError
from export.contracts.signature import Signature
from export.contracts.task import Task
from export.dataset.columns import schema_of, to_table
from export.dataset.content import content_hash
from export.dataset.labels import class_of
from export.dataset.read import ID_DIGITS, Snapshot
from export.dataset.rows import DatasetRow

GROUP_ROWS = 4096
GROUP_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestParts:
    """What of the manifest does not follow from the rows; see `SnapshotManifest`."""

    name: str
    model: str
    task: Task
    signature: Signature
    recipe: dict[str, Any] = field(default_factory=dict)
    base: str | None = None
    notes: tuple[str, ...] = ()


def write_snapshot(root: Path, parts: ManifestParts, rows: Iterable[DatasetRow]) -> Snapshot:
    """Write `root/<id>`; returns it opened. The same rows in any order give the same digest, and are written once.

    `created_at` of the manifest is the time of the newest row, not of the clock, so that the digest does not depend on
    when it was made; 1970 where no row has a time.

    Raises:
        SnapshotError: two rows have one id, a group straddles splits, or a row does not fit the signature.
        OSError: disk.
    """
    ordered = [
        row if row.content else replace(row, content=content_hash(parts.signature, row.inputs))
        for row in sorted(rows, key=lambda row: row.row_id)
    ]
    _check(ordered)
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f".new-{secrets.token_hex(6)}"
    temporary.mkdir(mode=0o700)
    try:
        _write_data(temporary / DATA_FILE, ordered, parts.signature)
        with (temporary / DATA_FILE).open("rb") as file:
            data_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        manifest = _manifest(parts, ordered, data_sha256)
        data = codec.dumps(manifest)
        _write_synced(temporary / SNAPSHOT_FILE, data)
        folder = root / hashlib.sha256(data).hexdigest()[:ID_DIGITS]
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Snapshot.open(folder)


def _check(rows: Sequence[DatasetRow]) -> None:
    splits: dict[str, str] = {}
    for before, row in zip([None, *rows[:-1]], rows, strict=True):
        if before is not None and before.row_id == row.row_id:
            raise SnapshotError(f"two rows have the id {row.row_id}")
        if row.group and splits.setdefault(row.group, row.split) != row.split:
            raise SnapshotError(f"group {row.group} is in {splits[row.group]} and in {row.split}")


def _manifest(parts: ManifestParts, rows: Sequence[DatasetRow], data_sha256: str) -> SnapshotManifest:
    classes = Counter(class_of(row.label, parts.task) for row in rows)
    newest = max((row.time_ns for row in rows), default=0)
    return SnapshotManifest(
        name=parts.name,
        model=parts.model,
        task=parts.task,
        signature=parts.signature,
        rows=len(rows),
        splits=dict(Counter(row.split.value for row in rows)),
        sources=dict(Counter(row.source.value for row in rows)),
        classes={name: n for name, n in classes.items() if name is not None},
        data_sha256=data_sha256,
        created_at=datetime.fromtimestamp(newest // 10**9, UTC).isoformat().replace("+00:00", "Z"),
        recipe=parts.recipe,
        base=parts.base,
        notes=parts.notes,
    )


def _write_data(path: Path, rows: Sequence[DatasetRow], signature: Signature) -> None:
    """Row groups of bounded size. One thread and fixed options: the same rows give the same bytes."""
    with (
        path.open("wb") as file,
        pq.ParquetWriter(file, schema_of(signature), compression="zstd", compression_level=3) as writer,
    ):
        for chunk in _chunks(rows):
            table = to_table(chunk, signature)
            writer.write_table(table, row_group_size=max(1, len(table)))
        writer.close()
        file.flush()
        os.fsync(file.fileno())


def _chunks(rows: Sequence[DatasetRow]) -> Iterable[Sequence[DatasetRow]]:
    start = size = 0
    for i, row in enumerate(rows):
        size += sum(array.nbytes for array in row.inputs.values())
        if i + 1 - start >= GROUP_ROWS or size >= GROUP_BYTES:
            yield rows[start : i + 1]
            start, size = i + 1, 0
    if start < len(rows):
        yield rows[start:]


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename; a snapshot of the same name that is there and whole is the same one."""
    if folder.is_dir():
        try:
            Snapshot.open(folder)
            return
        except SnapshotError:  # damaged: what we have just written is what it was
            shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise somebody wrote the same one at the same time
            raise
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
