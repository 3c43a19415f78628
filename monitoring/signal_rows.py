"""Signals of the windows that changed: a pure function of the windows, so they may be computed again at any time."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.baselines import Baselines
from monitoring.drift import Scope, Signal, signals
from monitoring.options import MonitorOptions
from monitoring.windows import WindowStats

MOST_AT_ONCE = 64  # windows whose signals one transaction computes: bounds how long it holds the database


def update_signals(connection: sa.Connection, baselines: Baselines, options: MonitorOptions) -> int:
    """Compute the signals that are due, newest windows first; returns how many windows are still due."""
    w, v = t.windows.c, t.versions.c
    length = options.window_s
    due_rows = connection.execute(
        sa.select(w.version_id, w.start_s, v.model, v.version)
        .join(t.versions, w.version_id == v.id)
        .where(w.signals_due.is_(True), w.length_s == length)
        .distinct()
        .order_by(w.start_s.desc(), w.version_id)
        .limit(MOST_AT_ONCE)
    ).all()
    touched: dict[tuple[int, str, str], set[int]] = {}
    reach = (options.drift.rolling_windows - 1) * length
    for row in due_rows:
        # A window's change reaches the rolling scope of those after it.
        later = sa.select(w.start_s).where(
            w.version_id == row.version_id, w.length_s == length, w.start_s.between(row.start_s, row.start_s + reach)
        )
        touched.setdefault((row.version_id, row.model, row.version), set()).update(connection.scalars(later))
    for (version_id, model, version), starts in sorted(touched.items()):
        _update_version(connection, version_id, sorted(starts), baselines, (model, version), options)
    for row in due_rows:
        here = sa.and_(w.version_id == row.version_id, w.start_s == row.start_s, w.length_s == length)
        connection.execute(t.windows.update().where(here).values(signals_due=False))
    left = sa.select(sa.func.count()).select_from(t.windows).where(w.signals_due.is_(True), w.length_s == length)
    return int(connection.scalar(left) or 0)


def _update_version(
    connection: sa.Connection,
    version_id: int,
    starts: list[int],
    baselines: Baselines,
    name: tuple[str, str],
    options: MonitorOptions,
) -> None:
    w, length = t.windows.c, options.window_s
    reach = (options.drift.rolling_windows - 1) * length
    baseline = baselines.get(*name)
    query = sa.select(w.start_s, w.stats).where(
        w.version_id == version_id, w.length_s == length, w.start_s.between(starts[0] - reach, starts[-1])
    )
    per_window: dict[int, WindowStats] = {}
    for start_s, encoded in connection.execute(query.order_by(w.start_s, w.variant)):
        stats = WindowStats.decode(encoded)
        per_window[start_s] = per_window[start_s].merge(stats) if start_s in per_window else stats
    for start_s in starts:
        rolling = _merged(stats for at, stats in per_window.items() if start_s - reach <= at <= start_s)
        rows = []
        for scope, stats in ((Scope.WINDOW, per_window[start_s]), (Scope.ROLLING, rolling)):
            span = (length, start_s) if scope is Scope.WINDOW else (reach + length, start_s)
            rows += [_row(version_id, scope, span, x) for x in signals(baseline, stats, options.drift)]
        s = t.signals.c
        connection.execute(t.signals.delete().where(s.version_id == version_id, s.start_s == start_s))
        connection.execute(t.signals.insert(), rows)


def _merged(parts: Iterable[WindowStats]) -> WindowStats:
    first, *rest = parts
    for part in rest:
        first = first.merge(part)
    return first


def _row(version_id: int, scope: Scope, span: tuple[int, int], signal: Signal) -> dict[str, object]:
    """A row of `signals`. A rolling signal bears the start of its newest window and the length of all of them."""
    length_s, start_s = span
    return {
        "version_id": version_id,
        "scope": scope.value,
        "start_s": start_s,
        "length_s": length_s,
        "kind": signal.kind.value,
        "method": signal.method.value,
        "subject": signal.subject[:128],
        "state": signal.state.value,
        "value": signal.value,
        "threshold": signal.threshold,
        "threshold_source": signal.threshold_source,
        "exceeded": signal.exceeded,
        "rows": signal.rows,
        "detail": signal.detail,
    }
