"""What goes, and when. A clock that jumps a day ahead must not delete a day too early.

The retention clock follows the wall clock, never backwards and never faster than `CATCH_UP` times the time that the
monitor has really been running (a monotonic clock). So a fault of the clock that lasts an hour ages things by at most
an hour too much, and the hours that the monitor was off are made up while it runs. Time also stands still with the
newest record, so that a log from long ago can be read in. What is over a limit in rows or bytes goes in any case,
oldest first.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa

from export.contracts.cases import CaseState
from monitoring import schema as t
from monitoring.alarms.rows_moved import prune
from monitoring.case_rows import InputState
from monitoring.facts import read_fact, write_fact
from monitoring.listing.follow import prune_changes
from monitoring.notify.outbox import prune as prune_notices
from monitoring.options import RetentionOptions
from monitoring.review.kept import touched
from monitoring.review.test_sets import protected

FACT = "retention_clock_s"
DAY_S = 86_400.0
CATCH_UP = 2.0


class RetentionClock:
    """Seconds since the epoch, as far as they can be trusted.

    Args:
        wall: Wall clock in seconds.
        monotonic: Seconds that only go forward.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._last = monotonic()

    def advance(self, connection: sa.Connection) -> float:
        """The retention time now; stored, so that the next start goes on from it."""
        now = self._monotonic()
        passed, self._last = now - self._last, now
        stored, wall = read_fact(connection, FACT), self._wall()
        trusted = wall if stored is None else max(float(stored), min(wall, float(stored) + CATCH_UP * passed))
        write_fact(connection, FACT, trusted)
        return trusted


def apply_retention(connection: sa.Connection, now_s: float, options: RetentionOptions) -> None:
    """Delete what is older than `now_s` allows, or over its limit."""
    w = t.windows.c
    newest_ns = connection.scalar(sa.select(sa.func.max(t.versions.c.last_ns)))
    now_s = min(now_s, (newest_ns or 0) / 1e9)
    old_samples = sa.select(w.id).where(w.start_s < now_s - options.sample_days * DAY_S)
    connection.execute(t.window_samples.delete().where(t.window_samples.c.window_id.in_(old_samples)))
    connection.execute(t.windows.delete().where(w.start_s < now_s - options.window_days * DAY_S))
    connection.execute(t.signals.delete().where(t.signals.c.start_s < now_s - options.signal_days * DAY_S))
    oldest_s = now_s - options.window_days * DAY_S
    connection.execute(t.accuracy_estimates.delete().where(t.accuracy_estimates.c.start_s < oldest_s))
    connection.execute(t.slice_windows.delete().where(t.slice_windows.c.start_s < now_s - options.signal_days * DAY_S))
    connection.execute(t.report_columns.delete().where(t.report_columns.c.end_s < now_s - options.window_days * DAY_S))
    oldest_ns = int((now_s - options.feedback_days * DAY_S) * 1e9)
    for said in (t.feedback, t.keyed_feedback):
        connection.execute(said.delete().where(said.c.time_ns < oldest_ns))
    prune_notices(connection)
    prune(connection, now_s - options.feedback_days * DAY_S, options.audit_label_rows)
    _keep_newest(connection, t.records, t.records.c.seq, options.record_rows)
    _keep_newest(connection, t.dead_letters, t.dead_letters.c.id, options.dead_letter_rows)
    _keep_newest(connection, t.events, t.events.c.id, options.event_rows)
    _bound_cases(connection, options.case_rows)
    prune_changes(connection)
    _bound_tensors(connection, options.tensor_bytes)


def _keep_newest(connection: sa.Connection, table: sa.Table, key: sa.ColumnElement[int], limit: int) -> None:
    newest = connection.scalar(sa.select(sa.func.max(key)))
    if newest is not None:
        connection.execute(table.delete().where(key <= newest - limit))


def _bound_cases(connection: sa.Connection, limit: int) -> None:
    """Too many cases: the oldest that no person has decided on and no label explains go first, then the oldest."""
    c = t.cases.c
    over = int(connection.scalar(sa.select(sa.func.count()).select_from(t.cases)) or 0) - limit
    if over <= 0:
        return
    spare = sa.and_(c.state == CaseState.OPEN.value, c.label.is_(None), ~touched(time.time_ns()))
    order = (sa.case((spare, 0), else_=1), c.time_ns, c.id)
    going = sa.select(c.id).where(c.id.notin_(protected())).order_by(*order).limit(over)
    for chunk in _chunks(list(connection.scalars(going))):
        connection.execute(t.cases.delete().where(c.id.in_(chunk)))


def _bound_tensors(connection: sa.Connection, limit: int) -> None:
    """Too many bytes: the oldest cases keep their facts and lose their tensors."""
    c, x = t.cases.c, t.case_tensors.c
    size = sa.func.sum(sa.func.length(x.data))
    over = int(connection.scalar(sa.select(size)) or 0) - limit
    if over <= 0:
        return
    query = sa.select(c.id, size).join(t.case_tensors, x.case_id == c.id).group_by(c.id, c.time_ns)
    query = query.where(c.id.notin_(protected()))
    freed, chosen = 0, []
    for identity, n in connection.execute(query.order_by(c.time_ns, c.id)):
        if freed >= over:
            break
        freed += int(n)
        chosen.append(identity)
    for chunk in _chunks(chosen):
        connection.execute(t.case_tensors.delete().where(x.case_id.in_(chunk)))
        connection.execute(t.cases.update().where(c.id.in_(chunk)).values(input_state=InputState.EXPIRED.value))


def _chunks(items: list[str]) -> list[list[str]]:
    return [items[i : i + 500] for i in range(0, len(items), 500)]
