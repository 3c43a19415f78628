"""Snapshots for other programs: one Parquet file, arrays, or a folder of images by split and class."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deploy.errors import CommandError
from export.contracts.arrays import save_npz
from export.contracts.imagefile import ImageRefused, examine
from export.contracts.signature import InputSpec
from export.contracts.task import TaskKind
from export.dataset import DatasetRow, Snapshot

Progress = Callable[[int], None]


def export_snapshot(
    snapshot: Snapshot,
    kind: str,
    out: Path,
    *,
    split: str | None = None,
    on_start: Progress = lambda n: None,
    on_rows: Progress = lambda n: None,
) -> int:
    """Write its rows; returns how many.

    Args:
        snapshot: Opened.
        kind: "parquet" and "npz" write a file, "images" a folder `<split>/<class>/<row id>.png`.
        out: Where; must not exist.
        split: Only of this one.
        on_start: Told how many rows there are.
        on_rows: Told how many were written since the last call.

    Raises:
        CommandError: it is there already, or the rows are no pictures or of no classes.
    """
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise CommandError(f"{out.name} is there already")
    if kind == "parquet":
        return _parquet(snapshot, out, split, on_start, on_rows)
    if kind == "npz":
        return _npz(snapshot, out, split, on_start, on_rows)
    if kind == "images":
        return _images(snapshot, out, split, on_start, on_rows)
    raise CommandError(f"'{kind}' is none of parquet, npz, images")


def _parquet(snapshot: Snapshot, out: Path, split: str | None, on_start: Progress, on_rows: Progress) -> int:
    import pyarrow.parquet as pq

    table = snapshot.table(split)
    on_start(len(table))
    pq.write_table(table, out, compression="zstd")
    on_rows(len(table))
    return len(table)


def _npz(snapshot: Snapshot, out: Path, split: str | None, on_start: Progress, on_rows: Progress) -> int:
    rows = snapshot.arrays(split)
    on_start(len(rows))
    labels = rows.labels
    if not isinstance(labels, np.ndarray):
        raise CommandError("labels of this task are no numbers: export Parquet")
    if any(array.dtype == object and array.ndim == 1 for array in rows.inputs.values()):
        raise CommandError("inputs of different shapes make no array: export Parquet")
    items = snapshot.items(split)
    texts = {
        "splits": [r.split.value for r in items],
        "groups": [r.group for r in items],
        "row_ids": list(rows.row_ids),
    }
    save_npz(
        out, {**rows.inputs, "labels": labels, "weights": rows.weights, **{k: np.array(v) for k, v in texts.items()}}
    )
    on_rows(len(rows))
    return len(rows)


def _images(snapshot: Snapshot, out: Path, split: str | None, on_start: Progress, on_rows: Progress) -> int:
    from monitoring.images import is_picture

    manifest = snapshot.manifest
    spec = next((s for s in manifest.signature.inputs if is_picture(s)), None)
    if spec is None or manifest.task.kind is not TaskKind.CLASSIFICATION:
        raise CommandError("only pictures with one class each make a folder of images: export Parquet")
    items = snapshot.items(split)
    on_start(len(items))
    for row in items:
        folder = out / row.split.value / _safe(str(row.label))
        folder.mkdir(parents=True, exist_ok=True)
        data, suffix = _file(row, spec)
        (folder / f"{_safe(row.row_id)}{suffix}").write_bytes(data)
        on_rows(1)
    return len(items)


def _file(row: DatasetRow, spec: InputSpec) -> tuple[bytes, str]:
    """What was sent, where that was a file; else the tensor as PNG, which holds eight bits a channel."""
    from monitoring.images import to_png

    array = row.inputs[spec.name]
    if spec.preprocess is None:
        return to_png(array, spec.display), ".png"
    data = bytes(array.reshape(-1)[0])
    try:
        return data, f".{examine(data, spec.preprocess.max_pixels).format.value.lower()}"
    except ImageRefused:
        return data, ".bin"


def _safe(text: str) -> str:
    """A name for a file or folder: no separators, no dots in front."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".") or "_"
