"""What each page shows: one frozen record a page. `?format=json` answers the same record as JSON.

Times are RFC 3339 texts, shares lie in 0..1, what is not known is None. Templates only format; they compute nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.alarm_parts import AlarmLine, HistoryLine, MovedLine, SilenceLine, WatchCard
from monitoring.console.answer_parts import AnswerPart
from monitoring.console.case_parts import Bar, FeedbackLine, ScoreLine, Span
from monitoring.console.drift_parts import Evidently, MoveLine, SliceLine
from monitoring.console.fit_parts import FitsBlock
from monitoring.console.input_parts import InputsBlock, InputView
from monitoring.console.parts import (
    AccuracyBlock,
    Balance,
    CaseCard,
    Choice,
    EventLine,
    Fact,
    ModelCard,
    Need,
    Panel,
    ReportLine,
    Shell,
    SignalLine,
    Tile,
    VersionLine,
)
from monitoring.console.review_parts import ActLine, Pad, SaidLine, StandingLine
from monitoring.console.slice_parts import LikeCard


@dataclass(frozen=True, kw_only=True, slots=True)
class OverviewPage:
    """What needs somebody now, the models at a glance, and whether everything is accounted for."""

    shell: Shell
    needs: tuple[Need, ...]
    tiles: tuple[Tile, ...]
    models: tuple[ModelCard, ...]
    balance: Balance
    events: tuple[EventLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPage:
    """One version of a model over time."""

    shell: Shell
    model: str
    task: str | None
    version: str | None
    versions: tuple[VersionLine, ...]
    tabs: tuple[Choice, ...]
    accuracy: AccuracyBlock | None
    fits: FitsBlock | None
    panels: tuple[Panel, ...]
    signals: tuple[SignalLine, ...]
    signals_at: str | None
    worst: tuple[CaseCard, ...]
    report_from: str
    report_to: str
    kept: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftPage:
    """What moved in one version's traffic. `problem` says why there is nothing to see."""

    shell: Shell
    model: str
    version: str
    versions: tuple[Choice, ...]
    spans: tuple[Choice, ...]
    start: str | None
    end: str | None
    rows: int
    windows: int
    problem: str | None
    moved: int
    compared: int
    moves: tuple[MoveLine, ...]
    more: tuple[MoveLine, ...]
    timeline: Panel | None
    slices: tuple[SliceLine, ...]
    slices_moved: int
    evidently: Evidently | None
    report_from: str
    report_to: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CasePage:
    """Everything about one case. `pad` and `standing` are as on the review page."""

    shell: Shell
    actor: str
    may_decide: bool
    card: CaseCard
    verdict: str
    verdict_tone: str
    standing: StandingLine
    pad: Pad
    why: tuple[Fact, ...]
    inputs: InputsBlock
    outputs: tuple[InputView, ...]
    answer: AnswerPart
    bars: tuple[Bar, ...]
    hidden_classes: int
    scores: tuple[ScoreLine, ...]
    said: tuple[SaidLine, ...]
    spans: tuple[Span, ...]
    total_us: int
    facts: tuple[Fact, ...]
    tensors: tuple[Fact, ...]
    feedback: tuple[FeedbackLine, ...]
    feedback_doubt: str
    history: tuple[ActLine, ...]
    labels: tuple[str, ...]
    download: str | None
    error: str | None
    slices: tuple[Fact, ...]
    stands_for: int
    members: tuple[Fact, ...]
    like: tuple[LikeCard, ...]
    like_missing: str | None
    like_cases: tuple[LikeCard, ...]
    reference: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportsPage:
    """All drift reports."""

    shell: Shell
    reports: tuple[ReportLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportPage:
    """One drift report: our summary of it, and the way to the whole one."""

    shell: Shell
    report: ReportLine
    columns: tuple[SignalLine, ...]
    html: str | None
    json: str | None
    busy: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmsPage:
    """How the models are watched, their alarms, and who holds back what."""

    shell: Shell
    model: str | None
    watching: tuple[WatchCard, ...]
    alarms: tuple[AlarmLine, ...]
    silences: tuple[SilenceLine, ...]
    promises: tuple[Choice, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmPage:
    """One alarm with its evidence. `moved` is None until the signals are computed."""

    shell: Shell
    alarm: AlarmLine
    facts: tuple[Fact, ...]
    panels: tuple[Panel, ...]
    history: tuple[HistoryLine, ...]
    moved: tuple[MovedLine, ...] | None
    failing: tuple[CaseCard, ...]
    drift: str
    reports: tuple[ReportLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorPage:
    """What went wrong, for a person."""

    shell: Shell
    status: int
    text: str
