"""What a verdict makes true: a row of `feedback`, which the loop settles like any other.

The row follows from the standing alone: its `uid` names case, verdict, label, person and time. So a verdict that is
taken back withdraws its row, and one that is put back finds the same row again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
import xxhash
from sqlalchemy.dialects import sqlite

from export.contracts.cases import CaseState
from monitoring import schema as t
from monitoring.case_rows import to_json
from monitoring.review.contracts import Standing, Verdict
from monitoring.review.lines import CHUNK, CaseLine, Change, chunks
from monitoring.tasks.protocol import WRONG

AUTHOR = "review:"
_MARK = sa.text(
    "INSERT INTO settle_due (id_hash) SELECT * FROM unnest(CAST(:due AS BIGINT[])) "
    "ON CONFLICT (id_hash) DO UPDATE SET id_hash = excluded.id_hash"
)


def label_of(case: CaseLine, verdict: Verdict, label: Any) -> str:
    """What is right, as JSON text: of "correct" what the model answered; "" where it is not known."""
    if verdict is Verdict.LABEL:
        return to_json(label)
    if verdict is not Verdict.CORRECT:
        return ""
    said = case.predicted_label if case.predicted is not None and case.predicted_label is not None else case.predicted
    if said is None and case.answer is not None:
        said = case.answer.get("value") if isinstance(case.answer, dict) else case.answer
    return "" if said is None else to_json(said)


def truth_of(case: CaseLine, standing: Standing) -> dict[str, Any] | None:
    """The row of `feedback` that a standing stands for; None where nothing is settled, or nothing follows from it."""
    if standing.state is not CaseState.LABELLED or not standing.decided_by:
        return None
    if standing.verdict == Verdict.WRONG:
        text = to_json(WRONG)
    elif standing.label:
        text = _for_record(case, json.loads(standing.label))
    else:
        return None
    named = [case.id, standing.verdict, standing.label, standing.decided_by, standing.decided_ns]
    uid = xxhash.xxh64_intdigest(to_json(named).encode("utf-8", "surrogatepass"))
    return {
        "uid": uid - (1 << 64) if uid >= 1 << 63 else uid,
        "id_hash": case.id_hash,
        "model": case.model,
        "record_id": case.record_id,
        "time_ns": standing.decided_ns,
        "about_ns": case.time_ns,
        "label": text,
        "labels": None,
        "score": None,
        "comment": None,
        "author": AUTHOR + standing.decided_by,
        "joined": False,
        "withdrawn": False,
    }


def write_truths(connection: sa.Connection, changes: Iterable[Change]) -> None:
    """Withdraw and add rows of `feedback` as standings changed, and have the loop settle their records."""
    gone: list[int] = []
    wanted: dict[int, dict[str, Any]] = {}
    touched: set[int] = set()
    for change in changes:
        before, after = truth_of(change.case, change.case.standing), truth_of(change.case, change.after)
        if before is not None and (after is None or before["uid"] != after["uid"]):
            gone.append(before["uid"])
        if after is not None:
            wanted[after["uid"]] = after
        if before != after or change.case.standing.state is not change.after.state:
            touched.add(change.case.id_hash)  # a state that follows labels again must meet them
    f = t.feedback.c
    for chunk in chunks([str(uid) for uid in gone]):
        connection.execute(t.feedback.update().where(f.uid.in_([int(x) for x in chunk])).values(withdrawn=True))
    known: set[int] = set()
    uids = sorted(wanted)
    for i in range(0, len(uids), CHUNK):
        known.update(connection.scalars(sa.select(f.uid).where(f.uid.in_(uids[i : i + CHUNK]))))
    back = sorted(known)
    for i in range(0, len(back), CHUNK):
        connection.execute(t.feedback.update().where(f.uid.in_(back[i : i + CHUNK])).values(withdrawn=False))
    fresh = [row for uid, row in wanted.items() if uid not in known]
    if fresh:
        connection.execute(t.feedback.insert(), fresh)
    mark_settle(connection, sorted(touched))


def mark_settle(connection: sa.Connection, id_hashes: Sequence[int]) -> None:
    """Have the loop settle these records.

    A row that is there is written again, so that on PostgreSQL a loop that is just about to take it away fails and
    looks again, instead of missing what came meanwhile.
    """
    if not id_hashes:
        return
    if connection.dialect.name == "sqlite":
        rows = [{"id_hash": x} for x in id_hashes]
        connection.execute(sqlite.insert(t.settle_due).on_conflict_do_nothing(), rows)
    else:
        connection.execute(_MARK, {"due": list(id_hashes)})


def _for_record(case: CaseLine, value: Any) -> str:
    """The label of a case's row as feedback about its record: of the other rows nothing is said."""
    if isinstance(value, dict) and "rows" in value:
        return to_json(value)
    if case.rows == 1 and not isinstance(value, list | dict):
        return to_json(value)
    return to_json({"rows": [value if row == case.row else None for row in range(case.rows)]})
