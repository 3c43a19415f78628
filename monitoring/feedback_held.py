"""Which of the things that were said about a record counts, and why: for whoever reads a case.

`monitoring.truth` settles the same question for records and windows; this puts its rule into words. The newest label
holds, by the time that it speaks of and not by when it came, whoever said it: application, tool or reviewer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from monitoring.rows import FeedbackRow

NANOSECONDS = 10**9
_LENGTHS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


class Held(StrEnum):
    """What became of a piece of feedback."""

    COUNTS = "counts"  # it is the record's label
    AGREES = "agrees"  # it says what the one that counts says
    OVERTAKEN = "overtaken"  # a newer label says something else
    COMPLAINT = "complaint"  # no label, but a score of zero or below: the record is a failure
    REMARK = "remark"  # a comment, or a score above zero


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What became of it, and why, as a sentence."""

    held: Held
    because: str


def standings(rows: Sequence[FeedbackRow], time_ns: int, names: Sequence[str] = ()) -> list[Standing]:
    """One for each row, in their order.

    Args:
        rows: What was said about one record and not withdrawn, oldest first, as `Store.feedback` gives it.
        time_ns: Of the record.
        names: Of the model's classes; a label may be a class's index or its name.
    """
    labelled = [row for row in rows if row.label is not None or row.labels]
    holds = labelled[-1] if labelled else None
    return [_standing(row, holds, time_ns, names) for row in rows]


def _standing(row: FeedbackRow, holds: FeedbackRow | None, time_ns: int, names: Sequence[str]) -> Standing:
    if row.label is None and not row.labels:
        if row.score is not None and row.score <= 0:
            return Standing(held=Held.COMPLAINT, because="a score of zero or below makes the record a failure")
        return Standing(held=Held.REMARK, because="it says nothing about the right answer")
    assert holds is not None
    if row is holds:
        late = row.time_ns - time_ns
        when = f", said {_length(late)} after the request" if late >= NANOSECONDS else ""
        return Standing(held=Held.COUNTS, because=f"the newest label counts{when}")
    if _meaning(row, names) == _meaning(holds, names):
        return Standing(held=Held.AGREES, because="it says the same as the one that counts")
    why = "a newer label counts"
    if row.time_ns == holds.time_ns:
        why = "of two labels of the same moment the one with the higher number counts"
    elif row.id > holds.id:
        why = f"it came last, but speaks of a time {_length(holds.time_ns - row.time_ns)} before the one that counts"
    return Standing(held=Held.OVERTAKEN, because=why)


def _meaning(row: FeedbackRow, names: Sequence[str]) -> str:
    given: Any = row.label if row.label is not None else list(row.labels or ())
    if isinstance(given, dict) and isinstance(given.get("rows"), list) and len(given["rows"]) == 1:
        given = given["rows"][0]  # one value a row, and one row
    if isinstance(given, str) and given.isdecimal() and len(given) < 10:
        given = int(given)
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(names):
        given = names[given]
    return json.dumps(given, sort_keys=True)


def _length(span_ns: int) -> str:
    """A length of time with one unit."""
    seconds = max(span_ns // NANOSECONDS, 0)
    unit, size = next(((u, s) for u, s in _LENGTHS if seconds >= s), ("s", 1))
    return f"{seconds // size} {unit}" if seconds else "less than 1 s"
