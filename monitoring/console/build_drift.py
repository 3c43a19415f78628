"""The Drift page: what moved, since when, before and after, slice by slice, and what Evidently says of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from monitoring.api import asks, drift_views, fields, report_models
from monitoring.api import drift_models as m
from monitoring.api.views import View
from monitoring.console import contexts as c
from monitoring.console import drift_parts as d
from monitoring.console import parts
from monitoring.console.build import Builder
from monitoring.console.histograms import histogram

TONES = ("tone-1", "tone-4", "tone-3", "tone-5", "tone-2")
SHOWN = 12  # moves with a picture
SPANS = {"1h": ("last hour", 3600), "6h": ("6 hours", 21_600), "24h": ("24 hours", 86_400), "all": ("all", 0)}


def drift_page(builder: Builder, model: str, asked: asks.MoveQuery, span: str) -> c.DriftPage:
    """One version of a model over a span of time."""
    view = builder.view
    view.known(model, asked.version)
    version = asked.version or view.default_version(model)
    query = _query(view, model, version, asked, span)
    found = drift_views.moves(view, model, query)
    parted = drift_views.slices(view, model, asks.SliceMoveQuery.model_validate({"version": version, "to": query.end}))
    return c.DriftPage(
        shell=builder.shell("overview"),
        model=model,
        version=version,
        versions=tuple(
            parts.Choice(value=v, label=v, chosen=v == version, href=_href(model, v, span))
            for v in sorted({row.version for row in view.store.versions(model) if row.version})
        ),
        spans=tuple(
            parts.Choice(value=key, label=label, chosen=key == span, href=_href(model, version, key))
            for key, (label, _) in SPANS.items()
        ),
        start=None if found.start is None else fields.to_text(found.start),
        end=None if found.end is None else fields.to_text(found.end),
        rows=found.rows,
        windows=found.windows,
        problem=found.problem,
        moved=found.moved,
        compared=found.compared,
        moves=tuple(_line(move) for move in found.moves[:SHOWN]),
        more=tuple(_line(move) for move in found.moves[SHOWN:]),
        timeline=_timeline(found),
        slices=tuple(_slice(s) for s in parted.slices),
        slices_moved=parted.moved,
        evidently=_evidently(drift_views.figures(view, model, asks.FigureQuery.model_validate({"version": version}))),
        report_from="" if found.start is None else fields.to_text(found.start),
        report_to="" if found.end is None else fields.to_text(found.end),
    )


def _query(view: View, model: str, version: str, asked: asks.MoveQuery, span: str) -> asks.MoveQuery:
    """The span in terms of the version's newest record, so that a day of last week can be looked at like today."""
    start, end = asked.start, asked.end
    seconds = SPANS[span][1] if span in SPANS else 0
    if start is None and end is None and seconds:
        newest = max((v.last_ns for v in view.store.versions(model) if v.version == version), default=0)
        end = fields.from_ns(newest) + timedelta(seconds=1)
        start = end - timedelta(seconds=seconds)
    return asked.model_copy(update={"version": version, "start": start, "end": end, "limit": 40})


def _line(move: m.Move) -> d.MoveLine:
    drawn = move.distribution
    return d.MoveLine(
        kind=move.kind.value,
        subject=move.subject,
        sentence=move.sentence[:1].upper() + move.sentence[1:],
        moved=move.moved,
        size=move.size,
        method=move.method,
        value=move.value,
        threshold=move.threshold,
        rows_before=move.rows_before,
        rows_after=move.rows_after,
        since=None if move.since is None else fields.to_text(move.since),
        histogram=None if drawn is None else histogram(drawn.labels, drawn.before, drawn.after, drawn.numeric),
    )


def _slice(found: m.SliceMove) -> d.SliceLine:
    same = ("attribute", "value", "words", "moved", "size", "rows", "rows_before", "against", "p_wrong")
    return d.SliceLine(
        **{name: getattr(found, name) for name in same},
        state=found.state.value,
        p_wrong_before=found.p_wrong_before,
    )


def _evidently(found: report_models.ReportFigures) -> d.Evidently | None:
    """Its newest report, and the columns that are farthest there over all of its reports."""
    if not found.figures:
        return None
    newest = found.figures[-1]
    lines = [
        d.FigureLine(
            name=f.name,
            method=f.method,
            value=f.value,
            threshold=f.threshold,
            ratio=f.value / f.threshold if f.value is not None and f.threshold else None,
            drifted=f.drifted,
        )
        for f in found.figures
        if f.report_id == newest.report_id
    ]
    lines.sort(key=lambda line: (line.ratio is None, -(line.ratio or 0.0), line.name))
    return d.Evidently(
        report_id=newest.report_id,
        at=fields.to_text(newest.end),
        cause=newest.cause.value,
        rows=newest.rows,
        columns=tuple(lines),
        drifted=sum(line.drifted for line in lines),
        panel=_evidently_panel(found, [line.name for line in lines[: len(TONES)]]),
    )


def _evidently_panel(found: report_models.ReportFigures, names: Sequence[str]) -> parts.Panel:
    start, end = found.figures[0].start, max(f.end for f in found.figures)
    lengths = [int((f.end - f.start).total_seconds()) for f in found.figures]
    series = tuple(
        parts.Series(
            name=name,
            tone=tone,
            points=tuple(
                parts.Point(
                    at_s=int(f.start.timestamp()),
                    value=f.value / f.threshold if f.value is not None and f.threshold else None,
                    n=f.rows,
                )
                for f in found.figures
                if f.name == name
            ),
            marks=True,
        )
        for name, tone in zip(names, TONES, strict=False)
    )
    return parts.Panel(
        key="evidently",
        title="Evidently, report by report",
        hint="its distances in units of its thresholds, at the start of each report's range",
        unit="ratio",
        axis=parts.Axis(from_s=int(start.timestamp()), to_s=int(end.timestamp()), step_s=min(lengths)),
        series=series,
        limit=1.0,
        limit_name="threshold",
    )


def _timeline(found: m.Moves) -> parts.Panel | None:
    """The first moves over time, in units of their thresholds."""
    lines = [move for move in found.moves if move.timeline][: len(TONES)]
    if not lines or found.start is None or found.end is None:
        return None
    series = tuple(_series(move, tone) for move, tone in zip(lines, TONES, strict=False))
    points = [p for move in lines for p in move.timeline or ()]
    step = max(int((p.end - p.start).total_seconds()) for p in points)
    return parts.Panel(
        key="moved",
        title="Since when",
        hint="what moved most, over time, in units of its threshold",
        unit="ratio",
        axis=parts.Axis(from_s=int(found.start.timestamp()), to_s=int(found.end.timestamp()), step_s=step),
        series=series,
        limit=1.0,
        limit_name="threshold",
    )


def _series(move: m.Move, tone: str) -> parts.Series:
    points: Sequence[m.SizePoint] = move.timeline or ()
    return parts.Series(
        name=move.subject if move.kind.value != "prediction" else f"class {move.subject}",
        tone=tone,
        points=tuple(parts.Point(at_s=int(p.start.timestamp()), value=p.size) for p in points),
        marks=len(points) <= 40,
    )


def _href(model: str, version: str, span: str) -> str:
    return f"/models/{model}/drift?version={version}&span={span}"
