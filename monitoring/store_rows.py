"""From rows of tables to what the store answers."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any, TypeVar

from monitoring.flags import to_reasons
from monitoring.keys import case_id
from monitoring.review.machine import shown_state, standing_of
from monitoring.rows import CaseRow, RecordRow, WindowRow

T = TypeVar("T")
FIXED_POINT = 1 << 20


def to_window(row: Mapping[str, Any]) -> WindowRow:
    """A window from a row of the table."""
    mean = row["p_wrong_sum"] / FIXED_POINT / row["rows"] if row["rows"] and row["p_wrong_sum"] else None
    return pick(WindowRow, {**row, "p_wrong_mean": mean})


def to_case(row: Mapping[str, Any]) -> CaseRow:
    """A case from a row of the table."""
    probabilities = row["probabilities"]
    now_ns = time.time_ns()
    standing = standing_of({**row, "label": row["decided_label"]})
    made = {
        "reasons": tuple(reason.value for reason in to_reasons(row["flags"])),
        "label": from_json(row["label"]),
        "probabilities": None if probabilities is None else tuple(probabilities),
        "state": shown_state(standing, now_ns).value,
        "standing": standing,
    }
    return pick(CaseRow, {**row, **made})


def to_record(row: Mapping[str, Any]) -> RecordRow:
    """A record from a row of the table, with what is joined to it."""
    made = {
        "reasons": tuple(reason.value for reason in to_reasons(row["flags"])),
        "label": from_json(row["label"]),
        "case_id": case_id(row["model"], row["record_id"], row["time_ns"], row["variant"]),
        "has_case": row["known_case"] is not None,
    }
    return pick(RecordRow, {**row, **made})


def from_json(text: str | None) -> Any:
    """What a text says; None where there is none."""
    return None if text is None else json.loads(text)


def pick(kind: type[T], row: Mapping[str, Any]) -> T:
    """Make a `kind` of the columns that it names."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # every caller passes a record
    return kind(**{name: row[name] for name in names})
