"""The loop's part: records whose truth people changed are settled, in a transaction of the loop.

On PostgreSQL the API may run in a monitor that stands by; what it wrote waits in `settle_due` for the one that works.
"""

from __future__ import annotations

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.ingest import Ingest

A_TURN = 100  # records: bounds how long a turn holds the database


def settle_due(connection: sa.Connection, ingest: Ingest) -> bool:
    """Settle some of the records that are due; returns whether there are more."""
    d = t.settle_due.c
    due = list(connection.scalars(sa.select(d.id_hash).order_by(d.id_hash).limit(A_TURN).with_for_update()))
    if due:
        ingest.settle(connection, set(due))
        connection.execute(t.settle_due.delete().where(d.id_hash.in_(due)))
    return len(due) == A_TURN
