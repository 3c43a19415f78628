"""Cases as JSON Lines or CSV, written while they are read: a file of a million cases needs no memory for them.

Cells of a CSV file that a spreadsheet would take for a formula start with an apostrophe (OWASP, "CSV injection").
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.flags import to_reasons
from monitoring.listing.columns import label_text
from monitoring.listing.order import Format
from monitoring.store import Store

BLOCK = 1000
INPUT_BLOCK = 50  # cases at a time where their inputs go with them
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


_C = t.cases.c
_SAME = (_C.id, _C.record_id, _C.model, _C.version, _C.variant, _C.time_ns, _C.state, _C.flags, _C.p_wrong,
         _C.confidence, _C.predicted, _C.predicted_label, _C.label, _C.correct, _C.outcome, _C.error,
         _C.row, _C.tags, _C.comment, _C.trace_id, _C.assignee, _C.priority, _C.verdict, _C.decided_by,
         _C.decided_ns)  # fmt: skip
NAMES = ("id", "record_id", "model", "version", "variant", "time", "state", "reasons", "p_wrong", "confidence",
         "predicted", "predicted_label", "label", "correct", "outcome", "error", "row", "tags",
         "client_tags", "comment", "trace_id", "assignee", "priority", "verdict", "decided_by",
         "decided_at")  # fmt: skip
"""Columns of the CSV file, and fields of a JSON line: `tags` are those of reviewers."""


def export_cases(store: Store, ids: Sequence[str], kind: Format, *, inputs: bool = False) -> Iterator[bytes]:
    """The file in pieces, in the order of `ids`. With `inputs`, kept input tensors as base64 of their raw bytes."""
    if kind is Format.CSV:
        yield _csv([(*NAMES, *(("inputs",) if inputs else ()))])
    size = INPUT_BLOCK if inputs else BLOCK
    for start in range(0, len(ids), size):
        lines = _lines(store, ids[start : start + size], inputs)
        if kind is Format.CSV:
            yield _csv([[cell(value) for value in line.values()] for line in lines])
        else:
            yield "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def cell(value: Any) -> str:
    """A value as a CSV cell: no text starts a formula.

    Example:
        >>> cell("=1+1"), cell(-2), cell(None), cell(["a", "b"])
        ("'=1+1", '-2', '', 'a b')
    """
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(FORMULA) else text


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue().encode()


def _lines(store: Store, ids: Sequence[str], inputs: bool) -> list[dict[str, Any]]:
    g = t.case_tags.c
    tags: dict[str, list[str]] = {}
    tensors: dict[str, list[dict[str, Any]]] = {}
    with store.read() as connection:
        found: dict[str, Any] = {row[0]: row for row in connection.execute(sa.select(*_SAME).where(_C.id.in_(ids)))}
        for identity, tag in connection.execute(sa.select(g.case_id, g.tag).where(g.case_id.in_(ids)).order_by(g.tag)):
            tags.setdefault(identity, []).append(tag)
        if inputs:
            x = t.case_tensors.c
            query = sa.select(x.case_id, x.name, x.datatype, x.shape, x.data)
            query = query.where(x.case_id.in_(ids), x.direction == "in").order_by(x.case_id, x.position)
            for identity, name, datatype, shape, data in connection.execute(query):
                one = {"name": name, "datatype": datatype, "shape": shape, "data": base64.b64encode(data).decode()}
                tensors.setdefault(identity, []).append(one)
    made = []
    for identity in ids:
        if (row := found.get(identity)) is not None:
            line = _line(row, tags.get(identity, []))
            made.append(line | ({"inputs": tensors.get(identity, [])} if inputs else {}))
    return made


def _line(row: Any, tags: list[str]) -> dict[str, Any]:
    values: Mapping[str, Any] = row._mapping  # named access, which SQLAlchemy calls by this public name
    made = {
        "time": _time(row.time_ns),
        "reasons": [reason.value for reason in to_reasons(row.flags)],
        "label": label_text(row.label, row.row) if row.label is not None else None,
        "tags": tags,
        "client_tags": row.tags,
        "decided_at": _time(row.decided_ns) if row.decided_ns else None,
    }
    return {name: made[name] if name in made else values[name] for name in NAMES}


def _time(time_ns: int) -> str:
    moment = datetime.fromtimestamp(time_ns // 10**9, UTC).replace(microsecond=time_ns // 1000 % 10**6)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
