"""Estimates of the windows that changed: a pure function of windows, labels and cases, to be made again at any time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.accuracy.estimate import (
    AccuracyScope,
    Audited,
    Estimate,
    audited,
    audited_error,
    choose,
    label_free,
    with_reach,
)
from monitoring.baselines import Baselines
from monitoring.case_pools import AUDIT_BIT
from monitoring.options import MonitorOptions
from monitoring.store import FIXED_POINT
from monitoring.windows import WindowStats

MOST_AT_ONCE = 24  # windows whose estimates one transaction makes: bounds how long it holds the database
MOST_LABELS = 20_000  # newest audited labels of a scope
ALL = "all"  # every variant whose answers clients received
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class _Window:
    """What is read of a window."""

    variant: str
    start_s: int
    rows: int
    p_wrong_sum: int
    stats: WindowStats


def update_accuracy(connection: sa.Connection, baselines: Baselines, options: MonitorOptions) -> int:
    """Make the estimates that are due, newest windows first; returns how many windows are still due."""
    w, v, length = t.windows.c, t.versions.c, options.window_s
    due_rows = connection.execute(
        sa.select(w.version_id, w.start_s, v.model, v.version)
        .join(t.versions, w.version_id == v.id)
        .where(w.accuracy_due.is_(True), w.length_s == length)
        .distinct()
        .order_by(w.start_s.desc(), w.version_id)
        .limit(MOST_AT_ONCE)
    ).all()
    reach = (options.drift.rolling_windows - 1) * length
    touched: dict[tuple[int, str, str], set[int]] = {}
    for row in due_rows:
        # A window's change reaches the rolling scope of those after it.
        later = sa.select(w.start_s).where(
            w.version_id == row.version_id, w.length_s == length, w.start_s.between(row.start_s, row.start_s + reach)
        )
        touched.setdefault((row.version_id, row.model, row.version), set()).update(connection.scalars(later))
    for (version_id, model, version), starts in sorted(touched.items()):
        _Version(connection, version_id, (model, version), baselines, options).update(sorted(starts))
    for row in due_rows:
        here = sa.and_(w.version_id == row.version_id, w.start_s == row.start_s, w.length_s == length)
        connection.execute(t.windows.update().where(here).values(accuracy_due=False))
    left = sa.select(sa.func.count()).select_from(t.windows).where(w.accuracy_due.is_(True), w.length_s == length)
    return int(connection.scalar(left) or 0)


class _Version:
    """Makes the estimates of one version."""

    def __init__(
        self,
        connection: sa.Connection,
        version_id: int,
        name: tuple[str, str],
        baselines: Baselines,
        options: MonitorOptions,
    ) -> None:
        self._connection, self._version_id, self._options = connection, version_id, options
        self._baseline = baselines.get(*name)

    def update(self, starts: Sequence[int]) -> None:
        """Replace the estimates of windows that start then, and those of the version's last 24 hours."""
        e, length = t.accuracy_estimates.c, self._options.window_s
        reach = (self._options.drift.rolling_windows - 1) * length
        windows = self._windows(starts[0] - reach, starts[-1])
        for start in starts:
            rows = [
                *self._rows(AccuracyScope.WINDOW, start, length, [x for x in windows if x.start_s == start]),
                *self._rows(
                    AccuracyScope.ROLLING,
                    start,
                    reach + length,
                    [x for x in windows if start - reach <= x.start_s <= start],
                ),
            ]
            here = sa.and_(e.version_id == self._version_id, e.start_s == start, e.scope != AccuracyScope.DAY.value)
            self._connection.execute(t.accuracy_estimates.delete().where(here))
            if rows:
                self._connection.execute(t.accuracy_estimates.insert(), rows)
        self._update_day()

    def _windows(self, first_s: int, last_s: int) -> list[_Window]:
        w = t.windows.c
        query = sa.select(w.variant, w.start_s, w.rows, w.p_wrong_sum, w.stats).where(
            w.version_id == self._version_id,
            w.length_s == self._options.window_s,
            w.start_s.between(first_s, last_s),
        )
        return [
            _Window(r.variant, r.start_s, r.rows, r.p_wrong_sum, WindowStats.decode(r.stats))
            for r in self._connection.execute(query.order_by(w.start_s, w.variant))
        ]

    def _rows(
        self, scope: AccuracyScope, start_s: int, length_s: int, windows: Sequence[_Window]
    ) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        end_s = start_s + self._options.window_s
        for variant, members in _groups(windows).items():
            stats = members[0].stats
            for other in members[1:]:
                stats = stats.merge(other.stats)
            rows, p_wrong = sum(x.rows for x in members), sum(x.p_wrong_sum for x in members) / FIXED_POINT
            estimates = label_free(self._baseline, stats, p_wrong, rows)
            parts = [(x.start_s, x.rows, x.p_wrong_sum) for x in members]
            estimates += self._audits(variant, end_s - length_s, end_s, parts)
            made += [self._row(scope, start_s, length_s, variant, x) for x in choose(estimates)]
        return made

    def _update_day(self) -> None:
        """The last 24 hours are estimated from audits alone, so sums in columns are enough."""
        w, e, length = t.windows.c, t.accuracy_estimates.c, self._options.window_s
        here = sa.and_(w.version_id == self._version_id, w.length_s == length)
        newest = self._connection.scalar(sa.select(sa.func.max(w.start_s)).where(here))
        day = sa.and_(e.version_id == self._version_id, e.scope == AccuracyScope.DAY.value)
        self._connection.execute(t.accuracy_estimates.delete().where(day))
        if newest is None:
            return
        first = newest + length - DAY_S
        query = sa.select(w.variant, w.start_s, w.rows, w.p_wrong_sum).where(here, w.start_s >= first)
        found = self._connection.execute(query.order_by(w.start_s, w.variant)).all()
        for variant, members in _names(sorted({row.variant for row in found})).items():
            parts = [(row.start_s, row.rows, row.p_wrong_sum) for row in found if row.variant in members]
            estimates = choose(self._audits(variant, first, newest + length, parts))
            made = [self._row(AccuracyScope.DAY, newest, DAY_S, variant, x) for x in estimates]
            if made:
                self._connection.execute(t.accuracy_estimates.insert(), made)

    def _audits(self, variant: str, from_s: int, to_s: int, parts: Sequence[tuple[int, int, int]]) -> list[Estimate]:
        """Audits of windows given as (start, rows, sum of P(wrong)).

        Labels come late: they speak of the windows that have some, and of no others.
        """
        if variant == Variant.SHADOW.value:
            return []  # nobody received these answers: none are audited
        found = read_audited(self._connection, self._version_id, variant, from_s, to_s, self._options)
        reached = [x for x in parts if x[0] in found.starts]
        rows, p_wrong = sum(x[1] for x in reached), sum(x[2] for x in reached) / FIXED_POINT
        known = rows > 0 and np.isfinite(found.proxy).any()
        made = [audited(found, rows, p_wrong / rows if known else None), audited_error(found, rows)]
        reach = rows / max(sum(x[1] for x in parts), 1)
        return [with_reach(estimate, reach) for estimate in made if estimate is not None]

    def _row(
        self, scope: AccuracyScope, start_s: int, length_s: int, variant: str, estimate: Estimate
    ) -> dict[str, Any]:
        columns = asdict(estimate) | {"method": estimate.method.value, "measure": estimate.measure.value}
        key = {"version_id": self._version_id, "variant": variant, "scope": scope.value}
        return key | {"start_s": start_s, "length_s": length_s} | columns


def read_audited(
    connection: sa.Connection, version_id: int, variant: str, from_s: int, to_s: int, options: MonitorOptions
) -> Audited:
    """Audited records with a label whose time lies in [from_s, to_s), the newest first when there are too many.

    A record's chance of having been drawn is the one stored with its case. Where labels of a window reached audited
    records that are no cases, they were not chosen through the queue, and the audit's rate is every record's chance.
    """
    r, c = t.records.c, t.cases.c
    columns = (r.time_ns, r.rows, r.correct_rows, r.p_wrong, r.value, r.probability, r.label, c.inclusion_probability)
    query = (
        sa.select(*columns, c.id)
        .outerjoin(t.cases, sa.and_(c.id_hash == r.id_hash, c.time_ns == r.time_ns))
        .where(r.version_id == version_id, r.label.is_not(None), r.flags.op("&")(AUDIT_BIT) != 0)
        .where(r.time_ns >= from_s * 10**9, r.time_ns < to_s * 10**9)
        .where(r.variant == variant if variant != ALL else r.variant != Variant.SHADOW.value)
        .order_by(r.time_ns.desc(), r.id_hash)
        .limit(MOST_LABELS)
    )
    found = connection.execute(query).all()
    if not found:
        return Audited.nothing()
    starts = [row.time_ns // (10**9 * options.window_s) for row in found]
    beside = {start for start, row in zip(starts, found, strict=True) if row.id is None}
    rate = options.cases.audit_rate
    chance = [
        row.inclusion_probability
        if start not in beside and row.inclusion_probability is not None
        else rate * row.probability
        for start, row in zip(starts, found, strict=True)
    ]
    wrong = [np.nan if x.correct_rows is None else 1.0 - x.correct_rows / max(x.rows, 1) for x in found]
    return Audited(
        wrong=np.array(wrong, dtype=np.float64),
        proxy=np.array([x.p_wrong if x.rows == 1 else None for x in found], dtype=np.float64),  # None becomes NaN
        weight=np.array([x.rows for x in found]) / np.maximum(np.array(chance, dtype=np.float64), 1e-12),
        starts=frozenset(start * options.window_s for start in starts),
        even=len({x.probability for x in found}) == 1,
        error=np.array([_error(x.label, x.value) for x in found], dtype=np.float64),
    )


def _error(label: str, value: float | None) -> float:
    truth = json.loads(label)
    truth = truth[0] if isinstance(truth, list) and len(truth) == 1 else truth
    if value is None or isinstance(truth, bool) or not isinstance(truth, int | float):
        return float("nan")
    return abs(float(value) - float(truth))


def _groups(windows: Sequence[_Window]) -> dict[str, list[_Window]]:
    names = _names(sorted({x.variant for x in windows}))
    return {name: [x for x in windows if x.variant in members] for name, members in names.items()}


def _names(variants: list[str]) -> dict[str, list[str]]:
    """Everything that clients received together; each variant apart where there are several, and the shadow always."""
    answered = [v for v in variants if v != Variant.SHADOW.value]
    groups = {ALL: answered} if answered else {}
    apart = [v for v in variants if len(answered) > 1 or v == Variant.SHADOW.value]
    return groups | {v: [v] for v in apart}
