"""Which of several monitors on one PostgreSQL works: a lease with a fence.

One monitor holds the lease, renews it, and does the work; the others stand by, serve console and API, and take over
when it lapses. The lease's token counts up with every holder, and every writing transaction of the loop begins with a
look at it that keeps the row shared until the transaction ends. So a monitor that was stopped, or cut off, and comes
back finds another token and writes nothing; and nobody takes over in the middle of a transaction. Times are the
database's: the monitors' clocks do not matter. Why a lease needs a fence: Kleppmann, "How to do distributed locking",
2016.

SQLite needs none of this: one process has the file open (`monitoring.database`).
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.store import Store

log = logging.getLogger(__name__)

NAME = "monitor"
TTL_S = 10.0
_NS = 1_000_000_000


class Superseded(Exception):
    """Another monitor holds the lease now: what was about to be written is its business."""


class Lease:
    """One monitor's claim.

    Args:
        store: The shared database.
        ttl_s: How long a holder that is silent keeps it.
        holder: A name for people; default: host and process, and a random part.
    """

    def __init__(
        self,
        store: Store,
        *,
        ttl_s: float = TTL_S,
        holder: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self.holder = holder or f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._token: int | None = None
        self._renew_at = float("-inf")

    @property
    def held(self) -> bool:
        """Whether it was ours when we last looked."""
        return self._token is not None

    def hold(self) -> bool:
        """Renew the lease, or take it when nobody has it; returns whether it is ours. Asks only when it is time to."""
        if self._monotonic() < self._renew_at:
            return self.held
        before = self._token
        try:
            with self._store.write() as connection:
                self._token = self._claim(connection)
        except (sa.exc.OperationalError, sa.exc.IntegrityError) as error:
            # Two took it at once, and the other one was first. A database that is gone is not for us to explain.
            if getattr(error.orig, "sqlstate", None) not in ("40001", "23505"):
                raise
            self._token = None
        self._renew_at = self._monotonic() + self._ttl_s / 3
        if self._token != before:
            log.info("%s", "this monitor works now" if self.held else "this monitor stands by: another one works")
        return self.held

    def check(self, connection: sa.Connection) -> None:
        """Begin a writing transaction: nobody takes over until it ends.

        Raises:
            Superseded: the lease is not ours any more.
        """
        c = t.leases.c
        mine = sa.select(c.token).where(c.name == NAME, c.holder == self.holder, c.token == self._token)
        if connection.execute(mine.with_for_update(read=True)).first() is None:
            self._token, self._renew_at = None, float("-inf")
            raise Superseded("another monitor holds the lease")

    def release(self) -> None:
        """Let another one take over at once."""
        if self.held:
            c = t.leases.c
            with self._store.write() as connection:
                mine = sa.and_(c.name == NAME, c.holder == self.holder, c.token == self._token)
                connection.execute(t.leases.update().where(mine).values(expires_ns=0))
            self._token = None

    def _claim(self, connection: sa.Connection) -> int | None:
        c = t.leases.c
        row = connection.execute(sa.select(t.leases).where(c.name == NAME).with_for_update()).first()
        seconds = connection.scalar(sa.select(sa.extract("epoch", sa.func.clock_timestamp())))
        now_ns = int(seconds * _NS) if seconds is not None else 0
        expires = {"expires_ns": now_ns + int(self._ttl_s * _NS)}
        if row is None:
            connection.execute(t.leases.insert().values(name=NAME, holder=self.holder, token=1, **expires))
            return 1
        if row.holder == self.holder and row.token == self._token:
            connection.execute(t.leases.update().where(c.name == NAME).values(**expires))
            return int(row.token)
        if row.expires_ns >= now_ns:
            return None
        token = int(row.token) + 1
        connection.execute(t.leases.update().where(c.name == NAME).values(holder=self.holder, token=token, **expires))
        return token


class GuardedStore(Store):
    """The same database, whose writing transactions begin with a look at a lease."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self.__dict__.update(store.__dict__)
        self._lease = lease

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """The one writing transaction, of who holds the lease.

        Raises:
            Superseded: that is somebody else.
        """
        with super().write() as connection:
            self._lease.check(connection)
            yield connection
