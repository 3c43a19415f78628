"""The day in a message: what happened, what waits, where to click. A day on which nothing happened sends none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from export.contracts.cases import CaseState
from monitoring import schema as t
from monitoring.facts import read_fact, write_fact
from monitoring.notify.contracts import Notice, NoticeKind, Severity
from monitoring.notify.outbox import announce, between

LONGEST = timedelta(days=7)
LINES = 20
_TOLD = tuple(kind for kind in NoticeKind if kind not in (NoticeKind.DIGEST, NoticeKind.TEST))


def announce_digests(connection: sa.Connection, times: Iterable[str], now: datetime) -> int:
    """Announce the digests that are due; returns how many.

    Args:
        connection: Of a writing transaction.
        times: "HH:MM", UTC.
        now: The clock.
    """
    made = 0
    for at in sorted({x for x in times if x}):
        hour, minute = (int(part) for part in at.split(":"))
        due = now.astimezone(UTC).replace(hour=hour, minute=minute, second=0, microsecond=0)
        due = due if due <= now else due - timedelta(days=1)
        fact = f"digest:{at}"
        last = read_fact(connection, fact)
        if last is None:  # a channel that is new: its first digest is tomorrow's
            write_fact(connection, fact, due.timestamp())
        elif float(last) < due.timestamp():
            write_fact(connection, fact, due.timestamp())
            since = max(datetime.fromtimestamp(float(last), UTC), due - LONGEST)
            notice = digest(connection, at, since, due)
            made += notice is not None and announce(connection, notice)
    return made


def digest(connection: sa.Connection, at: str, since: datetime, until: datetime) -> Notice | None:
    """What happened in [since, until); None when nothing did."""
    from_ns, to_ns = int(since.timestamp() * 1e9), int(until.timestamp() * 1e9)
    told = between(connection, from_ns, to_ns, _TOLD)
    c = t.cases.c
    count = sa.select(c.model, sa.func.count()).group_by(c.model).order_by(c.model)
    found = {m: int(n) for m, n in connection.execute(count.where(c.time_ns >= from_ns, c.time_ns < to_ns))}
    decided = {m: int(n) for m, n in connection.execute(count.where(c.decided_ns >= from_ns, c.decided_ns < to_ns))}
    waiting = {m: int(n) for m, n in connection.execute(count.where(c.state == CaseState.OPEN.value))}
    if not told and not found and not decided:
        return None
    kinds = Counter(notice.kind for notice in told)
    lines = [f"- {n.title}" for n in told[:LINES]]
    lines += [f"... and {len(told) - LINES} more"] if len(told) > LINES else []
    for model in sorted({*found, *decided, *waiting}):
        part = f"{found.get(model, 0)} new cases, {decided.get(model, 0)} decided, {waiting.get(model, 0)} waiting"
        lines.append(f"{model}: {part}")
    new = sum(found.values())
    fired = kinds[NoticeKind.ALARM_FIRED]
    title = f"{until:%d %B}: {fired} alarms, {new} new cases, {sum(waiting.values())} waiting"
    return Notice(
        event=f"digest:{until:%Y-%m-%d}:{at}",
        kind=NoticeKind.DIGEST,
        severity=Severity.INFO,
        time_ns=to_ns,
        title=title,
        text="\n".join(lines),
        page="/",
        data={"at": at, "notices": len(told), "found": found, "decided": decided, "waiting": waiting},
    )
