"""Selections: cases that somebody gathered on the map or in a comparison, under a short name for addresses."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from export.contracts.errors import InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.review.contracts import BULK_LIMIT
from monitoring.store import Store

KEPT = 500  # selections; the oldest go
_CHUNK = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """A selection. `cases` is how many it had when it was made, `left` how many of them are still kept."""

    id: str
    model: str
    title: str
    actor: str
    time_ns: int
    cases: int
    left: int


def save_selection(store: Store, model: str, cases: Sequence[str], title: str, actor: str, time_ns: int) -> Selection:
    """Keep a selection. Ids that are no cases of the model are left out.

    Raises:
        InvalidRequest: none of them is a case of the model, or there are too many.
    """
    wanted = list(dict.fromkeys(cases))
    if len(wanted) > BULK_LIMIT:
        raise InvalidRequest(f"cases: at most {BULK_LIMIT}")
    c, s = t.cases.c, t.selections.c
    identity = secrets.token_hex(6)
    with store.write() as connection:
        found: list[str] = []
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            found += connection.scalars(sa.select(c.id).where(c.id.in_(chunk), c.model == model))
        if not found:
            raise InvalidRequest("cases: none of these is a case of this model")
        values = {"id": identity, "model": model, "title": title, "actor": actor, "time_ns": time_ns}
        connection.execute(t.selections.insert().values(**values, cases=len(found)))
        connection.execute(t.selection_cases.insert(), [{"selection_id": identity, "case_id": i} for i in found])
        old = connection.scalars(sa.select(s.id).order_by(s.time_ns.desc(), s.id).offset(KEPT)).all()
        for name in old:
            connection.execute(t.selection_cases.delete().where(t.selection_cases.c.selection_id == name))
            connection.execute(t.selections.delete().where(s.id == name))
    return selection(store, identity)


def selection(store: Store, identity: str) -> Selection:
    """One selection.

    Raises:
        NotFound: there is none.
    """
    found = [one for one in selections(store, identity=identity) if one.id == identity]
    if not found:
        raise NotFound("there is no selection with this id")
    return found[0]


def selections(
    store: Store, model: str | None = None, limit: int = 50, identity: str | None = None
) -> tuple[Selection, ...]:
    """Selections, newest first."""
    s, m = t.selections.c, t.selection_cases.c
    left = sa.select(sa.func.count()).where(m.selection_id == s.id).scalar_subquery()
    query = sa.select(t.selections, left.label("left")).order_by(s.time_ns.desc(), s.id).limit(limit)
    for column, value in ((s.model, model), (s.id, identity)):
        query = query if value is None else query.where(column == value)
    with store.read() as connection:
        return tuple(Selection(**row) for row in connection.execute(query).mappings())


def cases_of_selection(store: Store, identity: str, limit: int = BULK_LIMIT) -> list[str]:
    """Ids of the cases of a selection that are still kept, most probably wrong first."""
    c, m = t.cases.c, t.selection_cases.c
    query = sa.select(c.id).join(t.selection_cases, m.case_id == c.id).where(m.selection_id == identity)
    with store.read() as connection:
        return list(connection.scalars(query.order_by(c.rank.desc(), c.id).limit(limit)))
