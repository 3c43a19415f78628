"""Questions about slices and groups of cases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.case_groups import GroupCount, group_counts
from monitoring.slices.issues import WatchState
from monitoring.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicePointRow:
    """One span of a slice's trend."""

    end_s: int
    rows: int
    failure_rate: float
    low: float
    high: float
    overall_rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceRow:
    """A slice. Columns as in `monitoring.schema_findings.slices`.

    `current`: it was found in the model's newest search. `waiting`: cases of it without a decision.
    """

    id: str
    model: str
    version: str
    kind: str
    conditions: list[list[str]]
    words: str
    state: str
    first_s: int
    last_s: int
    rows: int
    failure_rate: float
    low: float
    high: float
    overall_rate: float
    labelled: int
    labelled_wrong: int
    p_value: float
    explains: list[str]
    edition: int
    owner: str
    fixed_in: str
    wake_excess: float | None
    merged_into: str
    split_from: str
    waiting: int
    watch_limit: float | None
    watch_firing: bool
    current: bool
    points: tuple[SlicePointRow, ...]


def slices(
    store: Store,
    model: str | None = None,
    current: bool | None = None,
    limit: int = 200,
    identity: str | None = None,
    states: Iterable[str] | None = None,
    owner: str | None = None,
) -> list[SliceRow]:
    """Slices, those of the newest search first, the worst of them first: excess failures times size."""
    s = t.slices.c
    query = sa.select(*(column for column in t.slices.c if column.name != "centre"))
    for column, value in ((s.model, model), (s.id, identity), (s.owner, owner)):
        query = query if value is None else query.where(column == value)
    if states is not None:
        query = query.where(s.state.in_(list(states)))
    with store.read() as connection:
        newest: dict[str, int] = {
            row[0]: row[1] for row in connection.execute(sa.select(s.model, sa.func.max(s.last_s)).group_by(s.model))
        }
        rows = [
            dict(row) | {"current": row["last_s"] == newest[row["model"]]}
            for row in connection.execute(query).mappings()
        ]
        rows = [row for row in rows if current is None or row["current"] is current]
        rows.sort(key=lambda r: (not r["current"], -(r["failure_rate"] - r["overall_rate"]) * r["rows"], r["id"]))
        rows = rows[:limit]
        ids = [row["id"] for row in rows]
        points, members, watches = _points(connection, ids), _members(connection, ids), _watches(connection, ids)
    waiting = store.index.waiting(members)
    quiet = {"watch_limit": None, "watch_firing": False}
    return [
        SliceRow(
            **row,
            **watches.get(row["id"], quiet),
            waiting=waiting.get(row["id"], 0),
            points=tuple(points.get(row["id"], ())),
        )
        for row in rows
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceCounts:
    """Slices by (model, state), and those whose alert fires by model."""

    states: dict[tuple[str, str], int]
    firing: dict[str, int]


def slice_counts(store: Store) -> SliceCounts:
    """How many slices are in which state."""
    s, w = t.slices.c, t.slice_watches.c
    firing = sa.select(s.model, sa.func.count()).join(t.slice_watches, w.slice_id == s.id)
    firing = firing.where(w.state == WatchState.FIRING.value).group_by(s.model)
    with store.read() as connection:
        rows = connection.execute(sa.select(s.model, s.state, sa.func.count()).group_by(s.model, s.state)).all()
        return SliceCounts(
            states={(row[0], row[1]): int(row[2]) for row in rows},
            firing={row[0]: int(row[1]) for row in connection.execute(firing)},
        )


def cases_of_slice(store: Store, identity: str, limit: int) -> list[str]:
    """Ids of the cases among the records of a slice and its parts, the most telling first; one a group."""
    m, c = t.slice_members.c, t.cases.c
    query = (
        sa.select(c.id)
        .join(t.slice_members, sa.and_(m.id_hash == c.id_hash, m.time_ns == c.time_ns))
        .where(m.slice_id.in_(with_parts(identity)), sa.or_(c.group_id.is_(None), c.group_id == c.id))
        .group_by(c.id)
        .order_by(sa.func.min(m.position), c.id)
        .limit(limit)
    )
    with store.read() as connection:
        return list(connection.scalars(query))


def with_parts(identity: str) -> sa.Select[Any]:
    """Ids of a slice and of those that were merged into it."""
    s = t.slices.c
    return sa.select(s.id).where(sa.or_(s.id == identity, s.merged_into == identity))


def slices_of_case(store: Store, identity: str) -> list[tuple[str, str]]:
    """(id, words) of the slices that a case's record is in."""
    m, s, c = t.slice_members.c, t.slices.c, t.cases.c
    query = sa.select(s.id, s.words).join(t.slice_members, m.slice_id == s.id)
    query = query.join(t.cases, sa.and_(m.id_hash == c.id_hash, m.time_ns == c.time_ns))
    with store.read() as connection:
        rows = connection.execute(query.where(c.id == identity).order_by(s.id))
        return [(row.id, row.words) for row in rows]


def counts_of_groups(store: Store, ids: Iterable[str]) -> dict[str, GroupCount]:
    """How many each of these leading cases stands for."""
    with store.read() as connection:
        return group_counts(connection, ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberRow:
    """A record that a case stands for. `case_id` is None where it became no case of its own."""

    record_id: str
    time_ns: int
    likeness: float
    case_id: str | None


def members_of_group(store: Store, identity: str, limit: int) -> list[MemberRow]:
    """The records that a case stands for: cases of its group, then other flagged records with the same input."""
    c, r, v = t.cases.c, t.records.c, t.versions.c
    with store.read() as connection:
        leader = connection.scalar(sa.select(sa.func.coalesce(c.group_id, c.id)).where(c.id == identity))
        own = connection.execute(
            sa.select(c.id, c.record_id, c.time_ns, c.likeness, c.content_hash, c.id_hash, c.model, c.version)
            .where(sa.or_(c.group_id == leader, c.id == identity))
            .order_by(c.likeness.desc(), c.time_ns, c.id)
            .limit(limit)
        ).all()
        hashes = sorted({row.content_hash for row in own if row.content_hash is not None})
        same: list[Any] = []
        if hashes and len(own) < limit:
            query = sa.select(r.record_id, r.time_ns, r.id_hash).join(t.versions, r.version_id == v.id)
            query = query.where(r.content_hash.in_(hashes), v.model == own[0].model, v.version == own[0].version)
            same = list(connection.execute(query.order_by(r.time_ns, r.id_hash).limit(limit)).all())
    taken = {(row.id_hash, row.time_ns) for row in own}
    made = [
        MemberRow(record_id=row.record_id, time_ns=row.time_ns, likeness=row.likeness or 1.0, case_id=row.id)
        for row in own
    ]
    made += [
        MemberRow(record_id=row.record_id, time_ns=row.time_ns, likeness=1.0, case_id=None)
        for row in same
        if (row.id_hash, row.time_ns) not in taken
    ]
    return made[:limit]


def leader_of(store: Store, identity: str) -> str:
    """The case that stands for this one in lists: itself, while that is not worked out."""
    with store.read() as connection:
        return connection.scalar(sa.select(t.cases.c.group_id).where(t.cases.c.id == identity)) or identity


def vector_of_case(store: Store, identity: str) -> bytes | None:
    """A case's vector; None when it has none."""
    with store.read() as connection:
        return connection.scalar(sa.select(t.cases.c.vector).where(t.cases.c.id == identity))


def record_at(store: Store, seq: int) -> dict[str, Any] | None:
    """Where a record stands in the log, by its number in the index."""
    r, v = t.records.c, t.versions.c
    names = (r.record_id, r.time_ns, r.worst_row, r.source, r.segment, r.offset, r.sequence, v.model, v.version)
    query = sa.select(*names).join(t.versions, r.version_id == v.id).where(r.seq == seq)
    with store.read() as connection:
        row = connection.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


def _members(connection: sa.Connection, ids: list[str]) -> dict[str, tuple[list[int], list[int]]]:
    """`id_hash` and `time_ns` of the records of slices and their parts."""
    m, s = t.slice_members.c, t.slices.c
    whole = sa.case((s.merged_into != "", s.merged_into), else_=s.id)
    query = sa.select(whole, m.id_hash, m.time_ns).join(t.slices, m.slice_id == s.id).where(whole.in_(ids))
    found: dict[str, tuple[list[int], list[int]]] = {}
    for identity, id_hash, time_ns in connection.execute(query):
        hashes, times = found.setdefault(identity, ([], []))
        hashes.append(id_hash)
        times.append(time_ns)
    return found


def _watches(connection: sa.Connection, ids: list[str]) -> dict[str, dict[str, Any]]:
    w = t.slice_watches.c
    query = sa.select(w.slice_id, w.limit, w.state).where(w.slice_id.in_(ids))
    return {
        row.slice_id: {"watch_limit": row.limit, "watch_firing": row.state == WatchState.FIRING.value}
        for row in connection.execute(query)
    }


def _points(connection: sa.Connection, ids: list[str]) -> dict[str, list[SlicePointRow]]:
    p = t.slice_points.c
    made: dict[str, list[SlicePointRow]] = {}
    for row in connection.execute(sa.select(t.slice_points).where(p.slice_id.in_(ids)).order_by(p.end_s)).mappings():
        values = dict(row)
        made.setdefault(values.pop("slice_id"), []).append(SlicePointRow(**values))
    return made
