"""What is kept of a record that became a case: scores, facts, tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from export.contracts.arrays import encode_bytes
from export.contracts.datatypes import Datatype
from monitoring.baseline import Baseline
from monitoring.batches import Batch
from monitoring.keys import printable
from monitoring.scores import Scored
from monitoring.tasks.tensors import number


class InputState(StrEnum):
    """What became of a case's tensors."""

    KEPT = "kept"  # in case_tensors
    THUMBNAIL = "thumbnail"  # a small picture in case_tensors, as the privacy settings say
    TOO_LARGE = "too_large"  # at least one is over the limit: its shape is kept
    NOT_RECORDED = "not_recorded"  # refused before the model, or captured without payload
    GONE = "gone"  # feedback made this a case after the log had let the record go
    EXPIRED = "expired"  # dropped by retention


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A record with everything that its case is made of: number `record` of `batch`."""

    batch: Batch
    scored: Scored
    baseline: Baseline
    record: int


def opinions(x: Loaded) -> dict[str, Any]:
    """What model and scores say of the record's worst row."""
    scored = x.scored
    if not len(x.batch.row_record):
        unknown = ("p_wrong", "confidence", "predicted", "predicted_label", "probabilities", "answer")
        return dict.fromkeys(unknown) | {"scores": {}, "row": 0}
    row = int(scored.worst[x.record])
    shown = x.baseline.task.show(scored.answered, row)
    return {
        "p_wrong": number(scored.p_wrong[row]),
        "confidence": number(scored.confidence[row]),
        "predicted": shown.predicted,
        "predicted_label": shown.predicted_label,
        "scores": _score_values(x.baseline, scored, row),
        "probabilities": shown.probabilities,
        "answer": shown.answer,
        "row": row - x.batch.rows_of(x.record).start,
    }


def tensors_of(identity: str, batch: Batch, record: int, limit: int) -> tuple[list[dict[str, Any]], InputState]:
    """Rows of `case_tensors` for a record; a tensor of more than `limit` bytes keeps its shape only."""
    made: list[dict[str, Any]] = []
    state = InputState.KEPT if batch.inputs else InputState.NOT_RECORDED
    rows = batch.rows_of(record)
    for direction, arrays in (("in", batch.inputs), ("out", batch.outputs)):
        for position, (name, array) in enumerate(arrays.items()):
            part = array[rows]
            datatype = batch.datatypes[f"{direction}.{name}"]
            data = encode_bytes(part) if datatype is Datatype.BYTES else np.ascontiguousarray(part).tobytes()
            if len(data) > limit:
                data = b""
                state = InputState.TOO_LARGE if direction == "in" else state
            made.append(
                {
                    "case_id": identity,
                    "direction": direction,
                    "name": name,
                    "position": position,
                    "datatype": datatype.value,
                    "shape": list(part.shape),
                    "data": data,
                }
            )
    return made, state


def _score_values(baseline: Baseline, scored: Scored, row: int) -> dict[str, float | None]:
    watched = enumerate(baseline.quantities[baseline.input_columns :], baseline.input_columns)
    return {q.name: number(scored.values[row, i]) for i, q in watched}


def plain_text(value: bytes | str | None, limit: int = 16_384) -> str | None:
    """Text that the database takes, cut to `limit` characters."""
    if value is None:
        return None
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return printable(text)[:limit]


_to_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode  # `json.dumps` makes an encoder a call


def to_json(value: object) -> str:
    """A label as it stands in the database."""
    return _to_json(value)
