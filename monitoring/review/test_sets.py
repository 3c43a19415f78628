"""Protected test sets: failures with their truth that shall never come back. Named, immutable, kept by retention.

A fix leaves one behind, and every later candidate is tried on it. Only an erasure takes a record out of one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import Conflict, InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.store import Store

_CHUNK = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class SetRow:
    """A test set. Columns as in `monitoring.schema_slices.test_sets`; `kept` are its cases that are still there."""

    id: str
    name: str
    model: str
    slice_id: str
    words: str
    created_ns: int
    created_by: str
    digest: str
    items: int
    kept: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SetItem:
    """One failure: the record, and its truth as JSON text."""

    position: int
    case_id: str
    record_id: str
    time_ns: int
    version: str
    predicted: str | None
    content_hash: int | None
    label: str
    author: str


def insert_test_set(
    connection: sa.Connection,
    *,
    actor: str,
    name: str,
    cases: Sequence[str],
    now_ns: int,
    slice_id: str = "",
    words: str = "",
    key: str | None = None,
) -> str:
    """Make a test set of those cases whose truth is known, within a transaction; returns its id.

    The same input with the same truth is in it once. The same key of the same actor again gives the set that it made.

    Raises:
        InvalidRequest: no case has a truth, or they are of several models.
        Conflict: there is a set of that name.
    """
    s = t.test_sets.c
    whole = None if key is None else f"{actor}\0{key}"[:100]
    if whole is not None:
        before = connection.scalar(sa.select(s.id).where(s.key == whole))
        if before is not None:
            return str(before)
    if connection.scalar(sa.select(s.id).where(s.name == name)) is not None:
        raise Conflict("there is a test set of that name, and test sets are never changed: choose another name")
    rows = _labelled(connection, cases)
    if not rows:
        raise InvalidRequest("none of these cases has a known truth: label some of them first")
    models = {row["model"] for row in rows}
    if len(models) > 1:
        raise InvalidRequest("a test set is of one model")
    items = [_item(row, position) for position, row in enumerate(rows)]
    lines = [json.dumps([i["record_id"], i["time_ns"], i["content_hash"], i["label"]]) for i in items]
    digest = "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()
    identity = secrets.token_hex(6)
    about = {"id": identity, "name": name, "model": models.pop(), "slice_id": slice_id, "words": words}
    made = {"created_ns": now_ns, "created_by": actor, "digest": digest, "items": len(items), "key": whole}
    connection.execute(t.test_sets.insert().values(**about, **made))
    connection.execute(t.test_set_items.insert(), [{"test_set_id": identity, **item} for item in items])
    return identity


def all_sets(
    store: Store, model: str | None = None, slice_id: str | None = None, identity: str | None = None
) -> list[SetRow]:
    """Test sets, newest first."""
    s, i, c = t.test_sets.c, t.test_set_items.c, t.cases.c
    kept = sa.select(sa.func.count()).select_from(t.test_set_items.join(t.cases, c.id == i.case_id))
    query = sa.select(*(column for column in s if column.name != "key"))
    query = query.add_columns(kept.where(i.test_set_id == s.id).correlate(t.test_sets).scalar_subquery().label("kept"))
    for column, value in ((s.model, model), (s.slice_id, slice_id), (s.id, identity)):
        query = query if value is None else query.where(column == value)
    with store.read() as connection:
        found = connection.execute(query.order_by(s.created_ns.desc(), s.id)).mappings().all()
    return [SetRow(**row) for row in found]


def items_of(store: Store, identity: str, after: int = -1, limit: int = 1000) -> list[SetItem]:
    """Its items in order, from behind position `after`.

    Raises:
        NotFound: there is no such set.
    """
    i = t.test_set_items.c
    query = sa.select(*(i[field.name] for field in dataclasses.fields(SetItem))).where(
        i.test_set_id == identity, i.position > after
    )
    with store.read() as connection:
        if connection.scalar(sa.select(t.test_sets.c.id).where(t.test_sets.c.id == identity)) is None:
            raise NotFound("there is no test set with this id")
        rows = connection.execute(query.order_by(i.position).limit(limit)).mappings().all()
    return [SetItem(**row) for row in rows]


def protected() -> sa.Select[Any]:
    """Ids of cases that retention leaves: those of test sets."""
    return sa.select(t.test_set_items.c.case_id)


def _labelled(connection: sa.Connection, cases: Sequence[str]) -> list[dict[str, Any]]:
    c = t.cases.c
    facts = (c.id, c.id_hash, c.model, c.version, c.record_id, c.time_ns, c.content_hash, c.label)
    columns = (*facts, c.predicted_label, c.predicted, c.decided_by)
    ids, found = list(dict.fromkeys(cases)), {}
    for start in range(0, len(ids), _CHUNK):
        query = sa.select(*columns).where(c.id.in_(ids[start : start + _CHUNK]), c.label.is_not(None))
        found.update({row["id"]: dict(row) for row in connection.execute(query).mappings()})
    rows, seen = [], set()
    for identity in ids:
        row = found.get(identity)
        same = None if row is None or row["content_hash"] is None else (row["content_hash"], row["label"])
        if row is None or same in seen:
            continue
        if same is not None:
            seen.add(same)
        rows.append(row)
    return rows


def _item(row: dict[str, Any], position: int) -> dict[str, Any]:
    predicted = row["predicted_label"] if row["predicted_label"] is not None else row["predicted"]
    return {
        "position": position,
        "case_id": row["id"],
        "id_hash": row["id_hash"],
        "record_id": row["record_id"],
        "time_ns": row["time_ns"],
        "version": row["version"],
        "predicted": None if predicted is None else str(predicted),
        "content_hash": row["content_hash"],
        "label": row["label"],
        "author": row["decided_by"] or "feedback",
    }
