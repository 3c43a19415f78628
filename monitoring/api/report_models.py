"""What the API answers about drift reports."""

from __future__ import annotations

from pydantic import Field

from monitoring.api.fields import Answer
from monitoring.report_shelf import ReportState


class ReportColumn(Answer):
    """One column of a drift report."""

    column: str
    method: str
    threshold: float
    value: float | None
    drifted: bool


class Report(Answer):
    """A drift report."""

    id: str
    model: str
    version: str
    start: str
    end: str
    state: ReportState
    created_at: str
    finished_at: str | None
    error: str | None
    reference_rows: int
    current_rows: int
    total_rows: int
    dropped_rows: int
    drifted: int
    columns: list[ReportColumn]
    html: str | None = Field(description="Address of the report for people, when it is done.")
    json_: str | None = Field(alias="json", description="Address of the library's own JSON, when it is done.")


class Reports(Answer):
    """Reports, newest first."""

    reports: list[Report]
