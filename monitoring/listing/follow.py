"""Keeping the columns up to date: everything once, then what `case_changes` names.

Numbers of changes count up as they are given, not as they are committed. In SQLite that is the same, for there is one
writer. PostgreSQL has several: a transaction that is still open may hold lower numbers than one that is done, so what
is read there again and again is everything since the oldest transaction that was open at the last look, less what was
taken in already.
"""

from __future__ import annotations

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.listing.columns import Columns, read_all, read_some

KEEP_CHANGES = 500_000  # the newest of them; who has not read for longer reads everything anew
WHOLE_FROM = 2_000  # changes from which reading everything may be quicker
BLOCKS = 1 << 20  # more than the stamps of a first reading
AGAIN = 200  # changes that are read again at each question before the reader finds out whether it must
DEAD_SHARE = 0.25  # of the slots
_OLDEST_OPEN = sa.text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_H = t.case_changes.c


class Follower:
    """Holds the columns. Not safe for several threads."""

    def __init__(self) -> None:
        self._columns: Columns | None = None
        self._seq = 0  # of the newest change that was taken in
        self._horizon = 0  # PostgreSQL: the oldest transaction that was open then
        self._seen: set[int] = set()  # PostgreSQL: changes since the horizon that were taken in

    def fresh(self, connection: sa.Connection) -> Columns:
        """The columns as of this connection's view of the database."""
        columns = self._columns
        if columns is None:
            return self._whole(connection)
        postgres = connection.dialect.name == "postgresql"
        since = _H.xact >= self._horizon if postgres else _H.seq > self._seq
        query = sa.select(_H.seq, _H.case_id).where(since).order_by(_H.seq)
        read = connection.execute(query).all()
        rows = [row for row in read if row.seq not in self._seen]
        if not rows:
            if len(read) > AGAIN:
                self._advance(connection)
            return columns
        oldest = connection.scalar(sa.select(sa.func.min(_H.seq))) or 0
        ids = list(dict.fromkeys(row.case_id for row in rows))
        if oldest > self._seq + 1 or len(ids) > max(WHOLE_FROM, columns.count // 10):
            return self._whole(connection)
        read_some(connection, columns, ids)
        if columns.dead > max(WHOLE_FROM, columns.count * DEAD_SHARE):
            return self._whole(connection)
        self._seq = max(self._seq, rows[-1].seq)
        if postgres:
            self._seen.update(row.seq for row in rows)
            self._advance(connection, keep=len(self._seen) <= WHOLE_FROM)
        return columns

    def _advance(self, connection: sa.Connection, *, keep: bool = False) -> None:
        """PostgreSQL: what was committed by now need not be read again; `keep` does not look for what to forget."""
        self._horizon = int(connection.scalar(_OLDEST_OPEN) or 0)
        if not keep:
            self._seen &= set(connection.scalars(sa.select(_H.seq).where(_H.xact >= self._horizon)))

    def _whole(self, connection: sa.Connection) -> Columns:
        columns = read_all(connection)
        columns.stamp = (0 if self._columns is None else self._columns.stamp) + BLOCKS
        columns.born = columns.stamp
        self._seq = connection.scalar(sa.select(sa.func.max(_H.seq))) or 0
        if connection.dialect.name == "postgresql":
            self._horizon = int(connection.scalar(_OLDEST_OPEN) or 0)
            self._seen = set(connection.scalars(sa.select(_H.seq).where(_H.xact >= self._horizon)))
        self._columns = columns
        return columns


def prune_changes(connection: sa.Connection) -> None:
    """Keep the newest changes only."""
    newest = connection.scalar(sa.select(sa.func.max(_H.seq)))
    if newest is not None:
        connection.execute(t.case_changes.delete().where(_H.seq <= newest - KEEP_CHANGES))
