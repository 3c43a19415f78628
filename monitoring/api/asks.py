"""What the API asks: queries and bodies. An unknown field is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from export.contracts.cases import CaseState, FlagReason
from monitoring.accuracy.estimate import AccuracyScope, Method
from monitoring.api.fields import Asked, AskedTime, Name, Share
from monitoring.report_shelf import ReportKind
from monitoring.review.contracts import Verdict
from monitoring.store import CaseOrder


class ReportStart(Asked):
    """Which window to compare with the version's reference."""

    model: Name
    version: Name | None = Field(None, description="Default: the champion, or the version seen last.")
    start: AskedTime = Field(alias="from")
    end: AskedTime = Field(alias="to")
    kind: ReportKind = Field(ReportKind.DRIFT, description="What the report is about.")


class CaseFilter(Asked):
    """Which cases."""

    model: Name | None = None
    version: Name | None = None
    reason: FlagReason | None = None
    state: CaseState | None = None
    correct: bool | None = Field(None, description="Only cases whose answer is known to be right, or wrong.")
    min_score: Share | None = Field(None, description="Lowest P(wrong).")
    start: AskedTime | None = Field(None, alias="from")
    end: AskedTime | None = Field(None, alias="to")
    assignee: Annotated[str, StringConstraints(max_length=64)] | None = Field(None, description="Who shall look.")
    tag: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    verdict: Verdict | None = Field(None, description="What people settled.")
    grouped: bool = Field(False, description="Leave out cases that another one stands for.")

    def terms(self) -> dict[str, Any]:
        """As keywords of `monitoring.store_filters.case_filter`."""
        same = ("model", "version", "reason", "state", "correct", "assignee", "tag", "verdict", "grouped")
        return {name: getattr(self, name) for name in same} | {
            "min_p_wrong": self.min_score,
            "from_ns": None if self.start is None else int(self.start.timestamp()) * 1_000_000_000,
            "to_ns": None if self.end is None else int(self.end.timestamp()) * 1_000_000_000,
        }


class CaseQuery(CaseFilter):
    """Filters of the case list."""

    order: CaseOrder = Field(
        CaseOrder.RANK, description="rank: most probably wrong; queue: to look at next; time: newest."
    )
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = None
    limit: int = Field(50, ge=1, le=500)


class WindowQuery(Asked):
    """Which windows."""

    version: Name | None = None
    variant: Annotated[str, StringConstraints(max_length=16)] | None = None
    start: AskedTime | None = Field(None, alias="from")
    end: AskedTime | None = Field(None, alias="to")
    limit: int = Field(240, ge=1, le=5000)


class DriftQuery(Asked):
    """Which signals; without a range, those of the newest window of each version."""

    version: Name | None = None
    scope: Literal["window", "rolling"] = "rolling"
    start: AskedTime | None = Field(None, alias="from")
    end: AskedTime | None = Field(None, alias="to")
    exceeded: bool | None = None
    limit: int = Field(500, ge=1, le=5000)


class MoveQuery(Asked):
    """Which span of windows to compare with the reference; without one, the newest windows that are kept."""

    version: Name | None = None
    start: AskedTime | None = Field(None, alias="from")
    end: AskedTime | None = Field(None, alias="to")
    each: bool = Field(False, description="List features without names, such as pixels, one by one.")
    limit: int = Field(20, ge=1, le=500)


class SliceMoveQuery(Asked):
    """Slices of which version, and up to when."""

    version: Name | None = None
    end: AskedTime | None = Field(None, alias="to")
    limit: int = Field(50, ge=1, le=500)


class AccuracyQuery(Asked):
    """Which estimates; without a range, those of the newest window of each version."""

    version: Name | None = None
    variant: Annotated[str, StringConstraints(max_length=16)] = Field(
        "all", description='"all": everything that clients received; or a variant, where a version has several.'
    )
    scope: AccuracyScope | None = None
    method: Method | None = None
    start: AskedTime | None = Field(None, alias="from")
    end: AskedTime | None = Field(None, alias="to")
    limit: int = Field(500, ge=1, le=5000)


class FigureQuery(Asked):
    """Figures of which reports."""

    version: Name | None = None
    kind: ReportKind = ReportKind.DRIFT
    reports: int = Field(60, ge=1, le=200, description="Newest reports.")


class BacktestQuery(Asked):
    """Which history."""

    version: Name
    audit_labels: int = Field(100, ge=1, le=10_000, description="Labels that each tried audit has.")
    limit: int = Field(500, ge=1, le=2000, description="Newest windows with labels.")


class FitQuery(Asked):
    """Which version's refits; the champion's where none is named."""

    version: Name | None = None
    limit: int = Field(50, ge=1, le=500)


class ReportQuery(Asked):
    """Which reports."""

    model: Name | None = None
    alarm: Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")] | None = Field(
        None, description="Only those that this alarm started."
    )
    limit: int = Field(50, ge=1, le=200)
