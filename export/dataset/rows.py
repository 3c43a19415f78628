"""Rows of a snapshot: one by one, as they are written, and as arrays, as they are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.dataset import Source, Split

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRow:
    """One labelled example.

    Attributes:
        row_id: Unique in its snapshot, and the same in every snapshot that carries the row on.
        inputs: Tensors by name, without the batch dimension.
        label: As `export.dataset.labels.normalise` makes it: a class name, names, numbers, boxes.
        group: Rows of one group are all in one split.
        weight: In training, 1 where nothing speaks for another.
        author: Who said what the label is; "" where nobody knows.
        time_ns: Of the record; 0 where it has none.
        case_id: Of the record behind it; "" of base rows.
        version: That answered.
        predicted: What it answered, as the label; None where it is not known.
        content: Hash of the inputs (`export.dataset.content.content_hash`), 16 hex digits; "" until written.
        slices: Ids of the slices that it was in.
    """

    row_id: str
    inputs: Mapping[str, Array]
    label: Any
    split: Split = Split.TRAIN
    source: Source = Source.BASE
    group: str = ""
    weight: float = 1.0
    author: str = ""
    time_ns: int = 0
    case_id: str = ""
    record_id: str = ""
    version: str = ""
    predicted: Any = None
    content: str = ""
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of a split as arrays, in the order of the file.

    Attributes:
        inputs: By name, (rows, ...); an object array of tensors where their shapes differ.
        labels: Class indices (rows,) int64; (rows, classes) bool of a multi-label task; (rows,) or (rows, values)
            float64 of a regression; else a list of what the labels hold.
        row_ids: Of each row.
        weights: (rows,) float64.
        groups: Of each row.
        sources: Of each row.
    """

    inputs: dict[str, Array]
    labels: Any
    row_ids: Sequence[str]
    weights: npt.NDArray[np.float64]
    groups: Sequence[str] = field(default=())
    sources: Sequence[str] = field(default=())

    def __len__(self) -> int:
        return len(self.row_ids)
