"""What pages are made of: frozen records that several contexts share. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Shell:
    """What every page has around its content."""

    section: str  # "overview", "alarms", "cases", "reports" or ""
    ready: bool
    health: str  # one line
    open_cases: int
    firing: int = 0  # alarms
    who: str = ""  # who is signed in; "" where nobody has to
    admin: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A value of a series; None leaves a gap. `n` is what it rests on."""

    at_s: int
    value: float | None
    n: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A named line. `tone` picks its colour: one of the CSS classes `tone-*`."""

    name: str
    tone: str
    points: tuple[Point, ...]
    marks: bool = False  # draw dots too: sparse series


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """The time axis, in seconds since the epoch; `step_s` is a window's length. `counts` makes it one of labels."""

    from_s: int
    to_s: int
    step_s: int
    counts: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One chart: series over the same time axis.

    Attributes:
        unit: "count", "share" or "ratio".
        bars: Draw stacked bars instead of lines.
        limit: A horizontal line, with its name.
    """

    key: str
    title: str
    hint: str
    unit: str
    axis: Axis
    series: tuple[Series, ...]
    bars: bool = False
    limit: float | None = None
    limit_name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A figure at the top of a page."""

    label: str
    value: str
    note: str = ""
    tone: str = ""  # "", "good", "warn", "bad"
    href: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseCard:
    """A case in a grid."""

    id: str
    model: str
    version: str
    picture: str | None
    predicted: str | None
    label: str | None
    correct: bool | None
    confidence: float | None
    p_wrong: float | None
    reasons: tuple[str, ...]
    state: str
    outcome: str
    at: str
    record_id: str
    stands_for: int = 1  # flagged records that this one stands for, itself among them


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionLine:
    """A version in a table."""

    version: str
    role: str  # "champion", "shadow", "canary 10 %", ... or ""
    registered: bool
    requests: int
    failed: int
    accuracy: float | None
    labelled: int
    audit_accuracy: float | None
    audit_labelled: int
    estimated_accuracy: float | None
    signals_exceeded: int
    signals: int
    waiting: int
    last_at: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """A model on the overview."""

    name: str
    task: str | None
    versions: tuple[VersionLine, ...]
    traffic: Panel | None
    worst: tuple[CaseCard, ...]
    accuracy: AccuracyBlock | None
    accuracy_of: str
    rollout: str
    rollout_at: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """Something that somebody should do now, and the place to do it."""

    tone: str  # "bad", "warn" or ""
    text: str
    detail: str
    href: str
    action: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """The conservation line."""

    requests: int
    captured: int
    sampled_out: int
    dropped: int
    lost: int
    corrupt: int
    unexplained: int
    ingested: int
    dead_letters: int
    balanced: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class EventLine:
    """Something that happened to a replica."""

    at: str
    kind: str
    model: str
    version: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyLine:
    """What one method says of the accuracy. `share` is False for a regression's absolute error."""

    method: str
    name: str
    text: str
    over: str
    share: bool
    value: float | None
    low: float | None
    high: float | None
    labels: int
    trusted: bool
    best: bool
    missing: str
    caveat: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyBlock:
    """How accurate a version is now: the one estimate to believe, and all of them."""

    sentence: str
    value: float | None
    low: float | None
    high: float | None
    span: str
    how: str
    caveat: str
    trusted: bool
    error: str
    lines: tuple[AccuracyLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalLine:
    """A drift signal in the table. `ratio` is value / threshold, by which they are sorted."""

    kind: str
    method: str
    subject: str
    state: str
    value: float | None
    threshold: float | None
    threshold_source: str
    ratio: float | None
    exceeded: bool
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """An option of a filter, or a tab."""

    value: str
    label: str
    chosen: bool
    href: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """A drop-down of the case list."""

    name: str
    label: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """A named value; `code` draws it as an identifier that can be copied."""

    name: str
    value: str
    code: bool = False
    href: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportLine:
    """A report in a list."""

    id: str
    model: str
    version: str
    start: str
    end: str
    state: str
    error: str | None
    drifted: int
    columns: int
    created_at: str
    rows: str
    kind: str
    title: str
    cause: str
    alarm: str | None
