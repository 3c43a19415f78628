"""What the API answers and asks, as pydantic models: the OpenAPI document is made of these."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

from export.contracts.cases import CaseState, FlagReason
from export.contracts.manifest import NAME_PATTERN
from export.contracts.traffic import ChallengerMode
from monitoring.report_shelf import ReportState
from monitoring.store import CaseOrder

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)


def _in_range(value: object) -> object:
    """Only RFC 3339 text with a zone, in the range that 64-bit nanoseconds hold."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or len(value) < 20 or value[10:11] not in "Tt":
        raise ValueError("must be an RFC 3339 time with a zone, as 2026-01-31T12:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be an RFC 3339 time with a zone, as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None or not EARLIEST <= moment < LATEST:
        raise ValueError("must have a zone and lie between the years 1970 and 2261")
    return moment.astimezone(UTC)


def to_text(moment: datetime) -> str:
    """UTC with microseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_ns(time_ns: int) -> datetime:
    """Nanoseconds since the epoch as a time; below a microsecond is dropped."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).replace(microsecond=time_ns // 1000 % 1_000_000)


Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN.pattern}$")]
Time = Annotated[AwareDatetime, PlainSerializer(to_text, return_type=str, when_used="json")]
AskedTime = Annotated[AwareDatetime, BeforeValidator(_in_range)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Label = str | int | float | bool | list[Any] | dict[str, Any] | None


class Answer(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Asked(BaseModel):
    """Base of what is asked: an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorBody(Answer):
    """Every answer that is not a success."""

    error: str = Field(description="What is wrong, in words; never a path or a traceback.")


class Health(Answer):
    """Liveness and readiness."""

    live: Literal[True] = True
    ready: bool = Field(description="The loop runs and is not too far behind the record log.")
    reasons: list[str] = Field(description="Why it is not ready.")
    heartbeat_age_s: float | None
    lag_s: float = Field(description="Age of the oldest record that is not consumed yet.")
    lag_bytes: int
    records: int = Field(description="Records consumed since the process started.")


class Plan(Answer):
    """The traffic plan."""

    revision: int
    champion: str | None
    challenger: str | None
    mode: ChallengerMode
    canary_percent: float
    changed_at: str
    author: str
    reason: str


class Quality(Answer):
    """How a version did over some windows. What is not known is null, never zero."""

    requests: int
    rows: int = Field(description="Scored rows.")
    failed: int = Field(description="Requests that the model did not answer.")
    outcomes: dict[str, int]
    flagged: int
    accuracy: Share | None = Field(description="Share of labelled rows that were right.")
    labelled: int
    audit_accuracy: Share | None = Field(description="The same over uniformly drawn audit records only: unbiased.")
    audit_labelled: int
    estimated_accuracy: float | None = Field(description="1 - mean P(wrong): expected without labels.")


class Version(Answer):
    """A version, registered, seen in the log, or both."""

    version: str
    digest: str | None
    task: str | None
    registered: bool
    first_at: Time | None
    last_at: Time | None
    quality: Quality
    signals_exceeded: int = Field(description="Drift signals over their threshold in the newest rolling window.")
    signals: int
    cases: dict[CaseState, int]


class ModelSummary(Answer):
    """A model in the list."""

    name: str
    plan: Plan | None
    versions: list[Version]


class Models(Answer):
    """All models."""

    models: list[ModelSummary]


class Window(Answer):
    """One window of one version and variant."""

    version: str
    variant: str
    start: Time
    length_s: int
    requests: int
    rows: int
    outcomes: dict[str, int]
    flagged: int
    accuracy: Share | None
    labelled: int
    audit_accuracy: Share | None
    audit_labelled: int
    p_wrong_mean: float | None


class Windows(Answer):
    """Windows, oldest first."""

    model: str
    windows: list[Window]


class Signal(Answer):
    """One drift signal. It informs; it never alarms."""

    version: str
    scope: str
    start: Time
    length_s: int
    kind: str
    method: str
    subject: str
    state: str = Field(description='"ok", or why there is no value.')
    value: float | None
    threshold: float | None
    threshold_source: str
    exceeded: bool
    rows: int


class Drift(Answer):
    """Signals of the newest window, or of a range."""

    model: str
    signals: list[Signal]


class Case(Answer):
    """A failure case."""

    id: str
    record_id: str
    model: str
    version: str
    variant: str
    time: Time
    state: CaseState
    reasons: list[FlagReason]
    p_wrong: float | None
    confidence: float | None
    predicted: int | None
    predicted_label: str | None
    label: Label
    correct: bool | None
    outcome: str
    error: str | None
    rows: int
    row: int = Field(description="The row that the scores speak of.")
    inclusion_probability: float | None = Field(description="With which an audit case was drawn.")
    input: str | None = Field(description="Address of the kept input, if it is kept.")
    picture: str | None = Field(description="Address of the input as PNG, if it is a picture.")


class Tensor(Answer):
    """A kept tensor, without its data."""

    direction: Literal["in", "out"]
    name: str
    datatype: str
    shape: list[int]
    size_bytes: int


class Feedback(Answer):
    """What somebody said about a record."""

    time: Time
    label: Label
    labels: list[str] | None
    score: float | None
    comment: str | None
    author: str | None


class CaseDetail(Case):
    """A failure case with everything that is known."""

    scores: dict[str, float | None]
    probabilities: list[float | None] | None
    class_names: list[str]
    timing_us: dict[str, int]
    params: str | None
    trace_id: str | None
    tags: str | None
    comment: str | None
    input_state: str
    tensors: list[Tensor]
    feedback: list[Feedback]


class Cases(Answer):
    """A page of cases."""

    cases: list[Case]
    next: str | None = Field(description="Cursor of the next page; null when this is the last.")


class Record(Answer):
    """What the index knows of a record."""

    record_id: str
    model: str
    version: str
    variant: str
    time: Time
    outcome: str
    rows: int
    predicted: int | None
    confidence: float | None
    p_wrong: float | None
    reasons: list[FlagReason]
    probability: float = Field(description="With which capture kept the record.")
    label: Label
    correct_rows: int | None
    case: str | None = Field(description="Id of its case, if there is one.")
    feedback: list[Feedback]


class Records(Answer):
    """Records with one id: more than one when a client used an id again."""

    records: list[Record]


class AccountingLine(Answer):
    """Conservation: requests = captured + sampled_out + dropped + lost + corrupt + unexplained."""

    source: str
    model: str
    version: str
    requests: int
    captured: int
    sampled_out: int
    dropped: dict[str, int]
    lost: int = Field(description="By a crash: counted, never written.")
    corrupt: int = Field(description="Written, and no longer readable.")
    ingested: int
    unexplained: int = Field(description="0 whenever the source is quiet.")


class Accounting(Answer):
    """All lines, and whether they balance."""

    lines: list[AccountingLine]
    requests: int
    captured: int
    ingested: int
    balanced: bool
    dead_letters: dict[str, int]


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


class ReportStart(Asked):
    """Which window to compare with the version's reference."""

    model: Name
    version: Name | None = Field(None, description="Default: the champion, or the version seen last.")
    start: AskedTime = Field(alias="from")
    end: AskedTime = Field(alias="to")


class TargetGroup(Answer):
    """Prometheus HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str]


class CaseQuery(Asked):
    """Filters of the case list."""

    model: Name | None = None
    version: Name | None = None
    reason: FlagReason | None = None
    state: CaseState | None = None
    correct: bool | None = Field(None, description="Only cases whose answer is known to be right, or wrong.")
    min_score: Share | None = Field(None, description="Lowest P(wrong).")
    start: AskedTime | None = Field(None, alias="from")
    end: AskedTime | None = Field(None, alias="to")
    order: CaseOrder = Field(CaseOrder.RANK, description="rank: most probably wrong first; time: newest first.")
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


class ReportQuery(Asked):
    """Which reports."""

    model: Name | None = None
    limit: int = Field(50, ge=1, le=200)
