"""Notices of what the monitor's own duties bring about, each in the words of its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.alarms.watch import AlarmState
from monitoring.notify.contracts import Notice, NoticeKind, Severity
from monitoring.notify.outbox import announce

_ALARMS = {
    AlarmState.FIRING: (NoticeKind.ALARM_FIRED, Severity.CRITICAL, "fails more often than it may"),
    AlarmState.RESOLVED: (NoticeKind.ALARM_RESOLVED, Severity.INFO, "fails no more often than it may"),
}


def announce_alarm(connection: sa.Connection, alarm: Mapping[str, Any], number: int, at_ns: int, text: str) -> None:
    """An alarm fired or was resolved; a silence holds the notice back, as it does the page.

    Args:
        connection: Of the transaction that moves the alarm.
        alarm: Its row.
        number: Of the alarm's event.
        at_ns: Event time of the change.
        text: What happened, in words.
    """
    known = _ALARMS.get(AlarmState(alarm["state"]))
    if known is None or _is_silenced(connection, alarm, at_ns):
        return
    kind, severity, says = known
    same = ("id", "promise", "estimate", "low", "high", "limit", "tolerance", "labels", "errors")
    announce(
        connection,
        Notice(
            event=f"alarm:{alarm['id']}:{number}",
            kind=kind,
            severity=severity,
            time_ns=at_ns,
            title=f"{alarm['model']} {says}",
            text=text,
            model=alarm["model"],
            version=alarm["version"],
            page=f"/alarms/{alarm['id']}",
            data={"alarm" if name == "id" else name: alarm[name] for name in same},
        ),
    )


def _is_silenced(connection: sa.Connection, alarm: Mapping[str, Any], at_ns: int) -> bool:
    s = t.silences.c
    until = sa.func.coalesce(s.ended_ns, s.until_ns)
    covers = sa.or_(s.promise.is_(None), s.promise == alarm["promise"])
    found = sa.select(s.id).where(s.model == alarm["model"], covers, s.from_ns <= at_ns, until > at_ns)
    return connection.scalar(found.limit(1)) is not None
