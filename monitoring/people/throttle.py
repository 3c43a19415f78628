"""Sign-in attempts slow down, by name and by address. Kept in the database: a restart resets nothing.

An attempt is counted before the password is looked at, so that many at once are counted too. The wait doubles up to a
minute: about 70 attempts in the first hour and 60 in each after it, below the 100 that OWASP ASVS 2.2.1 allows, and
somebody whose name is being guessed at is kept out for a minute at most.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass

import sqlalchemy as sa

from monitoring import schema as t

FORGET_S = 3600
CAP_S = 60
_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is counted.

    Attributes:
        key: Primary key of its row. A name is kept as a digest: people type passwords into the wrong field.
        free: Failures without a wait.
    """

    key: str
    free: int


def by_name(name: str) -> Subject:
    """Whoever tries this name."""
    return Subject(key="name:" + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest(), free=5)


def by_address(address: str) -> Subject:
    """Whoever comes from this address, or with IPv6 from its /64."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Subject(key="address:unknown", free=20)
    if known.version == 6:
        known = ipaddress.ip_network((known, 64), strict=False).network_address
    return Subject(key=f"address:{known}", free=20)


def begin_try(connection: sa.Connection, subjects: tuple[Subject, ...], now_ns: int) -> int:
    """Count an attempt, or say how many seconds to wait before the next one counts (0: go on)."""
    c = t.sign_in_tries.c
    connection.execute(t.sign_in_tries.delete().where(c.last_ns < now_ns - FORGET_S * _NS))
    rows = {
        row.subject: row
        for row in connection.execute(
            sa.select(t.sign_in_tries).where(c.subject.in_([s.key for s in subjects])).with_for_update()
        )
    }
    wait_ns = max((row.wait_until_ns - now_ns for row in rows.values()), default=0)
    if wait_ns > 0:
        return -(-wait_ns // _NS)
    for subject in subjects:
        failures = (rows[subject.key].failures if subject.key in rows else 0) + 1
        over = failures - subject.free
        until_ns = now_ns + min(CAP_S, 2 ** min(over, 10)) * _NS if over >= 0 else 0
        values = {"failures": failures, "last_ns": now_ns, "wait_until_ns": until_ns}
        if subject.key in rows:
            connection.execute(t.sign_in_tries.update().where(c.subject == subject.key).values(**values))
        else:
            connection.execute(t.sign_in_tries.insert().values(subject=subject.key, **values))
    return 0


def end_try(connection: sa.Connection, name: Subject | None, address: Subject) -> None:
    """It was the right password: the name's failures are forgotten, the address's are one fewer."""
    c = t.sign_in_tries.c
    if name is not None:
        connection.execute(t.sign_in_tries.delete().where(c.subject == name.key))
    back = {"failures": c.failures - 1, "wait_until_ns": 0}
    connection.execute(t.sign_in_tries.update().where(c.subject == address.key, c.failures > 0).values(**back))
