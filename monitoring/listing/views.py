"""Views of the case list that people keep under a name: for themselves, or for everybody."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

import sqlalchemy as sa

from export.contracts.errors import Forbidden, InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.people.contracts import Principal, Role
from monitoring.store import Store

MOST = 100  # views of one owner
FLEETING = ("cursor", "limit", "format", "view")  # parts of an address that belong to no view


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedView:
    """A view. `query` is the list's address after the question mark; `own`: of who asks."""

    id: int
    owner: str
    name: str
    query: str
    shared: bool
    own: bool


def views_for(store: Store, who: str) -> tuple[SavedView, ...]:
    """Somebody's own views and everybody's, by name."""
    v = t.saved_views.c
    query = sa.select(t.saved_views).where(sa.or_(v.owner == who, v.shared)).order_by(v.name, v.id)
    with store.read() as connection:
        return tuple(_view(row, who) for row in connection.execute(query))


def save_view(store: Store, who: Principal, name: str, query: str, shared: bool) -> SavedView:
    """Keep a view; one of the same name and owner is replaced.

    Raises:
        InvalidRequest: too many views.
        Forbidden: a viewer's view cannot be everybody's.
    """
    if shared and not who.role.covers(Role.REVIEWER):
        raise Forbidden(f"a shared view needs the role '{Role.REVIEWER}'; {who.name} is '{who.role}'")
    v = t.saved_views.c
    mine = sa.and_(v.owner == who.name, v.name == name)
    values = {"query": plain_query(query), "shared": shared}
    with store.write() as connection:
        if connection.execute(t.saved_views.update().where(mine).values(**values)).rowcount == 0:
            held = sa.select(sa.func.count()).select_from(t.saved_views).where(v.owner == who.name)
            if int(connection.scalar(held) or 0) >= MOST:
                raise InvalidRequest(f"at most {MOST} views a person: delete one first")
            made = {"owner": who.name, "name": name, "created_ns": time.time_ns()}
            connection.execute(t.saved_views.insert().values(**made, **values))
        return _view(connection.execute(sa.select(t.saved_views).where(mine)).one(), who.name)


def delete_view(store: Store, who: Principal, identity: int) -> SavedView:
    """Delete a view of one's own; an administrator may delete everybody's.

    Raises:
        NotFound: there is none that the caller sees.
        Forbidden: it is somebody else's.
    """
    v = t.saved_views.c
    with store.write() as connection:
        row = connection.execute(sa.select(t.saved_views).where(v.id == identity)).one_or_none()
        if row is None or (row.owner != who.name and not row.shared):
            raise NotFound("there is no view with this id")
        if row.owner != who.name and not who.role.covers(Role.ADMIN):
            raise Forbidden("this view is somebody else's")
        connection.execute(t.saved_views.delete().where(v.id == identity))
        return _view(row, who.name)


def plain_query(query: str) -> str:
    """What of an address belongs to a view, in one form.

    Example:
        >>> plain_query("?q=is%3Aopen&cursor=abc&order=time")
        'q=is%3Aopen&order=time'
    """
    pairs = parse_qsl(query.removeprefix("?"), max_num_fields=40)
    return urlencode([(name, value) for name, value in pairs if name not in FLEETING])


def _view(row: sa.Row[tuple[object, ...]], who: str) -> SavedView:
    names = ("id", "owner", "name", "query", "shared")
    return SavedView(**{n: getattr(row, n) for n in names}, own=row.owner == who)
