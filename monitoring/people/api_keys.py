"""Rows of `api_keys`: credentials of programs. A key is shown once; only its digest is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

import sqlalchemy as sa

from export.contracts.errors import Conflict, InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.people.contracts import Principal, Role
from monitoring.people.tokens import KEY_PREFIX, digest_of, new_token

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,58}")
HINT = len(KEY_PREFIX) + 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A key, without the key. Times of 0: never."""

    id: int
    name: str
    hint: str
    role: Role
    models: tuple[str, ...]
    created_ns: int
    created_by: str
    expires_ns: int
    used_ns: int
    revoked_ns: int


def make_key(
    connection: sa.Connection,
    name: str,
    role: Role,
    by: str,
    now_ns: int,
    *,
    models: tuple[str, ...] = (),
    expires_ns: int = 0,
) -> tuple[ApiKey, str]:
    """A new key, and the one time that its text is known.

    Raises:
        InvalidRequest: the name cannot be one, it would have ended already, or it would be an admin for some models.
        Conflict: a key had this name before; names in the trail are not used twice.
    """
    if not NAME.fullmatch(name):
        raise InvalidRequest("name: 1 to 59 of A-Z a-z 0-9 . _ - are possible, and a letter or digit first")
    if 0 < expires_ns <= now_ns:
        raise InvalidRequest("expires: lies in the past")
    if models and role is Role.ADMIN:
        raise InvalidRequest("models: an admin manages people and keys, and so cannot be limited to some models")
    k = t.api_keys.c
    if connection.execute(sa.select(k.id).where(k.name == name)).first() is not None:
        raise Conflict("there is, or was, a key of this name")
    text = new_token(KEY_PREFIX)
    connection.execute(
        t.api_keys.insert().values(
            name=name,
            digest=digest_of(text),
            hint=text[:HINT],
            role=role.value,
            models=sorted(set(models)),
            created_ns=now_ns,
            created_by=by,
            expires_ns=expires_ns,
            used_ns=0,
            revoked_ns=0,
        )
    )
    return find_key(connection, name), text


def list_keys(connection: sa.Connection) -> tuple[ApiKey, ...]:
    """All keys, revoked ones too, by name."""
    return tuple(_key(row) for row in connection.execute(sa.select(t.api_keys).order_by(t.api_keys.c.name)))


def find_key(connection: sa.Connection, name: str) -> ApiKey:
    """One key.

    Raises:
        NotFound: there is none of that name.
    """
    row = connection.execute(sa.select(t.api_keys).where(t.api_keys.c.name == name)).first()
    if row is None:
        raise NotFound("there is no key of this name")
    return _key(row)


def revoke_key(connection: sa.Connection, key: ApiKey, now_ns: int) -> None:
    """It opens nothing any more. Its row stays, for the trail."""
    if not key.revoked_ns:
        connection.execute(t.api_keys.update().where(t.api_keys.c.id == key.id).values(revoked_ns=now_ns))


def key_of(connection: sa.Connection, digest: str, now_ns: int) -> tuple[Principal, ApiKey] | None:
    """Whom a key's digest stands for, while it holds."""
    k = t.api_keys.c
    living = sa.and_(k.revoked_ns == 0, sa.or_(k.expires_ns == 0, k.expires_ns > now_ns))
    row = connection.execute(sa.select(t.api_keys).where(k.digest == digest, living)).first()
    if row is None:
        return None
    key = _key(row)
    return Principal(name=f"key:{key.name}", role=key.role, models=key.models), key


def touch_key(connection: sa.Connection, key_id: int, now_ns: int) -> None:
    """It was used."""
    connection.execute(t.api_keys.update().where(t.api_keys.c.id == key_id).values(used_ns=now_ns))


def _key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    same = ("id", "name", "hint", "created_ns", "created_by", "expires_ns", "used_ns", "revoked_ns")
    values = {name: getattr(row, name) for name in same}
    return ApiKey(role=Role(row.role), models=tuple(row.models), **values)
