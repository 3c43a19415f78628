"""Rows of `sessions`: signed-in browsers. The cookie's value is random; only its digest is kept."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.people.contracts import SHARED, Principal, Role
from monitoring.people.tokens import digest_of, new_token

MOST = 50  # of one user; the oldest end
SEEN_S = 60  # how exactly the last use is kept
_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One signed-in browser. `user` is "token" where a token of the settings opened it."""

    id: int
    user: str
    begun_ns: int
    seen_ns: int
    ends_ns: int
    agent: str
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How long a session lasts: unused, and at all."""

    idle_s: float
    most_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Browser:
    """Who signs in with what."""

    agent: str
    address: str


def begin_session(
    connection: sa.Connection,
    browser: Browser,
    limits: Limits,
    now_ns: int,
    *,
    user_id: int | None = None,
    token_sha256: str | None = None,
) -> str:
    """A new session; returns the cookie's value. Sessions that have ended are forgotten on the way."""
    s = t.sessions.c
    connection.execute(t.sessions.delete().where(s.ends_ns <= now_ns))
    mine = s.user_id == user_id if user_id is not None else s.user_id.is_(None)
    old = list(connection.scalars(sa.select(s.id).where(mine).order_by(s.id.desc()).offset(MOST - 1)))
    if old:
        connection.execute(t.sessions.delete().where(s.id.in_(old)))
    value = new_token()
    connection.execute(
        t.sessions.insert().values(
            digest=digest_of(value),
            user_id=user_id,
            token_sha256=token_sha256,
            begun_ns=now_ns,
            seen_ns=now_ns,
            ends_ns=now_ns + int(limits.most_s * _NS),
            agent=browser.agent[:200],
            address=browser.address[:64],
        )
    )
    return value


def session_of(
    connection: sa.Connection, digest: str, tokens: tuple[str, ...], limits: Limits, now_ns: int
) -> tuple[Principal, int] | None:
    """Whose living session a cookie's digest is, and when it was seen last."""
    s, u = t.sessions.c, t.users.c
    query = (
        sa.select(s.id, s.user_id, s.token_sha256, s.seen_ns, u.name, u.role, u.disabled)
        .select_from(t.sessions.outerjoin(t.users, u.id == s.user_id))
        .where(s.digest == digest, s.ends_ns > now_ns, s.seen_ns > now_ns - int(limits.idle_s * _NS))
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    if row.user_id is None:
        if row.token_sha256 not in tokens:
            return None
        return Principal(name=SHARED.name, role=SHARED.role, session=row.id), row.seen_ns
    if row.name is None or row.disabled:
        return None
    return Principal(name=row.name, role=Role(row.role), user=row.user_id, session=row.id), row.seen_ns


def touch_session(connection: sa.Connection, session_id: int, now_ns: int) -> None:
    """It was used."""
    connection.execute(t.sessions.update().where(t.sessions.c.id == session_id).values(seen_ns=now_ns))


def list_sessions(connection: sa.Connection, limits: Limits, now_ns: int, user: str | None = None) -> list[Session]:
    """Living sessions, newest first: of everybody, or of one ("token": of the settings' tokens)."""
    s, u = t.sessions.c, t.users.c
    name = sa.func.coalesce(u.name, SHARED.name)
    query = (
        sa.select(s.id, name.label("user"), s.begun_ns, s.seen_ns, s.ends_ns, s.agent, s.address)
        .select_from(t.sessions.outerjoin(t.users, u.id == s.user_id))
        .where(s.ends_ns > now_ns, s.seen_ns > now_ns - int(limits.idle_s * _NS))
        .order_by(s.id.desc())
        .limit(500)
    )
    if user is not None:
        query = query.where(name == user)
    return [Session(**row) for row in connection.execute(query).mappings()]


def end_session(connection: sa.Connection, session_id: int) -> bool:
    """End one; whether there was one."""
    return connection.execute(t.sessions.delete().where(t.sessions.c.id == session_id)).rowcount > 0
