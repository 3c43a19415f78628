"""Which reports are made without anybody asking: one a span of the schedule, and one for every alarm that fires.

Both follow the log's time, not the clock's: a span is over when the newest record is past its end, and an alarm has the
time of the label that decided. What was planned last is a fact in the database; a plan that cannot be started (too many
wait) is tried again at the next turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from export.contracts.errors import Overloaded
from monitoring import schema as t
from monitoring.facts import read_fact, write_fact
from monitoring.ingest_rows import watermark
from monitoring.options import MonitorOptions
from monitoring.report_shelf import Report, ReportCause, ReportKind, ReportRequest
from monitoring.store import Store

logger = logging.getLogger(__name__)

SCHEDULED_FACT, ALARM_FACT = "reports_scheduled_until_s", "reports_alarm_event"
MAX_VERSIONS = 8  # of a span, those with the newest records
ALARM_REACH_S = 3600  # an alarm's report looks back so far at most
EVENTS_A_TURN = 20
FIRING = "firing"

Starter = Callable[[ReportRequest], Report]


def plan_reports(store: Store, options: MonitorOptions, start: Starter) -> bool:
    """Start what is due; returns whether there is more to do at once."""
    if options.reports.every_s > 0:
        _scheduled(store, options, start)
    return _alarmed(store, options, start) if options.reports.at_alarms else False


def _scheduled(store: Store, options: MonitorOptions, start: Starter) -> None:
    every = options.reports.every_s
    with store.read() as connection:
        end_s = watermark(connection) // 1_000_000_000 // every * every
        done = read_fact(connection, SCHEDULED_FACT)
        versions = _versions(connection, end_s - every, end_s)
    # Only the newest span that is over: a monitor that was away for a week must not make a week of reports.
    if not end_s or (done is not None and int(done) >= end_s):
        return
    if done is not None:
        for model, version in versions:
            for kind in options.reports.kinds:
                _start(start, model, version, end_s - every, end_s, ReportKind(kind), ReportCause.SCHEDULE)
    # Without a fact the monitor is new to this log: the span that it came into is not a whole one.
    with store.write() as connection:
        write_fact(connection, SCHEDULED_FACT, end_s)


def _versions(connection: sa.Connection, start_s: int, end_s: int) -> Sequence[tuple[str, str]]:
    """Versions with windows in a span, those with the newest records first."""
    w, v = t.windows.c, t.versions.c
    query = (
        sa.select(v.model, v.version)
        .where(sa.exists().where(w.version_id == v.id, w.start_s >= start_s, w.start_s < end_s, w.rows > 0))
        .where(v.version != "")
        .order_by(v.last_ns.desc(), v.id)
        .limit(MAX_VERSIONS)
    )
    return [(row.model, row.version) for row in connection.execute(query)]


def _alarmed(store: Store, options: MonitorOptions, start: Starter) -> bool:
    e, a = t.alarm_events.c, t.alarms.c
    with store.read() as connection:
        seen = int(read_fact(connection, ALARM_FACT) or 0)
        query = (
            sa.select(e.id, e.state, e.alarm_id, e.model, e.version, e.at_ns, a.from_ns)
            .join(t.alarms, a.id == e.alarm_id)
            .where(e.id > seen)
            .order_by(e.id)
            .limit(EVENTS_A_TURN)
        )
        events = connection.execute(query).all()
    for event in events:
        if event.state == FIRING:
            start_s, end_s = alarm_span(event.from_ns, event.at_ns, options.window_s)
            for kind in (ReportKind.DRIFT, ReportKind.QUALITY):
                _start(start, event.model, event.version, start_s, end_s, kind, ReportCause.ALARM, event.alarm_id)
        with store.write() as connection:
            write_fact(connection, ALARM_FACT, event.id)
    return len(events) == EVENTS_A_TURN


def alarm_span(from_ns: int, at_ns: int, window_s: int) -> tuple[int, int]:
    """Whole windows from where an alarm's evidence begins, an hour back at most, to the one in which it fired.

    Example:
        >>> alarm_span(10_000_000_000_000, 10_100_000_000_000, 60)
        (9960, 10140)
    """
    end_s = at_ns // 1_000_000_000 // window_s * window_s + window_s
    start_s = max(from_ns // 1_000_000_000, end_s - ALARM_REACH_S) // window_s * window_s
    return min(start_s, end_s - window_s), end_s


def _start(
    start: Starter,
    model: str,
    version: str,
    start_s: int,
    end_s: int,
    kind: ReportKind,
    cause: ReportCause,
    alarm: str | None = None,
) -> None:
    request = ReportRequest(
        model=model,
        version=version,
        start=datetime.fromtimestamp(start_s, UTC),
        end=datetime.fromtimestamp(end_s, UTC),
        kind=kind,
        cause=cause,
        alarm=alarm,
    )
    try:
        start(request)
    except Overloaded:
        logger.warning("too many reports wait: the %s report of %s %s is tried again later", kind.value, model, version)
        raise
