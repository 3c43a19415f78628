"""What reports say, in the database: the figures of every column, kept longer than the pages; and labelled answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.origins import NOT_TRAFFIC
from monitoring.report_shelf import Report, ReportKind, parse_rfc3339
from monitoring.store import Store

MAX_REPORTS = 60  # newest of a version whose columns make a series


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportFigure:
    """One column or measure of one report. Columns as in `monitoring.schema.report_columns`."""

    report_id: str
    model: str
    version: str
    kind: str
    cause: str
    start_s: int
    end_s: int
    name: str
    method: str
    threshold: float | None
    value: float | None
    drifted: bool
    rows: int

    @property
    def ratio(self) -> float | None:
        """Value in thresholds; None without either."""
        return None if self.value is None or not self.threshold else self.value / self.threshold


def write_figures(store: Store, report: Report) -> None:
    """Keep what a finished report says; the same report again takes the place of what it said."""
    start_s, end_s = (int(parse_rfc3339(x).timestamp()) for x in (report.start, report.end))
    about = {"report_id": report.id, "model": report.model, "version": report.version, "rows": report.current_rows}
    about |= {"kind": report.kind.value, "cause": report.cause.value, "start_s": start_s, "end_s": end_s}
    rows = [
        about
        | {
            "position": i,
            "name": column.column[:128],
            "method": column.method[:32],
            "threshold": column.threshold,
            "value": column.value,
            "drifted": column.drifted,
        }
        for i, column in enumerate(report.columns)
    ]
    with store.write() as connection:
        connection.execute(t.report_columns.delete().where(t.report_columns.c.report_id == report.id))
        if rows:
            connection.execute(t.report_columns.insert(), rows)


def read_figures(
    store: Store, model: str, version: str, kind: ReportKind = ReportKind.DRIFT, reports: int = MAX_REPORTS
) -> tuple[ReportFigure, ...]:
    """Figures of the newest reports of a version, oldest report first, in the order of each."""
    r = t.report_columns.c
    about = (r.model == model, r.version == version, r.kind == kind.value)
    newest = (
        sa.select(r.report_id)
        .where(*about)
        .group_by(r.report_id)
        .order_by(sa.func.max(r.end_s).desc(), r.report_id)
        .limit(reports)
    )
    query = sa.select(t.report_columns).where(r.report_id.in_(newest.scalar_subquery()))
    with store.read() as connection:
        rows = connection.execute(query.order_by(r.end_s, r.report_id, r.position)).mappings().all()
    names = ReportFigure.__slots__
    return tuple(ReportFigure(**{name: row[name] for name in names}) for row in rows)


def labelled_answers(
    store: Store, model: str, version: str, start_ns: int, end_ns: int, limit: int
) -> tuple[list[Mapping[str, Any]], int]:
    """Records of a span that have a label, and how many there are. Past `limit` those with the lowest hash of the id.

    The hash of an id says nothing of its content, so they are a uniform sample, and the same one every time.
    """
    r, v = t.records.c, t.versions.c
    where = (
        v.model == model,
        v.version == version,
        r.time_ns >= start_ns,
        r.time_ns < end_ns,
        r.label.is_not(None),
        r.variant.not_in(NOT_TRAFFIC),
    )
    columns = (r.label, r.predicted, r.predicted_rows, r.value, r.rows)
    joined = sa.select(*columns).join(t.versions, r.version_id == v.id).where(*where)
    count = sa.select(sa.func.count()).select_from(t.records.join(t.versions, r.version_id == v.id)).where(*where)
    with store.read() as connection:
        rows = connection.execute(joined.order_by(r.id_hash, r.time_ns).limit(limit)).mappings().all()
        total = int(connection.scalar(count) or 0)
    return [dict(row) for row in rows], total
