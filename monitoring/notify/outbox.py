"""The outbox: notices are written with what happened, and given out to channels afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.facts import read_fact, write_fact
from monitoring.keys import printable
from monitoring.notify.contracts import DeliveryState, Notice, NoticeKind, Severity, Stored

STALE_NS = 24 * 3600 * 10**9  # what happened longer ago is history: a log that is read in late wakes nobody up
ROUTE_AT_ONCE = 200
KEPT = 10_000  # notices, the newest
PROBLEM_CHARS = 300
TALLY = "notice_attempts"  # the fact that counts them


class Outcome(StrEnum):
    """What is counted of attempts."""

    SENT = "sent"  # it arrived
    FAILED = "failed"  # it is tried again later
    GIVEN_UP = "given_up"  # it is not
    AGAIN = "again"  # an attempt that was not the first, however it came out


_OUTCOMES = {
    DeliveryState.SENT: Outcome.SENT,
    DeliveryState.WAITING: Outcome.FAILED,
    DeliveryState.DEAD: Outcome.GIVEN_UP,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A delivery that is to be tried now."""

    row: int
    channel: str
    attempts: int
    stored: Stored


def announce(connection: sa.Connection, notice: Notice) -> bool:
    """Write a notice in the transaction of what happened; returns whether it was new."""
    n = t.notices
    event = notice.event[:120]
    if connection.scalar(sa.select(n.c.id).where(n.c.event == event)) is not None:
        return False
    values = {
        "event": event,
        "time_ns": notice.time_ns,
        "kind": notice.kind.value,
        "severity": notice.severity.value,
        "model": notice.model,
        "version": notice.version,
        "title": printable(notice.title),
        "text": printable(notice.text),
        "page": notice.page,
        "data": dict(notice.data),
        "routed": False,
    }
    connection.execute(n.insert().values(**values))
    return True


def route(connection: sa.Connection, channels_of: Any, now_ns: int) -> int:
    """Make out the deliveries of notices that have none yet; returns how many notices were looked at.

    Args:
        connection: Of the writing transaction.
        channels_of: `channels_of(notice) -> names` of the channels that want it.
        now_ns: The clock; notices of more than a day ago are sent to nobody.
    """
    n = t.notices
    waiting = sa.select(n).where(n.c.routed.is_(False)).order_by(n.c.id).limit(ROUTE_AT_ONCE)
    found = [stored_of(row) for row in connection.execute(waiting).mappings()]
    rows = [
        {
            "notice_id": one.row,
            "channel": name,
            "state": DeliveryState.WAITING.value,
            "attempts": 0,
            "next_ns": now_ns,
            "problem": "",
        }
        for one in found
        if now_ns - one.notice.time_ns <= STALE_NS
        for name in dict.fromkeys(channels_of(one.notice))
    ]
    if rows:
        connection.execute(t.deliveries.insert(), rows)
    if found:
        connection.execute(n.update().where(n.c.id.in_([one.row for one in found])).values(routed=True))
    return len(found)


def due(connection: sa.Connection, now_ns: int, channels: Sequence[str], limit: int) -> list[Due]:
    """Deliveries of these channels that are to be tried, the longest waiting first."""
    d, n = t.deliveries.c, t.notices.c
    query = (
        sa.select(d.id.label("delivery"), d.channel, d.attempts, t.notices)
        .join(t.notices, n.id == d.notice_id)
        .where(d.state == DeliveryState.WAITING.value, d.next_ns <= now_ns, d.channel.in_(list(channels)))
        .order_by(d.next_ns, d.id)
        .limit(limit)
    )
    return [
        Due(row=row["delivery"], channel=row["channel"], attempts=row["attempts"], stored=stored_of(row))
        for row in connection.execute(query).mappings()
    ]


def settle(connection: sa.Connection, row: int, *, sent_ns: int | None, next_ns: int | None, problem: str) -> None:
    """Write how an attempt came out: it arrived, is to be tried again at `next_ns`, or (neither) is given up."""
    d = t.deliveries
    state = DeliveryState.WAITING if next_ns is not None else DeliveryState.DEAD
    state = DeliveryState.SENT if sent_ns is not None else state
    _count(connection, row, state)
    values = {
        "state": state.value,
        "attempts": d.c.attempts + 1,
        "problem": printable(problem)[:PROBLEM_CHARS],
        "done_ns": sent_ns,
    }
    values |= {} if next_ns is None else {"next_ns": next_ns}
    connection.execute(d.update().where(d.c.id == row).values(**values))


def _count(connection: sa.Connection, row: int, state: DeliveryState) -> None:
    d = t.deliveries.c
    found = connection.execute(sa.select(d.channel, d.attempts).where(d.id == row)).one_or_none()
    if found is None:
        return
    held: dict[str, dict[str, int]] = read_fact(connection, TALLY) or {}
    mine = dict.fromkeys((outcome.value for outcome in Outcome), 0) | held.get(found.channel, {})
    mine[_OUTCOMES[state].value] += 1
    mine[Outcome.AGAIN.value] += found.attempts > 0
    write_fact(connection, TALLY, held | {found.channel: mine})


def tallies(connection: sa.Connection) -> dict[tuple[str, Outcome], int]:
    """{(channel, outcome): attempts} since the database was made."""
    held: dict[str, dict[str, int]] = read_fact(connection, TALLY) or {}
    return {(channel, Outcome(name)): n for channel, mine in held.items() for name, n in mine.items()}


def retry(connection: sa.Connection, now_ns: int, channel: str | None = None) -> int:
    """Try deliveries again that were given up; returns how many."""
    d = t.deliveries
    where = [d.c.state == DeliveryState.DEAD.value, *([d.c.channel == channel] if channel else [])]
    values = {"state": DeliveryState.WAITING.value, "attempts": 0, "next_ns": now_ns}
    return connection.execute(d.update().where(*where).values(**values)).rowcount


def prune(connection: sa.Connection, keep: int = KEPT) -> None:
    """Let the oldest notices go."""
    n = t.notices
    newest = connection.scalar(sa.select(sa.func.max(n.c.id)))
    if newest is not None and newest > keep:
        connection.execute(n.delete().where(n.c.id <= newest - keep))


def counts(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """{(channel, state): deliveries}."""
    d = t.deliveries.c
    query = sa.select(d.channel, d.state, sa.func.count()).group_by(d.channel, d.state)
    return {(channel, state): int(n) for channel, state, n in connection.execute(query)}


def listed(connection: sa.Connection, limit: int = 50) -> list[tuple[Stored, list[dict[str, Any]]]]:
    """The newest notices, each with its deliveries."""
    n, d = t.notices, t.deliveries
    found = [stored_of(row) for row in connection.execute(sa.select(n).order_by(n.c.id.desc()).limit(limit)).mappings()]
    about = sa.select(d).where(d.c.notice_id.in_([one.row for one in found])).order_by(d.c.id)
    given: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(about).mappings():
        given.setdefault(row["notice_id"], []).append(dict(row))
    return [(one, given.get(one.row, [])) for one in found]


def between(connection: sa.Connection, from_ns: int, to_ns: int, kinds: Iterable[NoticeKind]) -> list[Notice]:
    """Notices of these kinds in [from_ns, to_ns), oldest first."""
    n = t.notices
    wanted = [kind.value for kind in kinds]
    query = sa.select(n).where(n.c.time_ns >= from_ns, n.c.time_ns < to_ns, n.c.kind.in_(wanted))
    return [stored_of(row).notice for row in connection.execute(query.order_by(n.c.time_ns, n.c.id)).mappings()]


def stored_of(row: Any) -> Stored:
    """A row of `notices` as a notice."""
    same = ("event", "time_ns", "title", "text", "model", "version", "page", "data")
    made = {name: row[name] for name in same}
    return Stored(
        row=row["id"], notice=Notice(kind=NoticeKind(row["kind"]), severity=Severity(row["severity"]), **made)
    )
