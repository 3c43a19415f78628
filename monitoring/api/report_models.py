"""What the API answers about drift reports."""

from __future__ import annotations

from pydantic import Field

from monitoring.api.fields import Answer, Time
from monitoring.report_shelf import ReportCause, ReportKind, ReportState


class ReportColumn(Answer):
    """One figure of a report: a column's distance, or a measure of a column, a class or all rows."""

    column: str
    method: str
    threshold: float | None = Field(description="Null where the figure has none.")
    value: float | None
    drifted: bool


class Report(Answer):
    """A report."""

    id: str
    model: str
    version: str
    start: str
    end: str
    kind: ReportKind
    cause: ReportCause
    alarm: str | None = Field(description="The alarm that it was made for.")
    state: ReportState
    sampling: str = Field(description="Which records took part, in words.")
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


class ReportFigure(Answer):
    """What one report said of one column."""

    report_id: str
    kind: ReportKind
    cause: ReportCause
    start: Time
    end: Time
    name: str
    method: str
    threshold: float | None
    value: float | None
    drifted: bool
    rows: int


class ReportFigures(Answer):
    """Figures of a version's reports, oldest report first. They stay when the pages of a report are gone."""

    model: str
    version: str
    figures: list[ReportFigure]
