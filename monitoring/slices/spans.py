"""Rows of the record index as a `Span`: attributes by name, failures, vectors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.baseline import Baseline
from monitoring.particulars import measure_of
from monitoring.slices.columns import LEVELS
from monitoring.slices.found import Span
from monitoring.vectors import stack, to_units

MIN_VECTORS = 100
MAX_TAGS = 20  # attributes that clients may bring; the most frequent count
MAX_VALUES = 50  # values of one of them: an attribute with more is a name, not a group
_BLOCK_H = 4

Row = Mapping[str, Any]


def span_of(rows: Sequence[Row], told: Callable[[Row], bool], baseline_of: Callable[[str], Baseline]) -> Span:
    """The span of some rows of `records` with their `version`.

    Args:
        rows: In a fixed order.
        told: Whether a row's label was known by then.
        baseline_of: Of a version.
    """
    versions = np.array([row["version"] for row in rows], dtype=str)
    labelled = np.array([row["correct_rows"] is not None and told(row) for row in rows], dtype=bool)
    expected = np.array([row["p_wrong"] if row["p_wrong"] is not None else np.nan for row in rows], dtype=np.float64)
    wrong = np.array([(row["correct_rows"] or 0) < row["rows"] for row in rows], dtype=np.float64)
    failure = np.where(labelled, wrong, np.clip(expected, 0.0, 1.0))
    hours = np.array([row["time_ns"] // 3_600_000_000_000 % 24 // _BLOCK_H * _BLOCK_H for row in rows], dtype=np.int64)
    attributes: dict[str, npt.NDArray[np.str_]] = {
        "version": versions,
        "answered as": np.array([row["variant"] for row in rows], dtype=str),
        "time of day": np.array([f"{h:02d}-{h + _BLOCK_H:02d} UTC" for h in range(24)], dtype=str)[hours],
        "predicted": np.array([""] * len(rows), dtype="<U64"),
    }
    vectors: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = {}
    for version in np.unique(versions).tolist():
        places = np.flatnonzero(versions == version)
        baseline = baseline_of(version)
        _classes(attributes["predicted"], places, [rows[i]["predicted"] for i in places.tolist()], baseline)
        _levels(attributes, places, [rows[i]["bins"] for i in places.tolist()], baseline, len(rows))
        kept = stack([rows[i]["vector"] for i in places.tolist()])
        real = kept.any(axis=1) if kept.shape[1] else np.zeros(len(places), dtype=bool)
        if int(real.sum()) >= MIN_VECTORS:
            vectors[version] = (places[real], to_units(kept[real]))
    attributes |= _tags([row["tags"] for row in rows])
    return Span(attributes=attributes, failure=failure, labelled=labelled, versions=versions, vectors=vectors)


def _classes(
    column: npt.NDArray[np.str_], places: npt.NDArray[np.int64], predicted: list[int | None], baseline: Baseline
) -> None:
    names = baseline.class_names
    column[places] = ["" if p is None else names[p] if p < len(names) else str(p) for p in predicted]


def _levels(
    attributes: dict[str, npt.NDArray[np.str_]],
    places: npt.NDArray[np.int64],
    bins: list[bytes | None],
    baseline: Baseline,
    n: int,
) -> None:
    names = measure_of(baseline).columns.names
    levels = stack(bins).view(np.uint8)
    if levels.shape[1] != len(names):
        return
    words = np.array(LEVELS, dtype=str)
    for i, name in enumerate(names):
        column = attributes.setdefault(name, np.full(n, "", dtype=words.dtype))
        column[places] = words[np.minimum(levels[:, i], len(LEVELS) - 1)]


def _tags(texts: list[str | None]) -> dict[str, npt.NDArray[np.str_]]:
    known: dict[str | None, dict[str, str]] = {None: {}}
    for text in set(texts) - {None}:
        known[text] = json.loads(text) if text is not None and text.endswith("}") else {}
    counts: dict[str, int] = {}
    for text in texts:
        for name in known[text]:
            counts[name] = counts.get(name, 0) + 1
    made = {}
    for name in sorted(counts, key=lambda key: (-counts[key], key))[:MAX_TAGS]:
        column = np.array([known[text].get(name, "") for text in texts], dtype=str)
        if len(np.unique(column)) <= MAX_VALUES:
            made[f"tag {name}"] = column
    return made
