"""Questions about stored estimates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.accuracy.backtest import AUDIT_LABELS, Tried, draw_audits
from monitoring.accuracy.estimate import MIN_ROWS, AccuracyScope, Estimate, Measure, Method
from monitoring.accuracy.rows import ALL
from monitoring.origins import NOT_TRAFFIC
from monitoring.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyRow:
    """A stored estimate; see `monitoring.accuracy.estimate.Estimate`."""

    version: str
    variant: str
    scope: AccuracyScope
    start_s: int
    length_s: int
    method: Method
    measure: Measure
    value: float | None
    low: float | None
    high: float | None
    level: float | None
    rows: int
    labels: int
    trusted: bool
    best: bool
    missing: str
    caveat: str

    @property
    def sentence(self) -> str:
        """For people: "97.1 % (95.8-98.0, from 212 audited answers)"."""
        if self.value is None:
            return self.missing
        if self.measure is Measure.ABSOLUTE_ERROR:
            return f"{self.value:.3g} ({self.low:.3g}–{self.high:.3g}, from {self.labels:,} audited answers)"  # noqa: RUF001
        text = f"{100 * self.value:.1f} %"
        span = None if self.low is None or self.high is None else f"{100 * self.low:.1f}–{100 * self.high:.1f}"  # noqa: RUF001
        if self.method is Method.AUDIT:
            return f"{text} ({span}, from {self.labels:,} audited answers)"
        how = f"without labels, by {NAMES[self.method]}" + ("" if self.trusted else "; not to be trusted")
        return f"{text} ({how})" if span is None else f"{text} ({span}, {how})"


NAMES: dict[Method, str] = {
    Method.CONFIDENCE: "mean confidence",
    Method.P_WRONG: "mean P(wrong)",
    Method.ATC: "thresholded confidence",
    Method.TRANSPORT: "transport",
    Method.REHEARSAL: "rehearsal",
    Method.AUDIT: "audits",
    Method.AUDIT_ERROR: "audits",
}


def estimates(
    store: Store,
    model: str,
    *,
    version: str | None = None,
    scope: AccuracyScope | None = None,
    variant: str | None = None,
    method: Method | None = None,
    from_s: int | None = None,
    to_s: int | None = None,
    limit: int = 2000,
) -> tuple[AccuracyRow, ...]:
    """Estimates of windows that start in [from_s, to_s), oldest first; the newest `limit` of them."""
    e, v = t.accuracy_estimates.c, t.versions.c
    query = _select().where(v.model == model)
    given = ((v.version, version), (e.scope, scope), (e.variant, variant), (e.method, method))
    for column, value in given:
        if value is not None:
            query = query.where(column == str(value))
    if from_s is not None:
        query = query.where(e.start_s >= from_s)
    if to_s is not None:
        query = query.where(e.start_s < to_s)
    query = query.order_by(e.start_s.desc(), v.version, e.scope, e.variant, e.method).limit(limit)
    return tuple(reversed(_rows(store, query)))


def latest(store: Store, model: str, version: str | None = None, variant: str | None = None) -> tuple[AccuracyRow, ...]:
    """Every estimate of each version's newest window, the best ones first."""
    e, v = t.accuracy_estimates.c, t.versions.c
    newest = (
        sa.select(e.version_id.label("id"), sa.func.max(e.start_s).label("start_s"))
        .group_by(e.version_id)
        .subquery("newest")
    )
    query = _select().join(newest, sa.and_(newest.c.id == e.version_id, newest.c.start_s == e.start_s))
    query = query.where(v.model == model)
    if version is not None:
        query = query.where(v.version == version)
    if variant is not None:
        query = query.where(e.variant == variant)
    return tuple(_rows(store, query.order_by(v.version, e.variant, e.scope, e.best.desc(), e.method)))


def labelled_history(
    store: Store, model: str, version: str, audit_labels: int = AUDIT_LABELS, windows: int = 500
) -> list[Tried]:
    """The newest windows of a version that have labels for at least half of their rows, with what was estimated.

    Their labels may come from anywhere, so this is about records with a label, not about all traffic.
    """
    w, v, r, e = t.windows.c, t.versions.c, t.records.c, t.accuracy_estimates.c
    query = (
        sa.select(w.version_id, w.start_s, sa.func.min(w.length_s).label("length_s"))
        .join(t.versions, w.version_id == v.id)
        .where(v.model == model, v.version == version, w.variant != Variant.SHADOW.value)
        .group_by(w.version_id, w.start_s)
        .having(sa.func.sum(w.labelled) >= MIN_ROWS, 2 * sa.func.sum(w.labelled) >= sa.func.sum(w.rows))
        .order_by(w.start_s.desc())
        .limit(windows)
    )
    tried: list[Tried] = []
    with store.read() as connection:
        for window in reversed(connection.execute(query).all()):
            span = (window.start_s * 10**9, (window.start_s + window.length_s) * 10**9)
            labelled = connection.execute(
                sa.select(r.correct_rows, r.rows, r.p_wrong)
                .where(r.version_id == window.version_id, r.label.is_not(None), r.correct_rows.is_not(None))
                .where(r.time_ns >= span[0], r.time_ns < span[1], r.rows == 1, r.p_wrong.is_not(None))
                .where(r.variant.not_in(NOT_TRAFFIC))
                .order_by(r.time_ns, r.id_hash)
            ).all()
            if len(labelled) < MIN_ROWS:
                continue
            wrong = np.array([1.0 - row.correct_rows for row in labelled])
            made = connection.execute(
                sa.select(t.accuracy_estimates)
                .where(e.version_id == window.version_id, e.start_s == window.start_s, e.variant == ALL)
                .where(e.scope == AccuracyScope.WINDOW.value, e.measure == Measure.ACCURACY.value)
                .where(e.method != Method.AUDIT.value)
            ).mappings()
            names = [f.name for f in fields(Estimate) if f.name not in ("method", "measure")]
            estimates = tuple(Estimate(method=Method(row["method"]), **{n: row[n] for n in names}) for row in made)
            p_wrong = np.array([row.p_wrong for row in labelled])
            rng = np.random.default_rng(window.start_s)
            tried.append(
                Tried(
                    start=window.start_s,
                    rows=len(labelled),
                    truth=1.0 - float(wrong.mean()),
                    estimates=estimates,
                    audits=draw_audits(wrong, p_wrong, audit_labels, rng),
                )
            )
    return tried


def now(rows: Iterable[AccuracyRow], measure: Measure = Measure.ACCURACY) -> AccuracyRow | None:
    """The one estimate to show of a version's latest ones.

    The rolling scope's own audits if they are enough, else the day's, else what the rolling scope says without labels.
    """
    best = {r.scope: r for r in rows if r.best and r.variant == ALL and r.measure is measure and r.value is not None}
    rolling, day = best.get(AccuracyScope.ROLLING), best.get(AccuracyScope.DAY)
    if rolling is not None and rolling.trusted and rolling.method in (Method.AUDIT, Method.AUDIT_ERROR):
        return rolling
    # A day's audits say little about the last minutes once the estimate without labels has left their interval.
    if day is not None and (rolling is None or not rolling.trusted or (day.trusted and _agree(day, rolling))):
        return day
    return rolling


def current(rows: Iterable[AccuracyRow]) -> dict[str, AccuracyRow]:
    """The present estimate of accuracy by method, from a version's latest ones, and the one to show as "best"."""
    kept = [r for r in rows if r.measure is Measure.ACCURACY and r.value is not None]
    found: dict[str, AccuracyRow] = {}
    for scope in (AccuracyScope.DAY, AccuracyScope.ROLLING):  # the nearer one wins
        found |= {r.method.value: r for r in kept if r.scope is scope}
    best = now(kept)
    return found if best is None else found | {"best": best}


def _agree(day: AccuracyRow, rolling: AccuracyRow) -> bool:
    if None in (day.low, day.high, rolling.low, rolling.high):
        return True
    return bool(day.low <= rolling.high and rolling.low <= day.high)  # type: ignore[operator]  # none is None here


def _select() -> sa.Select[Any]:
    e = t.accuracy_estimates.c
    columns = [e[f.name] for f in fields(AccuracyRow) if f.name != "version"]
    return sa.select(*columns, t.versions.c.version).join(t.versions, e.version_id == t.versions.c.id)


def _rows(store: Store, query: sa.Select[Any]) -> list[AccuracyRow]:
    with store.read() as connection:
        found = [dict(row) for row in connection.execute(query).mappings()]
    for row in found:
        row |= {
            "scope": AccuracyScope(row["scope"]),
            "method": Method(row["method"]),
            "measure": Measure(row["measure"]),
        }
    return [AccuracyRow(**row) for row in found]
