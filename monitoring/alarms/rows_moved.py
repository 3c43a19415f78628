"""What moved beside an alarm: the drift signals over their threshold in its time, kept with it once they are known."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.alarms.labels import Use
from monitoring.drift import Scope
from monitoring.window_rows import NANOSECONDS

MOST = 12  # signals kept with an alarm


def note_moved(connection: sa.Connection) -> None:
    """Keep with each new alarm the signals that stood over their threshold, as soon as none is still to be computed."""
    a = t.alarms.c
    for alarm in connection.execute(sa.select(t.alarms).where(a.moved.is_(None))).mappings().all():
        span = (alarm["from_ns"] // NANOSECONDS, alarm["fired_ns"] // NANOSECONDS)
        moved = signals_between(connection, alarm["model"], alarm["version"], span)
        if moved is not None:
            connection.execute(t.alarms.update().where(a.id == alarm["id"]).values(moved=moved))


def signals_between(
    connection: sa.Connection, model: str, version: str, span_s: tuple[int, int]
) -> list[dict[str, Any]] | None:
    """Signals over their threshold in windows that lie within `span_s`, the farthest over it first.

    Returns:
        Kind, method, subject, value, threshold and detail of each at its farthest; None while some are not computed.
    """
    w, s, v = t.windows.c, t.signals.c, t.versions.c
    version_id = sa.select(v.id).where(v.model == model, v.version == version).scalar_subquery()
    inside = (w.version_id == version_id, w.start_s + w.length_s > span_s[0], w.start_s < span_s[1])
    if connection.scalar(sa.select(w.id).where(*inside, w.signals_due.is_(True)).limit(1)) is not None:
        return None
    query = sa.select(t.signals).where(
        s.version_id == version_id,
        s.scope == Scope.WINDOW.value,
        s.start_s + s.length_s > span_s[0],
        s.start_s < span_s[1],
        s.exceeded.is_(True),
    )
    farthest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in connection.execute(query.order_by(s.start_s, s.method, s.subject)).mappings():
        if row["value"] is None or not row["threshold"]:
            continue
        names = ("kind", "method", "subject", "value", "threshold", "detail")
        found = {name: row[name] for name in names} | {"ratio": row["value"] / row["threshold"]}
        key = (row["method"], row["subject"])
        if key not in farthest or found["ratio"] > farthest[key]["ratio"]:
            farthest[key] = found
    return sorted(farthest.values(), key=lambda x: (-x["ratio"], x["method"], x["subject"]))[:MOST]


def prune(connection: sa.Connection, oldest_s: float, label_rows: int) -> None:
    """Let go of populations and set-aside labels from before `oldest_s`, and of a model's labels beyond so many."""
    a, w = t.audit_labels.c, t.audit_windows.c
    connection.execute(t.audit_windows.delete().where(w.start_s < oldest_s))
    aside = a.use.in_((Use.OTHER_VERSION.value, Use.OTHER_VARIANT.value))
    connection.execute(t.audit_labels.delete().where(aside, a.label_ns < int(oldest_s * NANOSECONDS)))
    newest = sa.select(a.model, sa.func.max(a.position)).where(a.position.is_not(None)).group_by(a.model)
    for model, position in connection.execute(newest).all():
        old = sa.and_(a.model == model, a.position <= position - label_rows)
        connection.execute(t.audit_labels.delete().where(old))
