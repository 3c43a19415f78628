"""Time limits on what data sets hold of records: rows that are too old go as erased ones do.

A row's age is that of its record. Rows cross the limit one after another, and every step makes a successor of each
snapshot; so the first one that crosses it takes along all that would follow within a tenth of the limit. Nothing is
kept longer than was promised, some of it up to a tenth shorter, and a snapshot has some ten successors at most.

Rows of the base data set have no record behind them, and no limit. Reports and sets of gates that show a row that goes
are deleted with it, before: whoever is stopped in between finds the row again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import sqlalchemy as sa

from export.contracts.errors import SnapshotError
from monitoring import schema as t
from monitoring.datasets.erasing import replace_marked
from monitoring.datasets.rows import SnapshotState, adopt
from monitoring.facts import read_fact
from monitoring.gate.erasing import erase_from_gates, expire_gates
from monitoring.options import MonitorOptions
from monitoring.retention import FACT
from monitoring.retention_limits import Limit, limit_of
from monitoring.store import Store

logger = logging.getLogger(__name__)


class Expirer:
    """Keeps the time limits in data sets and gates.

    Args:
        store: The database.
        options: Where everything is, and the limits.
        wall_ns: Nanoseconds since the epoch, of when a successor was made. Ages go by the retention clock.
    """

    def __init__(self, store: Store, options: MonitorOptions, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._datasets = options.records_root.with_name("datasets")
        self._loop = options.loop_root
        self._policies = options.privacy
        self._wall_ns = wall_ns

    def turn(self) -> bool:
        """Everything that is due now, and what an erasure left behind when it was stopped."""
        with self._store.read() as connection:
            now_s = read_fact(connection, FACT)
        if now_s is not None and any(p.days_in_snapshots is not None for p in self._policies):
            self._limits(float(now_s))
        replace_marked(self._store, self._datasets, self._wall_ns())
        return False

    def _limits(self, now_s: float) -> None:
        try:
            adopt(self._store, self._datasets, now_ns=self._wall_ns())
        except SnapshotError as error:  # half copied perhaps; those that are known have their limits all the same
            logger.warning("a folder among the data sets cannot be read, nor its age be known: %s", error.message)
        expire_gates(self._store, self._loop, lambda model: limit_of(self._policies, model, now_s))
        with self._store.read() as connection:
            held = sa.select(t.snapshots.c.model).where(t.snapshots.c.state != SnapshotState.ERASED.value)
            models = sorted(set(connection.scalars(held)))
        for model in models:
            limit = limit_of(self._policies, model, now_s)
            if limit is not None:
                self._expire(model, limit)

    def _expire(self, model: str, limit: Limit) -> None:
        s, i = t.snapshots.c, t.snapshot_items.c
        whole = sa.select(s.id).where(s.model == model, s.state != SnapshotState.ERASED.value)
        old = (i.time_ns > 0) & (i.time_ns < limit.with_ns)
        query = sa.select(i.snapshot_id).where(i.snapshot_id.in_(whole), old).group_by(i.snapshot_id)
        with self._store.read() as connection:
            due = list(connection.scalars(query.having(sa.func.min(i.time_ns) < limit.due_ns)))
        for snapshot in sorted(due):
            mine = (i.snapshot_id == snapshot) & old
            with self._store.read() as connection:
                records = set(connection.scalars(sa.select(i.record_id).where(mine)))
            erase_from_gates(self._store, self._loop, records)
            with self._store.write() as connection:
                gone = connection.execute(t.snapshot_items.delete().where(mine)).rowcount
                values = {"erased": s.erased + gone, "state": SnapshotState.ERASING.value}
                connection.execute(t.snapshots.update().where(s.id == snapshot).values(**values))
