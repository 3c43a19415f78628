"""Labelled sets as the gate reads them: snapshot folders (`export.dataset`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from export.contracts.dataset import Split
from export.dataset import Snapshot

Array: TypeAlias = npt.NDArray[Any]
COLUMNS = ("row_id", "label", "slices", "source", "group", "record_id", "content")


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledSet:
    """Inputs with their truth, a list entry or row each.

    Attributes:
        inputs: By name, (rows, ...), as clients send them.
        records: Ids of the records behind them; "" where there is none.
        truths: Decoded labels.
        slices: Ids of the slices that each was in.
        marks: By which a row is recognised in another snapshot: its id, record and content.
    """

    digest: str
    ids: Sequence[str]
    records: Sequence[str]
    inputs: dict[str, Array]
    truths: Sequence[Any]
    slices: Sequence[Sequence[str]]
    sources: Sequence[str]
    marks: Sequence[frozenset[str]]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> LabelledSet:
        return LabelledSet(
            digest=self.digest,
            ids=self.ids[part],
            records=self.records[part],
            inputs={name: array[part] for name, array in self.inputs.items()},
            truths=self.truths[part],
            slices=self.slices[part],
            sources=self.sources[part],
            marks=self.marks[part],
        )


def open_set(folder: Path) -> LabelledSet:
    """Read a set: the test rows of a snapshot that has any, else all of its rows.

    Raises:
        SnapshotError: it is no snapshot, or damaged.
    """
    snapshot = Snapshot.open(folder)
    split = Split.TEST if snapshot.manifest.splits.get(Split.TEST.value) else None
    table = snapshot.table(split, list(COLUMNS))
    column = {name: table[name].to_pylist() for name in COLUMNS}
    return LabelledSet(
        digest=snapshot.digest,
        ids=column["row_id"],
        records=[name or "" for name in column["record_id"]],
        inputs=snapshot.arrays(split).inputs,
        truths=[json.loads(text) for text in column["label"]],
        slices=[tuple(x or ()) for x in column["slices"]],
        sources=column["source"],
        marks=[_marks(*row) for row in zip(column["row_id"], column["record_id"], column["content"], strict=True)],
    )


def trained_on(folders: Iterable[Path]) -> frozenset[str]:
    """The marks of every row that versions were trained on: all of a snapshot but its test rows.

    Raises:
        SnapshotError: a folder holds no snapshot.
    """
    found: set[str] = set()
    for folder in folders:
        table = Snapshot.open(folder).table(None, ["row_id", "record_id", "content", "split"])
        columns = (table[name].to_pylist() for name in ("row_id", "record_id", "content", "split"))
        for row_id, record_id, content, split in zip(*columns, strict=True):
            if split != Split.TEST.value:
                found |= _marks(row_id, record_id, content)
    return frozenset(found)


def _marks(row_id: str, record_id: str | None, content: str | None) -> frozenset[str]:
    kinds = (("row", row_id), ("record", record_id), ("content", content))
    return frozenset(f"{kind} {value}" for kind, value in kinds if value)
