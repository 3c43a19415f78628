"""The stored form of a reference profile: scalars in `reference.json`, arrays in `reference.npz`, no pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.contracts import codec
from export.contracts.accuracy import ESTIMATES, AccuracyReference
from export.contracts.answers.reference import AnswerReference
from export.contracts.arrays import load_npz, save_npz
from export.contracts.codec import ONLY_WHEN_SET
from export.contracts.reference import (
    REFERENCE_ARRAYS,
    REFERENCE_FILE,
    REFERENCE_SCHEMA_VERSION,
    Array,
    ClassReference,
    EmbeddingReference,
    ReferenceProfile,
)
from export.contracts.scores import FailureModel
from export.contracts.signature import OutputRole
from export.contracts.task import TaskKind


def save(profile: ReferenceProfile, folder: Path) -> tuple[str, ...]:
    """Write a profile into `folder` and return the names of its files."""
    head, arrays = _to_stored(profile)
    save_npz(folder / REFERENCE_ARRAYS, arrays)
    (folder / REFERENCE_FILE).write_bytes(codec.dumps(head))
    return REFERENCE_FILE, REFERENCE_ARRAYS


def load(folder: Path) -> ReferenceProfile:
    """Read a profile.

    Raises:
        ValueError: not a profile, of an unknown schema version, or files that do not belong together.
        FileNotFoundError: there is none in `folder`.
    """
    head = codec.loads(_Head, (folder / REFERENCE_FILE).read_bytes())
    if head.schema_version != REFERENCE_SCHEMA_VERSION:
        raise ValueError(f"reference profile has schema version {head.schema_version}, expected 1")
    try:
        return _from_stored(head, load_npz(folder / REFERENCE_ARRAYS))
    except KeyError as error:
        raise ValueError(f"reference profile lacks the array {error}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class _ClassHead:
    output: str
    role: OutputRole
    class_names: tuple[str, ...]
    temperature: float
    accuracy: float
    nll: float
    nll_before: float
    failure_model: FailureModel | None
    pnorm: int | None = None
    score_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _EmbeddingHead:
    output: str
    bandwidth: float
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _AccuracyHead:
    scores: tuple[str, ...]
    atc: tuple[float, ...]
    atc_score: str
    kinds: tuple[str, ...]
    reach: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _AnswerHead:
    kind: TaskKind
    rows: int
    accuracy: float | None
    temperature: float
    shift: float
    failure_model: FailureModel | None
    tolerance_given: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    """The JSON half of a stored profile."""

    rows: int
    columns: tuple[str, ...]
    scores: tuple[str, ...]
    classes: _ClassHead | None
    embedding: _EmbeddingHead | None
    value_error: float | None
    schema_version: int
    accuracy: _AccuracyHead | None = field(default=None, metadata=codec.ONLY_WHEN_SET)
    answers: _AnswerHead | None = field(default=None, metadata=ONLY_WHEN_SET)


_ANSWER_ARRAYS = ("unit", "scale", "ratios", "label_counts", "predicted_counts")
_CLASS_ARRAYS = ("label_counts", "predicted_counts", "confusion", "score_rows", "score_wrong")
_EMBEDDING_ARRAYS = (
    "factor",
    "centres",
    "background_factor",
    "background_centre",
    "sample",
    "frequencies",
    "feature_mean",
    "mmd_scaled",
    "class_features",
    "basis",
    "bank",
    "bank_classes",
)
_OPTIONAL = (
    "confusion",
    "factor",
    "centres",
    "class_features",
    "score_rows",
    "score_wrong",
    "basis",
    "bank",
    "bank_classes",
    *_ANSWER_ARRAYS,
)
_ACCURACY_ARRAYS = ("prior", "features", "accuracy", "errors")


def _to_stored(p: ReferenceProfile) -> tuple[_Head, dict[str, Array]]:
    arrays: dict[str, Array] = {
        "column_quantiles": p.column_quantiles,
        "column_mean": p.column_mean,
        "column_std": p.column_std,
        "frame": p.frame,
        "sketch_bytes": np.frombuffer(b"".join(p.sketches), dtype=np.uint8),
        "sketch_lengths": np.array([len(s) for s in p.sketches], dtype=np.int64),
    }
    arrays |= {f"score/{name}": grid for name, grid in p.score_quantiles.items()}
    if p.value_quantiles is not None:
        arrays["value_quantiles"] = p.value_quantiles
    if p.frame_predicted is not None:
        arrays["frame_predicted"] = p.frame_predicted
    c, e, y, a = p.classes, p.embedding, p.accuracy, p.answers
    for prefix, part, names in (
        ("class", c, _CLASS_ARRAYS),
        ("embedding", e, _EMBEDDING_ARRAYS),
        ("accuracy", y, _ACCURACY_ARRAYS),
        ("answer", a, _ANSWER_ARRAYS),
    ):
        for name in names:
            array = getattr(part, name, None)
            if array is not None:
                arrays[f"{prefix}/{name}"] = array
    head = _Head(
        rows=p.rows,
        columns=p.columns,
        scores=tuple(p.score_quantiles),
        classes=None if c is None else _ClassHead(**{n: getattr(c, n) for n in _ClassHead.__slots__}),
        embedding=None if e is None else _EmbeddingHead(output=e.output, bandwidth=e.bandwidth, rows=e.rows),
        value_error=p.value_error,
        answers=None if a is None else _AnswerHead(**{n: getattr(a, n) for n in _AnswerHead.__slots__}),
        schema_version=p.schema_version,
        accuracy=None if y is None else _AccuracyHead(**{n: getattr(y, n) for n in _AccuracyHead.__slots__}),
    )
    return head, arrays


def _from_stored(head: _Head, arrays: dict[str, Array]) -> ReferenceProfile:
    blob, ends = arrays["sketch_bytes"].tobytes(), np.cumsum(arrays["sketch_lengths"])
    starts = ends - arrays["sketch_lengths"]
    if len(ends) != len(head.columns) or arrays["frame"].shape[1] != len(head.columns):
        raise ValueError("reference profile's arrays do not fit its columns")

    def part(prefix: str, names: tuple[str, ...], stored: object) -> dict[str, Any]:
        scalars = {n: getattr(stored, n) for n in stored.__slots__}  # type: ignore[attr-defined]  # slotted dataclass
        optional = {n: arrays.get(f"{prefix}/{n}") for n in names if n in _OPTIONAL}
        return scalars | optional | {n: arrays[f"{prefix}/{n}"] for n in names if n not in _OPTIONAL}

    return ReferenceProfile(
        rows=head.rows,
        columns=head.columns,
        sketches=tuple(blob[a:b] for a, b in zip(starts, ends, strict=True)),
        column_quantiles=arrays["column_quantiles"],
        column_mean=arrays["column_mean"],
        column_std=arrays["column_std"],
        frame=arrays["frame"],
        score_quantiles={name: arrays[f"score/{name}"] for name in head.scores},
        classes=None if head.classes is None else ClassReference(**part("class", _CLASS_ARRAYS, head.classes)),
        embedding=None
        if head.embedding is None
        else EmbeddingReference(**part("embedding", _EMBEDDING_ARRAYS, head.embedding)),
        value_quantiles=arrays.get("value_quantiles"),
        value_error=head.value_error,
        answers=None if head.answers is None else AnswerReference(**part("answer", _ANSWER_ARRAYS, head.answers)),
        frame_predicted=arrays.get("frame_predicted"),
        accuracy=None if head.accuracy is None else _accuracy(part("accuracy", _ACCURACY_ARRAYS, head.accuracy)),
        schema_version=head.schema_version,
    )


def _accuracy(parts: dict[str, Any]) -> AccuracyReference:
    made = AccuracyReference(**parts)
    windows, columns = len(made.kinds), len(ESTIMATES)
    if made.errors.shape != (windows, columns) or len(made.features) != windows:
        raise ValueError("reference profile's rehearsed windows do not fit together")
    return made
