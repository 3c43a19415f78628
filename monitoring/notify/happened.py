"""Notices of what the monitor's own duties bring about, each in the words of its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState
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


_SLICES = {
    NoticeKind.SLICE_NEW: "fails in a group that was not known",
    NoticeKind.SLICE_REGRESSED: "fails again where it counted as fixed",
    NoticeKind.SLICE_ALERT: "fails in a watched group more often than its limit",
}


def announce_slice(
    connection: sa.Connection, row: Mapping[str, Any], kind: NoticeKind, end_s: int, rate: float
) -> None:
    """Something happened to a slice in the search of the span that ends at `end_s`; `row` is its row."""
    announce(
        connection,
        Notice(
            event=f"{kind.value}:{row['id']}:{end_s}",
            kind=kind,
            severity=Severity.WARNING,
            time_ns=end_s * 10**9,
            title=f"{row['model']} {_SLICES[kind]}",
            text=f"{row['words']}: {rate:.1%} of its requests fail.",
            model=row["model"],
            version=row["version"],
            page=f"/slices/{row['id']}",
            data={"slice": row["id"], "failure_rate": rate},
        ),
    )


def announce_tool(connection: sa.Connection, tool: str, since_ns: int, now_ns: int, problem: str = "") -> None:
    """A labelling tool has been away since `since_ns`, or (without a problem) is back."""
    down = bool(problem)
    announce(
        connection,
        Notice(
            event=f"tool:{tool}:{'down' if down else 'up'}:{since_ns}",
            kind=NoticeKind.INTEGRATION_DOWN if down else NoticeKind.INTEGRATION_UP,
            severity=Severity.WARNING if down else Severity.INFO,
            time_ns=now_ns,
            title=f"{tool.replace('_', ' ')} {'cannot be reached' if down else 'answers again'}",
            text=problem,
            page="/settings",
            data={"tool": tool},
        ),
    )


def announce_batches(connection: sa.Connection, now_ns: int) -> None:
    """Batches in which nothing waits any more: that follows from their cases, so this may run at any time."""
    b, m, c = t.batches.c, t.batch_cases.c, t.cases.c
    waits = (
        sa.select(m.case_id).join(t.cases, c.id == m.case_id).where(m.batch_id == b.id, c.state == CaseState.OPEN.value)
    )
    done = sa.select(t.batches).where(b.state == "open", b.cases > 0, ~waits.exists())
    for row in connection.execute(done).mappings().all():
        announce(
            connection,
            Notice(
                event=f"batch:{row['id']}:{row['changed_ns']}",
                kind=NoticeKind.BATCH_DONE,
                severity=Severity.INFO,
                time_ns=now_ns,
                title=f"the batch '{row['name']}' is labelled",
                text=f"{row['cases']} cases were in it.",
                model=row["model"],
                page=f"/batches/{row['id']}",
                data={"batch": row["id"], "cases": row["cases"]},
            ),
        )


def _is_silenced(connection: sa.Connection, alarm: Mapping[str, Any], at_ns: int) -> bool:
    s = t.silences.c
    until = sa.func.coalesce(s.ended_ns, s.until_ns)
    covers = sa.or_(s.promise.is_(None), s.promise == alarm["promise"])
    found = sa.select(s.id).where(s.model == alarm["model"], covers, s.from_ns <= at_ns, until > at_ns)
    return connection.scalar(found.limit(1)) is not None
