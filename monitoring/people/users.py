"""Rows of `users`: named people, their roles, and the links with which they set a password."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from export.contracts.errors import Conflict, InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.people.contracts import NAME, RESERVED, Role
from monitoring.people.tokens import digest_of, new_token

INVITE_S = 7 * 86_400
_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Somebody, without anything that opens a door.

    Attributes:
        has_password: Whether they can sign in.
        invited_until_ns: Until when their link holds; 0 without one.
    """

    id: int
    name: str
    role: Role
    disabled: bool
    has_password: bool
    created_ns: int
    created_by: str
    password_ns: int
    signed_in_ns: int
    invited_until_ns: int


def clean_name(name: str) -> str:
    """The name as it is kept.

    Raises:
        InvalidRequest: it cannot be one.
    """
    low = name.strip().lower()
    if not NAME.fullmatch(low) or low in RESERVED:
        raise InvalidRequest("name: 1 to 60 of a-z 0-9 . _ @ - are possible, and a letter or digit first")
    return low


def any_user(connection: sa.Connection) -> bool:
    """Whether there is anybody, able to sign in or not."""
    return connection.execute(sa.select(t.users.c.id).limit(1)).first() is not None


def list_users(connection: sa.Connection) -> tuple[User, ...]:
    """Everybody, by name."""
    return tuple(_user(row) for row in connection.execute(sa.select(t.users).order_by(t.users.c.name)))


def find_user(connection: sa.Connection, name: str) -> User:
    """One user.

    Raises:
        NotFound: there is none of that name.
    """
    row = connection.execute(sa.select(t.users).where(t.users.c.name == name.strip().lower())).first()
    if row is None:
        raise NotFound("there is no user of this name")
    return _user(row)


def kept_password(connection: sa.Connection, name: str) -> tuple[int | None, str]:
    """(id, hash) of who may sign in under a name; (None, "") where nobody may."""
    u = t.users.c
    query = sa.select(u.id, u.password_hash).where(u.name == name.strip().lower(), sa.not_(u.disabled))
    row = connection.execute(query).first()
    return (None, "") if row is None else (int(row.id), str(row.password_hash))


def add_user(connection: sa.Connection, name: str, role: Role, by: str, now_ns: int, password_hash: str = "") -> User:
    """Add somebody.

    Raises:
        InvalidRequest: the name cannot be one.
        Conflict: it is taken.
    """
    clean = clean_name(name)
    u = t.users.c
    if connection.execute(sa.select(u.id).where(u.name == clean)).first() is not None:
        raise Conflict("there is a user of this name already")
    connection.execute(
        t.users.insert().values(
            name=clean,
            role=role.value,
            password_hash=password_hash,
            disabled=False,
            created_ns=now_ns,
            created_by=by,
            password_ns=now_ns if password_hash else 0,
            signed_in_ns=0,
            invite_digest=None,
            invite_until_ns=0,
        )
    )
    return find_user(connection, clean)


def set_role(connection: sa.Connection, user: User, role: Role) -> None:
    """Give a role.

    Raises:
        Conflict: nobody would be left who may manage people.
    """
    if user.role is Role.ADMIN and role is not Role.ADMIN:
        _one_admin_stays(connection, user)
    connection.execute(t.users.update().where(t.users.c.id == user.id).values(role=role.value))


def set_disabled(connection: sa.Connection, user: User, disabled: bool) -> None:
    """Keep somebody out, or let them in again. Their sessions end, and so does their link.

    Raises:
        Conflict: nobody would be left who may manage people.
    """
    if disabled:
        if user.role is Role.ADMIN:
            _one_admin_stays(connection, user)
        connection.execute(t.sessions.delete().where(t.sessions.c.user_id == user.id))
    values = {"disabled": disabled, "invite_digest": None, "invite_until_ns": 0}
    connection.execute(t.users.update().where(t.users.c.id == user.id).values(**values))


def set_password(connection: sa.Connection, user_id: int, password_hash: str, now_ns: int) -> None:
    """A new password: every session of theirs ends, and the link with which it was set."""
    values = {"password_hash": password_hash, "password_ns": now_ns, "invite_digest": None, "invite_until_ns": 0}
    connection.execute(t.users.update().where(t.users.c.id == user_id).values(**values))
    connection.execute(t.sessions.delete().where(t.sessions.c.user_id == user_id))


def signed_in(connection: sa.Connection, user_id: int, now_ns: int) -> None:
    """Note when somebody signed in."""
    connection.execute(t.users.update().where(t.users.c.id == user_id).values(signed_in_ns=now_ns))


def invite(connection: sa.Connection, user: User, now_ns: int) -> str:
    """The token of a link with which they set a password, once; an earlier link ends."""
    token = new_token()
    values = {"invite_digest": digest_of(token), "invite_until_ns": now_ns + INVITE_S * _NS}
    connection.execute(t.users.update().where(t.users.c.id == user.id).values(**values))
    return token


def invited(connection: sa.Connection, token: str, now_ns: int) -> User | None:
    """Whose link it is, while it holds."""
    u = t.users.c
    query = sa.select(t.users).where(
        u.invite_digest == digest_of(token), u.invite_until_ns > now_ns, sa.not_(u.disabled)
    )
    row = connection.execute(query).first()
    return None if row is None else _user(row)


def _one_admin_stays(connection: sa.Connection, user: User) -> None:
    u = t.users.c
    others = sa.select(u.id).where(u.role == Role.ADMIN.value, sa.not_(u.disabled), u.id != user.id)
    if connection.execute(others.with_for_update()).first() is None:
        raise Conflict(f"{user.name} is the only admin: make another one first")


def _user(row: sa.Row[tuple[object, ...]]) -> User:
    same = ("id", "name", "disabled", "created_ns", "created_by", "password_ns", "signed_in_ns")
    values = {name: getattr(row, name) for name in same}
    return User(
        role=Role(row.role),
        has_password=bool(row.password_hash),
        invited_until_ns=row.invite_until_ns if row.invite_digest else 0,
        **values,
    )
