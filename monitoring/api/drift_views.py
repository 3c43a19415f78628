"""Spans of windows as the API's answers about what moved."""

from __future__ import annotations

from dataclasses import asdict

from monitoring.api import asks, fields, report_models
from monitoring.api import drift_models as m
from monitoring.api.views import View
from monitoring.baseline import Baseline
from monitoring.drift_spans import SpanDrift, distribution, since, span_drift
from monitoring.move_words import sentence
from monitoring.moves import Move
from monitoring.report_rows import read_figures
from monitoring.slice_drift import SliceDrift
from monitoring.slice_rows import newest_slices

TIMELINES = 6  # of the first moves
NANOSECONDS = 1_000_000_000


def moves(view: View, model: str, query: asks.MoveQuery) -> m.Moves:
    """What moved in a span.

    Raises:
        NotFound: unknown model or version.
    """
    view.known(model, query.version)
    version = query.version or view.default_version(model)
    baseline = view.baseline(model, version)
    span = span_drift(
        view.store,
        baseline,
        view.drift_options,
        model=model,
        version=version,
        from_s=None if query.start is None else int(query.start.timestamp()),
        to_s=None if query.end is None else int(query.end.timestamp()),
        timelines=min(TIMELINES, query.limit),
        each=query.each,
    )
    return m.Moves(
        model=model,
        version=version,
        start=_time(span.start_s),
        end=_time(span.end_s),
        rows=span.rows,
        windows=span.windows,
        problem=span.problem or None,
        moved=sum(move.moved for move in span.moves),
        compared=len(span.moves),
        moves=[_move(baseline, span, move) for move in span.moves[: query.limit]],
    )


def slices(view: View, model: str, query: asks.SliceMoveQuery) -> m.SliceMoves:
    """Which slices moved.

    Raises:
        NotFound: unknown model or version.
    """
    view.known(model, query.version)
    version = query.version or view.default_version(model)
    to_s = None if query.end is None else int(query.end.timestamp())
    found = newest_slices(view.store, view.baseline(model, version), view.drift_options, model, version, to_s)
    return m.SliceMoves(
        model=model,
        version=version,
        moved=sum(s.size > 1.0 for s in found),
        compared=sum(s.move is not None for s in found),
        slices=[_slice(s) for s in found[: query.limit]],
    )


def figures(view: View, model: str, query: asks.FigureQuery) -> report_models.ReportFigures:
    """What reports said of each column.

    Raises:
        NotFound: unknown model or version.
    """
    view.known(model, query.version)
    version = query.version or view.default_version(model)
    same = ("report_id", "kind", "cause", "name", "method", "threshold", "value", "drifted", "rows")
    made = [
        report_models.ReportFigure.model_validate(
            {n: getattr(row, n) for n in same} | {"start": _time(row.start_s), "end": _time(row.end_s)}
        )
        for row in read_figures(view.store, model, version, query.kind, query.reports)
    ]
    return report_models.ReportFigures(model=model, version=version, figures=made)


def _slice(found: SliceDrift) -> m.SliceMove:
    same = {n: getattr(found, n) for n in ("attribute", "value", "state", "words", "rows", "rows_before", "against")}
    return m.SliceMove(
        **same,
        moved=found.size > 1.0,
        size=None if found.move is None else found.size,
        subject=None if found.move is None else found.move.subject,
        start=_time(found.start_s),
        p_wrong=found.p_wrong,
        p_wrong_before=found.p_wrong_before,
    )


def _move(baseline: Baseline, span: SpanDrift, move: Move) -> m.Move:
    assert span.before is not None
    assert span.after is not None
    points = span.timelines.get((move.kind, move.subject))
    drawn = distribution(baseline, span.before, span.after, move)
    signature = None if baseline.manifest is None else baseline.manifest.signature
    same = {name: getattr(move, name) for name in ("kind", "subject", "moved", "size", "value", "threshold")}
    more = {name: getattr(move, name) for name in ("share_before", "share_after", "towards", "away")}
    return m.Move(
        **same,
        **more,
        sentence=sentence(move, signature),
        method=move.method.value,
        rows_before=move.before,
        rows_after=move.after,
        since=None if points is None else _time(since(points)),
        before=None if move.spread_before is None else m.Quantiles.model_validate(move.spread_before),
        after=None if move.spread_after is None else m.Quantiles.model_validate(move.spread_after),
        distribution=None if drawn is None else m.Distribution.model_validate(asdict(drawn)),
        timeline=None
        if points is None
        else [
            m.SizePoint(
                start=fields.from_ns(p.start_s * NANOSECONDS), end=fields.from_ns(p.end_s * NANOSECONDS), size=p.size
            )
            for p in points
        ],
    )


def _time(at_s: int | None) -> fields.Time | None:
    return None if at_s is None else fields.from_ns(at_s * NANOSECONDS)
