"""The pages about drift reports."""

from __future__ import annotations

from monitoring.console import contexts as c
from monitoring.console import parts
from monitoring.report_shelf import Report, ReportState


def report_line(report: Report) -> parts.ReportLine:
    """A report in a list."""
    sampled = f"{report.current_rows:,} of {report.total_rows:,} records"
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
            ratio=None if col.value is None else col.value / col.threshold,
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
