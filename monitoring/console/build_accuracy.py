"""The panel that says how accurate a version is now."""

from __future__ import annotations

from monitoring.accuracy.estimate import AccuracyScope, Measure, Method
from monitoring.accuracy.queries import AccuracyRow, estimates, latest, now
from monitoring.accuracy.rows import ALL
from monitoring.console import parts, words
from monitoring.store import Store

CHART_POINTS = 240


def accuracy_block(store: Store, model: str, version: str) -> parts.AccuracyBlock | None:
    """The one estimate in a sentence, and what every method says; None before the first window."""
    rows = latest(store, model, version, ALL)
    if not rows:
        return None
    best = now(rows)
    error = now(rows, Measure.ABSOLUTE_ERROR)
    shown = [r for r in rows if r.scope is not AccuracyScope.WINDOW]
    return parts.AccuracyBlock(
        sentence="not enough data yet" if best is None else best.sentence,
        value=None if best is None else best.value,
        low=None if best is None else best.low,
        high=None if best is None else best.high,
        span="" if best is None else _span(best),
        how="" if best is None else words.ESTIMATES[best.method.value][1],
        caveat="" if best is None else best.caveat,
        trusted=best is None or best.trusted,
        error="" if error is None else error.sentence,
        lines=tuple(_line(r) for r in sorted(shown, key=lambda r: (_ORDER.index(r.method), r.scope.value))),
    )


def estimate_series(store: Store, model: str, version: str) -> tuple[parts.Series, ...]:
    """Per window, what is estimated without labels, and what the audits of the latest windows say."""
    asked = (
        ("without labels", "tone-4", Method.REHEARSAL, AccuracyScope.WINDOW),
        ("from audits", "tone-3", Method.AUDIT, AccuracyScope.ROLLING),
    )
    made = []
    for name, tone, method, scope in asked:
        rows = estimates(store, model, version=version, scope=scope, variant=ALL, method=method, limit=CHART_POINTS)
        audit = method is Method.AUDIT
        points = tuple(parts.Point(at_s=r.start_s, value=r.value, n=r.labels if audit else r.rows) for r in rows)
        if any(p.value is not None for p in points):
            made.append(parts.Series(name=name, tone=tone, points=points))
    return tuple(made)


_ORDER = (
    Method.AUDIT,
    Method.AUDIT_ERROR,
    Method.REHEARSAL,
    Method.TRANSPORT,
    Method.ATC,
    Method.P_WRONG,
    Method.CONFIDENCE,
)


def _span(row: AccuracyRow) -> str:
    minutes = row.length_s // 60
    text = (
        "24 hours" if row.scope is AccuracyScope.DAY else f"{minutes} minutes" if minutes > 1 else f"{row.length_s} s"
    )
    return f"over the last {text}, {row.rows:,} answers"


def _line(row: AccuracyRow) -> parts.AccuracyLine:
    name, text = words.ESTIMATES[row.method.value]
    return parts.AccuracyLine(
        method=row.method.value,
        name=name,
        text=text,
        over=_span(row),
        share=row.measure is Measure.ACCURACY,
        value=row.value,
        low=row.low,
        high=row.high,
        labels=row.labels,
        trusted=row.trusted,
        best=row.best,
        missing=row.missing,
        caveat=row.caveat,
    )
