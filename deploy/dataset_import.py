"""Labelled data from files into a base snapshot: npz, Parquet, CSV, folders of images, or a snapshot from elsewhere."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy.dataset_images import SPLITS, Progress, Raw, read_folder
from deploy.errors import CommandError
from export.contracts.arrays import load_npz
from export.contracts.dataset import SNAPSHOT_FILE
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Manifest
from export.contracts.signature import InputSpec
from export.dataset import DatasetRow, ManifestParts, Snapshot, write_snapshot
from export.dataset.content import content_hash
from export.dataset.labels import class_of, normalise
from export.dataset.rows import Array
from monitoring.datasets.recipes import Recipe
from monitoring.datasets.splits import Candidate, with_splits

MAX_BYTES = 8 << 30
LABELS = ("label", "labels", "y", "target")


def import_dataset(
    path: Path,
    manifest: Manifest,
    root: Path,
    *,
    name: str = "",
    label: str = "",
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    on_start: Progress = lambda n: None,
    on_rows: Progress = lambda n: None,
) -> Snapshot:
    """Write a base snapshot of a file or folder.

    Args:
        path: `.npz`, `.parquet`, `.csv`, a folder with a folder a class, or a snapshot's folder, which is copied.
        manifest: Of a version of the model: its signature and task.
        root: Folder of the snapshots.
        name: Of the snapshot; the file's by default.
        label: Column or array of the labels, where it has another name than usual.
        validation: Share of the rows for validation, where the file says nothing of splits.
        test: ... for test.
        seed: Of the draw.
        on_start: Told how many rows there are.
        on_rows: Told how many were read since the last call.

    Raises:
        CommandError: names the row or the column.
        SnapshotError: a snapshot that is damaged.
    """
    if path.is_dir() and (path / SNAPSHOT_FILE).is_file():
        return _copied(path, manifest, root)
    raw = read_raw(path, manifest, label, on_start, on_rows)
    candidates = list(_candidates(raw, manifest))
    rows = [row for row, _ in candidates]
    if raw.splits is None:
        rows = with_splits([c for _, c in candidates], Recipe(validation=validation, test=test, seed=seed))
    parts = ManifestParts(name=name or path.stem, model=manifest.name, task=manifest.task, signature=manifest.signature)
    return write_snapshot(root, parts, rows)


def read_raw(path: Path, manifest: Manifest, label: str, on_start: Progress, on_rows: Progress) -> Raw:
    """The examples of a file or folder.

    Raises:
        CommandError: nobody reads it, or something in it does not fit.
    """
    if not path.exists():
        raise CommandError(f"{path.name} is not there")
    if path.is_dir():
        return read_folder(path, manifest, on_start, on_rows)
    try:
        if path.suffix == ".npz":
            return _npz(path, manifest, label, on_start, on_rows)
        if path.suffix in (".parquet", ".pq"):
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            return _columns(table.to_pydict(), manifest, label, on_start, on_rows)
        if path.suffix in (".csv", ".tsv"):
            return _columns(_csv(path), manifest, label, on_start, on_rows)
    except (ValueError, OSError) as error:
        raise CommandError(f"{path.name}: {error}") from None
    raise CommandError(f"{path.name}: nobody here reads this", "give .npz, .parquet, .csv, or a folder")


def _candidates(raw: Raw, manifest: Manifest) -> Iterator[tuple[DatasetRow, Candidate]]:
    """Rows named by what is in them, so that the order of the file leaves no trace."""
    count = len(raw.labels)
    seen: dict[str, int] = {}
    made: list[DatasetRow] = []
    for i in range(count):
        try:
            label = normalise(raw.labels[i], manifest.task)
        except ValueError as error:
            raise CommandError(f"{raw.where(i)}: {error}") from None
        inputs = {name: values[i] for name, values in raw.inputs.items()}
        content = content_hash(manifest.signature, inputs)
        named = "train" if raw.splits is None else str(raw.splits[i])
        if named.lower() not in SPLITS:
            raise CommandError(f"{raw.where(i)}: '{named[:64]}' is no split: train, validation or test")
        made.append(
            DatasetRow(
                row_id=content,
                inputs=inputs,
                label=label,
                split=SPLITS[named.lower()],
                group="" if raw.groups is None else str(raw.groups[i]),
                weight=1.0 if raw.weights is None else float(raw.weights[i]),
                content=content,
            )
        )
    for row in sorted(made, key=lambda r: (r.content, str(r.label), r.split, r.group, r.weight)):
        nth = seen[row.content] = seen.get(row.content, -1) + 1
        # The same input stays in one split: that it is there twice must not put it on both sides.
        keys = (f"i:{row.content}", *((f"b:{row.group}",) if row.group else ()))
        row_id = f"base-{row.content}" + (f".{nth}" if nth else "")
        unique = replace(row, row_id=row_id, group=row.group or row.content)
        yield unique, Candidate(row=unique, keys=keys, cls=class_of(row.label, manifest.task) or "")


def _npz(path: Path, manifest: Manifest, label: str, on_start: Progress, on_rows: Progress) -> Raw:
    arrays = load_npz(path, MAX_BYTES)
    name = _label_of(arrays, label)
    labels = arrays.pop(name)
    on_start(len(labels))
    rest = {
        key: arrays.pop(key) for key in ("splits", "split", "groups", "group", "weights", "weight") if key in arrays
    }
    inputs = {}
    for spec in manifest.signature.inputs:
        only = len(manifest.signature.inputs) == 1 and len(arrays) == 1
        array = arrays.get(spec.name, next(iter(arrays.values())) if only else None)
        if array is None:
            raise CommandError(f"there is no array '{spec.name}'; the file has {', '.join(sorted(arrays))}")
        inputs[spec.name] = _shaped(array, spec, len(labels))
    on_rows(len(labels))
    return Raw(inputs=inputs, labels=list(labels), **_extras(rest))


def _columns(
    table: Mapping[str, Sequence[Any]], manifest: Manifest, label: str, on_start: Progress, on_rows: Progress
) -> Raw:
    columns = dict(table)
    labels = list(columns.pop(_label_of(columns, label)))
    on_start(len(labels))
    rest = {
        key: columns.pop(key) for key in ("splits", "split", "groups", "group", "weights", "weight") if key in columns
    }
    specs = manifest.signature.inputs
    inputs: dict[str, Array] = {}
    for spec in specs:
        if spec.name in columns:
            values = list(columns[spec.name])
            if spec.datatype is Datatype.BYTES:
                array = np.empty((len(values), 1), dtype=object)
                array[:, 0] = [v if isinstance(v, bytes) else str(v).encode() for v in values]
            else:
                array = np.asarray(values, dtype=np.float64)
            inputs[spec.name] = _shaped(array, spec, len(labels))
            continue
        names = spec.display.feature_names or tuple(columns)
        missing = [n for n in names if n not in columns]
        if missing or len(specs) > 1:
            raise CommandError(f"column '{missing[0] if missing else spec.name}' of input '{spec.name}' is missing")
        features = np.array([[float(x) for x in columns[n]] for n in names], dtype=np.float64).T
        inputs[spec.name] = _shaped(features, spec, len(labels))
    on_rows(len(labels))
    return Raw(inputs=inputs, labels=labels, where=lambda i: f"line {i + 2}", **_extras(rest))


def _csv(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        head = next(reader, [])
        rows = [row for row in reader if row]
    bad = next((i for i, row in enumerate(rows) if len(row) != len(head)), None)
    if bad is not None:
        raise ValueError(f"line {bad + 2} has {len(rows[bad])} fields, the first line {len(head)}")
    return {name: [row[i] for row in rows] for i, name in enumerate(head)}


def _shaped(array: Array, spec: InputSpec, rows: int) -> Array:
    """An array as an input's rows, each as the signature has it without the batch axis."""
    if len(array) != rows:
        raise CommandError(f"input '{spec.name}' has {len(array)} rows for {rows} labels")
    wanted = (rows, *spec.shape[1:])
    if array.ndim != len(wanted) or any(a not in (-1, b) for a, b in zip(wanted, array.shape, strict=True)):
        if -1 in wanted[1:] or array.size != int(np.prod(wanted)):
            raise CommandError(f"input '{spec.name}' is {list(array.shape)}, the model takes {list(spec.shape)}")
        array = array.reshape(wanted)
    if spec.datatype is Datatype.BYTES:
        return array
    made = array.astype(spec.datatype.numpy)
    if spec.datatype.numpy.kind in "iu" and not (made == array).all():
        raise CommandError(f"input '{spec.name}' has values that {spec.datatype} does not hold")
    return np.ascontiguousarray(made)


def _label_of(columns: Mapping[str, Any], wanted: str) -> str:
    for name in (wanted,) if wanted else LABELS:
        if name in columns:
            return name
    given = ", ".join(sorted(columns)[:10])
    raise CommandError(f"there are no labels: no '{wanted or LABELS[0]}' among {given}", "name them with --label")


def _extras(rest: Mapping[Any, Any]) -> dict[str, Any]:
    named = {"split": "splits", "group": "groups", "weight": "weights"}
    return {named.get(key, key): list(values) for key, values in rest.items()}


def _copied(path: Path, manifest: Manifest, root: Path) -> Snapshot:
    """A snapshot from another installation: the same bytes, so the same digest."""
    given = Snapshot.open(path)
    if given.manifest.model != manifest.name:
        raise CommandError(f"this snapshot is of model {given.manifest.model}, not of {manifest.name}")
    target = root / given.id
    if not target.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        staged = root / f".copy-{given.id}"
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(path, staged)
        staged.rename(target)
    return Snapshot.open(target, digest=given.digest)
