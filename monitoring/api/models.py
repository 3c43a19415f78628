"""What the API answers, as pydantic models: the OpenAPI document is made of these."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from export.contracts.cases import CaseState, FlagReason
from export.contracts.traffic import ChallengerMode
from monitoring.api.fields import Answer, Label, Share, Time
from monitoring.feedback_held import Held
from monitoring.review.contracts import Verdict


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
    precision: Share | None = Field(description="Share of predicted labels or boxes that are true.")
    recall: Share | None = Field(description="Share of true labels or boxes that were predicted.")
    mean_error: float | None = Field(description="Mean absolute error of a regression, in tolerances.")


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


class Standing(Answer):
    """Where a case stands with its reviewers."""

    state: CaseState
    edition: int = Field(description="Counts up with every decision and every undo; who decides names it.")
    lease_by: str | None = Field(description="Who has it now; null where nobody has.")
    lease_until: Time | None = None
    assignee: str | None = Field(description="Who shall look; null is anybody.")
    priority: int = Field(description="Above the queue's own order, higher first.")
    opinions: int = Field(description="Reviewers who must agree before it is settled.")
    verdict: Verdict | None = Field(description="The settled verdict.")
    label: Label = Field(description="The settled label.")
    decided_by: str | None
    decided_at: Time | None


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
    group_id: str | None = Field(description="Case that stands for this one; null while that is not worked out.")
    likeness: float | None = Field(description="Cosine to that case; 1 for the same input.")
    input: str | None = Field(description="Address of the kept input, if it is kept.")
    picture: str | None = Field(description="Address of the input as PNG, if it is a picture.")
    standing: Standing


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
    held: Held = Field(description="What became of it: of several labels the newest counts, by the time it speaks of.")
    because: str = Field(description="Why, in a sentence.")


class CaseDetail(Case):
    """A failure case with everything that is known."""

    task: str | None = Field(description="Kind of task; null when the registry does not know the version.")
    answer: Label = Field(description="What was answered, where a class does not say it: labels, values or boxes.")
    truth: Label = Field(description="What the label says of this row, in the same form; null while nobody has said.")
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
    answer: Label = Field(description="One entry a row, where a class does not say what was answered.")
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


class TargetGroup(Answer):
    """Prometheus HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str]
