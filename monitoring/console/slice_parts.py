"""What the pages about slices, batches and like records are made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.parts import CaseCard, Choice, Fact, Panel, Shell


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceCard:
    """A slice in the list. `basis` says what the rate rests on; `tone` is its state's."""

    id: str
    model: str
    version: str | None
    sentence: str
    words: str
    rate: float
    low: float
    high: float
    overall: float
    basis: str
    rows: int
    state: str
    state_words: str
    tone: str
    current: bool
    edition: int
    owner: str | None
    waiting: int
    watch: str
    watch_firing: bool
    first_at: str
    last_at: str
    trend: Panel
    examples: tuple[CaseCard, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLine:
    """A labelling batch. `share` of its cases is decided."""

    id: str
    name: str
    model: str | None
    slice_id: str | None
    state: str
    note: str
    by: str
    at: str
    cases: int
    waiting: int
    decided: int
    gone: int
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SetLine:
    """A protected test set. `compare` leads to two versions on it."""

    id: str
    name: str
    items: int
    at: str
    by: str
    compare: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryLine:
    """Something that was done about a slice. `said` is a comment, in the person's words."""

    at: str
    actor: str
    text: str
    said: str
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicesPage:
    """Groups of records that fail more than the rest, as an error tracker shows issues."""

    shell: Shell
    tabs: tuple[Choice, ...]
    models: tuple[Choice, ...]
    current: tuple[SliceCard, ...]
    earlier: tuple[SliceCard, ...]
    any: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicePage:
    """One slice: how it does over time, what is done about it, and its cases."""

    shell: Shell
    card: SliceCard
    trend: Panel
    facts: tuple[Fact, ...]
    explains: tuple[str, ...]
    cases: tuple[CaseCard, ...]
    story: tuple[StoryLine, ...]
    batches: tuple[BatchLine, ...]
    sets: tuple[SetLine, ...]
    parts: tuple[Fact, ...]
    versions: tuple[Choice, ...]
    others: tuple[Choice, ...]
    splits: tuple[Choice, ...] | None
    watch_percent: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchesPage:
    """Labelling batches and protected test sets."""

    shell: Shell
    batches: tuple[BatchLine, ...]
    sets: tuple[SetLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPage:
    """One batch with the cases that wait in it, and those that are decided."""

    shell: Shell
    batch: BatchLine
    slice_words: str
    cases: tuple[CaseCard, ...]
    more: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LikeCard:
    """A recorded input that is like the case's."""

    href: str
    picture: str | None
    likeness: float
    predicted: str | None
    p_wrong: float | None
    label: str | None
    correct: bool | None
    at: str
