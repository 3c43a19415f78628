"""What the API asks: queries and bodies. An unknown field is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from export.contracts.cases import CaseState, FlagReason
from monitoring.accuracy.estimate import AccuracyScope, Method
from monitoring.api.fields import Asked, AskedTime, Name, Share, to_ns
from monitoring.listing.order import Format, Sort
from monitoring.listing.terms import Picked
from monitoring.report_shelf import ReportKind
from monitoring.review.contracts import Verdict


class ReportStart(Asked):
    """Which window to compare with the version's reference."""

    model: Name
    version: Name | None = Field(None, description="Default: the champion, or the version seen last.")
    start: AskedTime = Field(alias="from")
    end: AskedTime = Field(alias="to")
    kind: ReportKind = Field(ReportKind.DRIFT, description="What the report is about.")


Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class CaseFilter(Asked):
    """Which cases; everything that is given must hold."""

    q: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        None, description="A search: `model:digits class:7 score:>0.8 tag:night is:open after:24h free text`."
    )
    model: Name | None = None
    version: Name | None = None
    reason: FlagReason | None = None
    picked: Picked | None = Field(
        None, description="How it came to be a case: audit (drawn by lot), random (by lot, and nothing is odd), score, "
        "rule, people, disagreement."
    )  # fmt: skip
    state: CaseState | None = None
    correct: bool | None = Field(None, description="Only cases whose answer is known to be right, or wrong.")
    min_score: Share | None = Field(None, description="Lowest P(wrong).")
    max_score: Share | None = Field(None, description="Highest P(wrong).")
    start: AskedTime | None = Field(None, alias="from")
    end: AskedTime | None = Field(None, alias="to")
    predicted: Word | None = Field(None, alias="class", description="What was answered: a class by name or index.")
    label: Word | None = Field(None, description="What is right, by name or index.")
    tag: Word | None = Field(None, description="A reviewer's tag, or one that the client sent.")
    assignee: Word | None = Field(None, description="Who shall look.")
    decided_by: Word | None = Field(None, alias="by", description="Who decided.")
    verdict: Verdict | None = Field(None, description="What people settled.")
    slice: Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")] | None = Field(
        None, description="Id of a slice: the cases among its records."
    )
    record: Word | None = Field(None, description="How the record's id starts.")
    grouped: bool = Field(False, description="Leave out cases that another one stands for.")

    def terms(self) -> dict[str, Any]:
        """As `monitoring.listing.asked.terms_of` takes it."""
        times = {name: None if at is None else to_ns(at) for name, at in (("from_ns", self.start), ("to_ns", self.end))}
        others = ("min_score", "max_score", "start", "end")
        same = {name: getattr(self, name) for name in CaseFilter.model_fields if name not in others}
        return same | times | {"min_p_wrong": self.min_score, "max_p_wrong": self.max_score}


class CaseQuery(CaseFilter):
    """A page of the case list."""

    order: Sort = Field(
        Sort.RANK,
        description="rank: most probably wrong first; queue: to look at next; time: newest; oldest; unsure: least "
        "confident; decided: decided last.",
    )
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = None
    limit: int = Field(50, ge=1, le=500)


class IdQuery(CaseFilter):
    """Ids of cases."""

    order: Sort = Sort.RANK
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = None
    limit: int = Field(50_000, ge=1, le=50_000)


class FacetQuery(CaseFilter):
    """Counts by field."""

    limit: int = Field(20, ge=1, le=200, description="Values of a field, the most frequent.")


class ExportQuery(CaseFilter):
    """Which cases to write to a file, and how."""

    order: Sort = Sort.RANK
    limit: int = Field(50_000, ge=1, le=1_000_000)
    kind: Format = Field(Format.JSONL, alias="format", description="jsonl: one object a line; csv: RFC 4180.")
    inputs: bool = Field(False, description="Kept input tensors too, as base64 of their raw bytes.")


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
