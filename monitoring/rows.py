"""What the store answers: one frozen record a row, named as in `monitoring.schema`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitoring.review.contracts import Standing


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionRow:
    """A version that has been seen in the log."""

    id: int
    model: str
    version: str
    digest: str
    first_ns: int
    last_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowRow:
    """One window of one version and variant. `stats` is decoded by `monitoring.windows.WindowStats.decode`."""

    id: int
    model: str
    version: str
    variant: str
    start_s: int
    length_s: int
    requests: int
    rows: int
    outcomes: Mapping[str, int]
    flagged: int
    labelled: int
    correct: int
    audit_labelled: int
    audit_correct: int
    late: int
    p_wrong_mean: float | None
    stats: bytes

    @property
    def accuracy(self) -> float | None:
        """Share of labelled rows that were right; None without labels."""
        return self.correct / self.labelled if self.labelled else None

    @property
    def audit_accuracy(self) -> float | None:
        """The same over the uniformly drawn audit records only, which makes it unbiased; None without labels."""
        return self.audit_correct / self.audit_labelled if self.audit_labelled else None


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalRow:
    """One drift signal. `value` is None unless `state` is "ok"."""

    model: str
    version: str
    scope: str
    start_s: int
    length_s: int
    kind: str
    method: str
    subject: str
    state: str
    value: float | None
    threshold: float | None
    threshold_source: str
    exceeded: bool
    rows: int
    detail: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseRow:
    """A failure case. Columns as in `monitoring.schema.cases`."""

    id: str
    record_id: str
    model: str
    version: str
    variant: str
    time_ns: int
    window_start_s: int
    state: str
    reasons: tuple[str, ...]
    rank: float
    p_wrong: float | None
    confidence: float | None
    predicted: int | None
    predicted_label: str | None
    answer: Any
    label: Any
    correct: bool | None
    scores: Mapping[str, float | None]
    probabilities: tuple[float, ...] | None
    outcome: str
    error: str | None
    rows: int
    row: int
    inclusion_probability: float | None
    timing_us: Mapping[str, int]
    params: str | None
    trace_id: str | None
    tags: str | None
    comment: str | None
    source: str
    input_state: str
    group_id: str | None = None
    likeness: float | None = None
    standing: Standing = field(default_factory=Standing)


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorRow:
    """A tensor kept with a case: row-major little-endian `data`, batch axis first; BYTES as on the wire."""

    direction: str
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordRow:
    """What the index knows of a record."""

    record_id: str
    model: str
    version: str
    variant: str
    time_ns: int
    outcome: str
    rows: int
    predicted: int | None
    confidence: float | None
    p_wrong: float | None
    value: float | None
    answer: Any
    reasons: tuple[str, ...]
    probability: float
    label: Any
    correct_rows: int | None
    case_id: str
    has_case: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackRow:
    """What somebody said about a record."""

    model: str
    record_id: str
    time_ns: int
    label: Any
    labels: tuple[str, ...] | None
    score: float | None
    comment: str | None
    author: str | None
    joined: bool
    id: int = 0  # counts up as feedback arrives


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountingRow:
    """Conservation of one source: requests = captured + sampled_out + sum(dropped) + lost + corrupt."""

    source: str
    model: str
    version: str
    requests: int
    captured: int
    sampled_out: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
    corrupt: int = 0
    final: bool = False
    ingested: int = 0

    @property
    def unexplained(self) -> int:
        """Requests that no counter explains: 0 whenever the source is quiet."""
        explained = self.captured + self.sampled_out + sum(self.dropped.values()) + self.lost + self.corrupt
        return self.requests - explained


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterRow:
    """A record, or a whole frame (`item` -1), that could not be read."""

    source: str
    segment: int
    sequence: int
    item: int
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRow:
    """Something that happened to a replica."""

    source: str
    time_ns: int
    kind: str
    model: str
    version: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class CasePage:
    """A page of cases. `cursor` asks for the next one; None when this is the last."""

    cases: tuple[CaseRow, ...]
    cursor: str | None
