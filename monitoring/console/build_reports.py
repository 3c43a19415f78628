"""The pages about Evidently's reports."""

from __future__ import annotations

from monitoring.console import contexts as c
from monitoring.console import parts
from monitoring.report_shelf import Report, ReportCause, ReportKind, ReportState

TITLES = {
    ReportKind.DRIFT: "Drift report",
    ReportKind.SUMMARY: "Data summary",
    ReportKind.QUALITY: "Quality report",
}
CAUSES = {
    ReportCause.ASKED: "on request",
    ReportCause.SCHEDULE: "on schedule",
    ReportCause.ALARM: "at an alarm",
}


def report_line(report: Report) -> parts.ReportLine:
    """A report in a list."""
    sampled = report.sampling or f"{report.current_rows:,} of {report.total_rows:,} records"
    return parts.ReportLine(
        id=report.id,
        model=report.model,
        version=report.version,
        start=report.start,
        end=report.end,
        state=report.state.value,
        error=report.error,
        drifted=report.drifted,
        columns=len(report.columns),
        created_at=report.created_at,
        rows=sampled if report.total_rows else "",
        kind=report.kind.value,
        title=TITLES[report.kind],
        cause=CAUSES[report.cause],
        alarm=report.alarm,
    )


def report_page(shell: parts.Shell, report: Report) -> c.ReportPage:
    """One report."""
    columns = tuple(
        parts.SignalLine(
            kind="",
            method=col.method,
            subject=col.column,
            state="ok" if col.value is not None else "not_enough_data",
            value=col.value,
            threshold=col.threshold,
            threshold_source="",
            ratio=None if col.value is None or not col.threshold else col.value / col.threshold,
            exceeded=col.drifted,
            rows=report.current_rows,
        )
        for col in report.columns
    )
    done = report.state is ReportState.DONE
    return c.ReportPage(
        shell=shell,
        report=report_line(report),
        columns=tuple(sorted(columns, key=lambda s: (s.ratio is None, -(s.ratio or 0.0)))),
        html=f"/api/reports/{report.id}.html" if done else None,
        json=f"/api/reports/{report.id}.json" if done else None,
        busy=report.state in (ReportState.QUEUED, ReportState.RUNNING),
    )
