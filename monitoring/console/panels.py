"""The charts of the pages, as numbers."""

from __future__ import annotations

from collections.abc import Sequence

from monitoring.console import parts, words
from monitoring.console.build_accuracy import estimate_series
from monitoring.queries import Totals, WindowLine, signal_series
from monitoring.store import Store

AUDITS = 20  # labels behind each point of the audited accuracy
SPARSE = 40  # fewer points get dots
TONES = ("tone-1", "tone-2", "tone-3", "tone-4", "tone-5")


def traffic_panel(windows: Sequence[WindowLine]) -> parts.Panel:
    """Requests per window, answered and not."""
    sums = _by_start(windows)
    answered = tuple(parts.Point(at_s=at, value=t.outcomes.get("ok", 0)) for at, t in sums.items())
    failed = tuple(parts.Point(at_s=at, value=t.failed) for at, t in sums.items())
    return parts.Panel(
        key="requests",
        title="Requests",
        hint=f"per {_length(windows)}",
        unit="count",
        axis=_axis(windows),
        bars=True,
        series=(
            parts.Series(name="answered", tone="tone-1", points=answered),
            parts.Series(name="not answered", tone="tone-bad", points=failed),
        ),
    )


def model_panels(
    store: Store, model: str, version: str, windows: Sequence[WindowLine], signals: Sequence[parts.SignalLine]
) -> tuple[parts.Panel, ...]:
    """Traffic, quality, suspicion and drift of one version."""
    if not windows:
        return ()
    sums = _by_start(windows)
    estimate = tuple(parts.Point(at_s=a, value=t.estimated_accuracy, n=t.rows) for a, t in sums.items())
    measured = tuple(parts.Point(at_s=a, value=t.accuracy, n=t.labelled) for a, t in sums.items())
    estimated = estimate_series(store, model, version)
    audited = () if any(s.name == "from audits" for s in estimated) else _pooled(sums)
    suspicion = tuple(parts.Point(at_s=a, value=t.p_wrong_sum / t.rows if t.rows else None) for a, t in sums.items())
    flagged = tuple(parts.Point(at_s=a, value=t.flagged / t.requests if t.requests else None) for a, t in sums.items())
    accuracy = parts.Panel(
        key="accuracy",
        title="Accuracy",
        hint="measured from feedback and audits, and estimated without labels",
        unit="share",
        axis=_axis(windows),
        series=(
            parts.Series(name="expected", tone="tone-2", points=estimate),
            parts.Series(name="from feedback", tone="tone-1", points=measured, marks=True),
            *estimated,
            *((parts.Series(name="from audits", tone="tone-3", points=audited, marks=True),) if audited else ()),
        ),
    )
    suspicious = parts.Panel(
        key="suspicion",
        title="Suspicion",
        hint="mean P(wrong), and the share of requests that were flagged",
        unit="share",
        axis=_axis(windows),
        series=(
            parts.Series(name="mean P(wrong)", tone="tone-4", points=suspicion),
            parts.Series(name="flagged", tone="tone-5", points=flagged),
        ),
    )
    return (traffic_panel(windows), accuracy, suspicious, _drift_panel(store, model, version, windows, signals))


def _drift_panel(
    store: Store, model: str, version: str, windows: Sequence[WindowLine], signals: Sequence[parts.SignalLine]
) -> parts.Panel:
    """The largest signals in units of their thresholds: 1 is the threshold."""
    keys = [(s.method, s.subject) for s in signals if s.ratio is not None]
    found = signal_series(store, model, version, "window", keys)
    series = tuple(
        parts.Series(
            name=f"{words.plain(method)} {subject}",
            tone=TONES[i % len(TONES)],
            points=tuple(
                parts.Point(
                    at_s=p.start_s, value=p.value / p.threshold if p.value is not None and p.threshold else None
                )
                for p in points
            ),
            marks=len(points) <= SPARSE,
        )
        for i, ((method, subject), points) in enumerate(found.items())
    )
    return parts.Panel(
        key="drift",
        title="Drift",
        hint="the largest signals of the newest window, in units of their thresholds",
        unit="ratio",
        axis=_axis(windows),
        series=series,
        limit=1.0,
        limit_name="threshold",
    )


def _pooled(sums: dict[int, Totals]) -> tuple[parts.Point, ...]:
    """Audited accuracy over successive windows that together have `AUDITS` labels: two labels are no estimate."""
    points: list[parts.Point] = []
    pool = Totals()
    for at, total in sums.items():
        pool.audit_labelled += total.audit_labelled
        pool.audit_correct += total.audit_correct
        if pool.audit_labelled >= AUDITS:
            points.append(parts.Point(at_s=at, value=pool.audit_accuracy, n=pool.audit_labelled))
            pool = Totals()
    return tuple(points)


def _by_start(windows: Sequence[WindowLine]) -> dict[int, Totals]:
    """Sums over variants and versions by start, in order of time."""
    sums: dict[int, Totals] = {}
    for line in windows:
        sums.setdefault(line.start_s, Totals()).add(line)
    return dict(sorted(sums.items()))


def _axis(windows: Sequence[WindowLine]) -> parts.Axis:
    step = max(w.length_s for w in windows)
    start, end = min(w.start_s for w in windows), max(w.start_s + w.length_s for w in windows)
    # A handful of windows drawn over the whole width would look like a bar chart of nothing.
    start = min(start, end - 12 * step)
    return parts.Axis(from_s=start, to_s=end, step_s=step)


def _length(windows: Sequence[WindowLine]) -> str:
    step = max(w.length_s for w in windows)
    return "minute" if step == 60 else f"{step // 60} minutes" if step % 60 == 0 else f"{step} s"
