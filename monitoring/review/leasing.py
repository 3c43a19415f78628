"""Which cases a reviewer gets next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState
from monitoring import schema as t
from monitoring.review.lines import CaseLine, read_lines
from monitoring.review.machine import WAITING
from monitoring.slice_queries import with_parts


def next_cases(
    connection: sa.Connection,
    actor: str,
    now_ns: int,
    count: int,
    *,
    model: str | None = None,
    version: str | None = None,
    slice_id: str | None = None,
    tag: str | None = None,
    batch: str | None = None,
    skip: Sequence[str] = (),
) -> list[str]:
    """Ids of the cases that wait for this person, in the order of priority, then of the queue.

    Left out are cases that somebody else has, that are assigned to somebody else, and that wait for a second opinion
    where the person has given the first; and those of `skip`.
    """
    c = t.cases.c
    where: list[sa.ColumnElement[bool]] = [c.id.not_in(list(skip))] if skip else []
    where += [sa.or_(c.lease_until_ns <= now_ns, c.lease_by.in_(["", actor])), c.assignee.in_(["", actor])]
    if version is not None:
        where.append(c.version == version)
    if slice_id is not None:
        m = t.slice_members.c
        inside = sa.and_(m.slice_id.in_(with_parts(slice_id)), m.id_hash == c.id_hash, m.time_ns == c.time_ns)
        where.append(sa.exists().where(inside))
    if tag is not None:
        g = t.case_tags.c
        where.append(sa.exists().where(g.case_id == c.id, g.tag == tag))
    if batch is not None:
        b = t.batch_cases.c
        where.append(sa.exists().where(b.case_id == c.id, b.batch_id == batch))
    models = [model] if model is not None else list(connection.scalars(sa.select(t.versions.c.model).distinct()))
    found: list[tuple[Any, ...]] = []
    for name in models:
        for state in WAITING:
            own = [*where, c.model == name, c.state == state.value]
            if state is CaseState.SECOND_OPINION:
                own.append(~_gave_opinion(actor))
            for known in (c.queue.is_not(None), c.queue.is_(None)):  # in the order of the index, on both databases
                query = sa.select(c.id, c.priority, c.queue).where(*own, known)
                rows = connection.execute(query.order_by(c.priority.desc(), c.queue.desc(), c.id.desc()).limit(count))
                found += [(row.priority, -1.0 if row.queue is None else row.queue, row.id) for row in rows]
    return [row[-1] for row in sorted(found, reverse=True)[:count]]


def take(
    connection: sa.Connection, actor: str, ids: list[str], until_ns: int, now_ns: int
) -> tuple[list[CaseLine], int]:
    """Lease those of the cases that nobody has taken meanwhile; returns them, and how many are new to the actor.

    Two reviewers who ask at once get different cases: who comes second finds the lease of the first.
    """
    c = t.cases.c
    free = sa.or_(c.lease_until_ns <= now_ns, c.lease_by.in_(["", actor]))
    before = read_lines(connection, ids, lock=True)
    update = t.cases.update().where(c.id.in_(ids), free).values(lease_by=actor, lease_until_ns=until_ns)
    if ids:
        connection.execute(update)
    after = read_lines(connection, ids)
    mine = [after[x] for x in ids if x in after and after[x].standing.lease_by == actor]
    fresh = sum(
        before[x.id].standing.lease_by != actor or before[x.id].standing.lease_until_ns <= now_ns
        for x in mine
        if x.id in before
    )
    return mine, fresh


def waiting_cases(connection: sa.Connection, model: str | None = None) -> int:
    """How many cases wait for anybody."""
    c = t.cases.c
    where = [c.state.in_([state.value for state in WAITING]), *([] if model is None else [c.model == model])]
    return int(connection.scalar(sa.select(sa.func.count()).select_from(t.cases).where(*where)) or 0)


def _gave_opinion(actor: str) -> sa.ColumnElement[bool]:
    d, a = t.decisions.c, t.acts.c
    return sa.exists().where(
        d.case_id == t.cases.c.id, d.verdict.is_not(None), d.withdrawn.is_(False), a.id == d.act_id, a.actor == actor
    )
