"""What was asked to be erased, and what became of it. A finished erasure keeps digests of the ids, never the ids."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from monitoring import schema as t

MAX_IDS = 10_000


class ErasureState(StrEnum):
    """How far an erasure is."""

    PENDING = "pending"  # the database is clean; some file is not yet, `reason` says which
    DONE = "done"  # no copy is left


@dataclass(frozen=True, kw_only=True, slots=True)
class Erasure:
    """One request. `counts` says how many copies of each kind went."""

    id: str
    requested_ns: int
    finished_ns: int | None
    state: ErasureState
    author: str
    model: str | None
    records: int
    counts: Mapping[str, int]
    reason: str | None


def digest_of(record_id: str) -> str:
    """What is kept of an id, so that "was this erased?" can be answered."""
    return hashlib.sha256(record_id.encode("utf-8", "surrogateescape")).hexdigest()


def request_erasure(
    connection: sa.Connection, ids: Sequence[str], *, model: str | None, author: str, now_ns: int
) -> Erasure:
    """Note what is to be erased; the monitor's duty does it."""
    unique = list(dict.fromkeys(ids))
    identity = secrets.token_hex(8)
    row = {
        "id": identity,
        "requested_ns": now_ns,
        "finished_ns": None,
        "state": ErasureState.PENDING.value,
        "author": author,
        "model": model,
        "records": len(unique),
        "counts": {},
        "reason": "not begun",
    }
    connection.execute(t.erasures.insert().values(**row))
    items = [
        {"erasure_id": identity, "position": i, "record_id": r, "digest": digest_of(r)} for i, r in enumerate(unique)
    ]
    connection.execute(t.erasure_items.insert(), items)
    return _erasure(row)


def find_erasure(connection: sa.Connection, identity: str) -> Erasure | None:
    """One erasure."""
    row = connection.execute(sa.select(t.erasures).where(t.erasures.c.id == identity)).mappings().first()
    return None if row is None else _erasure(dict(row))


def list_erasures(connection: sa.Connection, *, pending: bool = False, limit: int = 100) -> list[Erasure]:
    """Erasures, newest first; the pending ones oldest first."""
    e = t.erasures.c
    query = sa.select(t.erasures).limit(limit)
    if pending:
        query = query.where(e.state == ErasureState.PENDING.value).order_by(e.requested_ns, e.id)
    else:
        query = query.order_by(e.requested_ns.desc(), e.id)
    return [_erasure(dict(row)) for row in connection.execute(query).mappings()]


def ids_of(connection: sa.Connection, erasure: Erasure) -> list[str]:
    """The ids of a pending erasure."""
    i = t.erasure_items.c
    found = connection.scalars(sa.select(i.record_id).where(i.erasure_id == erasure.id).order_by(i.position))
    return [record_id for record_id in found if record_id is not None]


def note_progress(connection: sa.Connection, erasure: Erasure, counts: Mapping[str, int], reason: str | None) -> None:
    """Add to the counts; say what is still in the way."""
    total = {kind: erasure.counts.get(kind, 0) + n for kind, n in counts.items()}
    values = {"counts": {**erasure.counts, **total}, "reason": reason}
    connection.execute(t.erasures.update().where(t.erasures.c.id == erasure.id).values(**values))


def finish(connection: sa.Connection, erasure: Erasure, now_ns: int) -> None:
    """No copy is left: the ids themselves go, too."""
    values = {"state": ErasureState.DONE.value, "finished_ns": now_ns, "reason": None}
    connection.execute(t.erasures.update().where(t.erasures.c.id == erasure.id).values(**values))
    i = t.erasure_items
    connection.execute(i.update().where(i.c.erasure_id == erasure.id).values(record_id=None))


def _erasure(row: dict[str, object]) -> Erasure:
    return Erasure(**{**row, "state": ErasureState(str(row["state"]))})  # type: ignore[arg-type]  # columns are fields
