"""Labelling batches: named sets of cases that are labelled together, here or in an external tool.

A batch is a list of case ids; what becomes of the cases is theirs, so its progress is counted, never kept. Cases are
added and never taken out; one that retention let go counts as gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState
from export.contracts.errors import Conflict, InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.store import Store

DECIDED = (CaseState.LABELLED.value, CaseState.DISMISSED.value)
MOST_CASES = 50_000
_CHUNK = 500


class BatchState(StrEnum):
    """Where a batch stands. `DONE` is never stored: it is an open batch without a waiting case."""

    OPEN = "open"  # its cases are to be labelled
    DONE = "done"  # nothing waits in it
    CLOSED = "closed"  # nobody shall work on it


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRow:
    """A batch with its progress.

    Attributes:
        cases: That were put into it; = `waiting` + `decided` + `gone`.
        waiting: Cases without a decision. `decided`: with one. `gone`: that are no longer kept.
    """

    id: str
    name: str
    model: str
    slice_id: str
    state: BatchState
    note: str
    created_ns: int
    created_by: str
    changed_ns: int
    cases: int
    waiting: int
    decided: int
    gone: int


def make_batch(
    store: Store,
    *,
    actor: str,
    name: str,
    cases: Sequence[str],
    now_ns: int,
    slice_id: str = "",
    note: str = "",
    key: str | None = None,
) -> BatchRow:
    """Make a batch. The same key of the same actor again gives the batch that it made.

    Args:
        store: The monitor's database.
        actor: Who does it.
        name: For people; need not be unique.
        cases: Ids in the order in which they shall be looked at; unknown ones are left out.
        now_ns: Wall clock.
        slice_id: The slice that it shall fix, or "".
        note: For those who label.
        key: Idempotency key.

    Raises:
        InvalidRequest: none of the cases is known, or there are too many.
    """
    with store.write() as connection:
        row = insert_batch(connection, actor, name, cases, now_ns, slice_id=slice_id, note=note, key=key)
    return batch(store, row)


def insert_batch(
    connection: sa.Connection,
    actor: str,
    name: str,
    cases: Sequence[str],
    now_ns: int,
    *,
    slice_id: str = "",
    note: str = "",
    key: str | None = None,
) -> str:
    """As `make_batch`, within a transaction; returns the id."""
    b = t.batches.c
    whole = None if key is None else f"{actor}\0{key}"[:100]
    if whole is not None:
        before = connection.scalar(sa.select(b.id).where(b.key == whole))
        if before is not None:
            return str(before)
    chosen = _known(connection, cases)
    if not chosen:
        raise InvalidRequest("none of these cases is known: a batch needs at least one")
    models = set(chosen.values())
    identity = secrets.token_hex(6)
    values: dict[str, object] = {
        "id": identity,
        "name": name,
        "model": models.pop() if len(models) == 1 else "",
        "slice_id": slice_id,
    }
    values |= {"state": BatchState.OPEN.value, "note": note, "created_ns": now_ns, "created_by": actor}
    connection.execute(t.batches.insert().values(**values, changed_ns=now_ns, cases=len(chosen), key=whole))
    rows = [{"batch_id": identity, "case_id": case, "position": i} for i, case in enumerate(chosen)]
    connection.execute(t.batch_cases.insert(), rows)
    return identity


def add_cases(store: Store, identity: str, cases: Sequence[str], now_ns: int) -> BatchRow:
    """Put more cases into an open batch; those that are in it already stay where they are.

    Raises:
        NotFound: there is no such batch.
        Conflict: it is closed.
    """
    with store.write() as connection:
        _need_open(connection, identity)
        bc = t.batch_cases.c
        have = set(connection.scalars(sa.select(bc.case_id).where(bc.batch_id == identity)))
        fresh = [case for case in _known(connection, cases) if case not in have]
        rows = [{"batch_id": identity, "case_id": case, "position": len(have) + i} for i, case in enumerate(fresh)]
        if rows:
            connection.execute(t.batch_cases.insert(), rows)
            values = {"cases": len(have) + len(rows), "changed_ns": now_ns}
            connection.execute(t.batches.update().where(t.batches.c.id == identity).values(**values))
    return batch(store, identity)


def close_batch(store: Store, identity: str, now_ns: int, state: BatchState = BatchState.CLOSED) -> BatchRow:
    """Close a batch, or open it again with `BatchState.OPEN`. To do it twice is to do it once."""
    with store.write() as connection:
        values = {"state": state.value, "changed_ns": now_ns}
        if connection.execute(t.batches.update().where(t.batches.c.id == identity).values(**values)).rowcount == 0:
            raise NotFound("there is no batch with this id")
    return batch(store, identity)


def batch(store: Store, identity: str) -> BatchRow:
    """One batch.

    Raises:
        NotFound: there is none.
    """
    with store.read() as connection:
        found = _rows(connection, sa.select(t.batches).where(t.batches.c.id == identity))
    if not found:
        raise NotFound("there is no batch with this id")
    return found[0]


def batches(
    store: Store,
    model: str | None = None,
    state: BatchState | None = None,
    slice_id: str | None = None,
    limit: int = 100,
) -> list[BatchRow]:
    """Batches, newest first."""
    b = t.batches.c
    query = sa.select(t.batches).order_by(b.created_ns.desc(), b.id.desc()).limit(limit)
    for column, value in ((b.model, model), (b.slice_id, slice_id)):
        query = query if value is None else query.where(column == value)
    if state is not None:
        query = query.where((b.state == BatchState.CLOSED.value) == (state is BatchState.CLOSED))
    with store.read() as connection:
        rows = _rows(connection, query)
    return [row for row in rows if state is None or row.state is state]


def cases_of_batch(
    store: Store, identity: str, *, waiting: bool | None = None, after: int = -1, limit: int = 500
) -> list[tuple[int, str]]:
    """(position, case id) of a batch's kept cases in order, from behind position `after`.

    Args:
        store: The monitor's database.
        identity: The batch.
        waiting: Only cases without a decision, or only those with one.
        after: The last position that was read.
        limit: At most so many.
    """
    bc, c = t.batch_cases.c, t.cases.c
    query = sa.select(bc.position, bc.case_id).join(t.cases, c.id == bc.case_id)
    query = query.where(bc.batch_id == identity, bc.position > after)
    if waiting is not None:
        query = query.where(c.state.notin_(DECIDED) if waiting else c.state.in_(DECIDED))
    with store.read() as connection:
        rows = connection.execute(query.order_by(bc.position).limit(limit))
        return [(row.position, row.case_id) for row in rows]


def in_batch(identity: str) -> sa.ColumnElement[bool]:
    """The condition on `cases` that a case is in this batch: for listings, leases and bulk decisions."""
    bc = t.batch_cases.c
    return t.cases.c.id.in_(sa.select(bc.case_id).where(bc.batch_id == identity))


def _need_open(connection: sa.Connection, identity: str) -> None:
    state = connection.scalar(sa.select(t.batches.c.state).where(t.batches.c.id == identity))
    if state is None:
        raise NotFound("there is no batch with this id")
    if state == BatchState.CLOSED.value:
        raise Conflict("the batch is closed; open it again before cases are added")


def _known(connection: sa.Connection, cases: Sequence[str]) -> dict[str, str]:
    """Those of the ids that are cases, in the order given, with their models."""
    ids = list(dict.fromkeys(cases))
    if len(ids) > MOST_CASES:
        raise InvalidRequest(f"a batch holds at most {MOST_CASES:,} cases; these are {len(ids):,}")
    c = t.cases.c
    found: dict[str, str] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        found |= {row.id: row.model for row in connection.execute(sa.select(c.id, c.model).where(c.id.in_(chunk)))}
    return {identity: found[identity] for identity in ids if identity in found}


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[BatchRow]:
    rows = [dict(row) for row in connection.execute(query).mappings()]
    counts: dict[str, tuple[int, int]] = {}
    bc, c = t.batch_cases.c, t.cases.c
    decided = sa.func.sum(sa.case((c.state.in_(DECIDED), 1), else_=0))
    counting = sa.select(bc.batch_id, sa.func.count(), decided).join(t.cases, c.id == bc.case_id)
    counting = counting.where(bc.batch_id.in_([row["id"] for row in rows])).group_by(bc.batch_id)
    for identity, kept, done in connection.execute(counting):
        counts[identity] = (int(kept), int(done or 0))
    made = []
    for row in rows:
        row.pop("key")
        kept, done = counts.get(row["id"], (0, 0))
        state = BatchState(row.pop("state"))
        if state is BatchState.OPEN and kept == done:
            state = BatchState.DONE
        gone = row["cases"] - kept
        made.append(BatchRow(**row, state=state, waiting=kept - done, decided=done, gone=gone))
    return made
