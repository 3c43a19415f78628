"""What the pages about data sets and lineage are made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.parts import CaseCard, Choice, Fact, Shell


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A piece of a bar. `x` and `width` are per cent; `tone` is a class of `console.css`."""

    name: str
    count: int
    x: float
    width: float
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BarLine:
    """A bar with its name: a class, a source, a split."""

    name: str
    count: int
    pieces: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetCard:
    """A snapshot in the list. `state_words` is "" while it is whole."""

    id: str
    name: str
    model: str
    rows: int
    base: str
    at: str
    by: str
    state_words: str
    splits: BarLine
    sources: BarLine
    versions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetsPage:
    """All snapshots."""

    shell: Shell
    models: tuple[Choice, ...]
    build: tuple[str, ...]  # models of which one can be made
    cards: tuple[DatasetCard, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A box of the picture of a lineage. `tone` is its kind's."""

    x: float
    y: float
    width: float
    height: float
    title: str
    text: str
    href: str
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A band between two boxes, as an SVG path."""

    path: str
    width: float
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A lineage from the left to the right. `heads` are the columns' names with their x."""

    width: float
    height: float
    heads: tuple[tuple[float, str], ...]
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetPage:
    """One snapshot."""

    shell: Shell
    card: DatasetCard
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]
    classes: tuple[BarLine, ...]
    slices: tuple[BarLine, ...]
    recipe: tuple[Fact, ...]  # what differs from the defaults
    usual: tuple[Fact, ...]
    examples: tuple[CaseCard, ...]
    others: tuple[Choice, ...]
    picture: Picture
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeLine:
    """A row that differs."""

    row_id: str
    change: str
    before: str
    after: str
    source: str
    case: str
    picture: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffLine:
    """Rows added and removed of a label: bars from the middle outwards, in per cent of half of the width."""

    name: str
    added: int
    removed: int
    other: int
    right: float
    left: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetDiffPage:
    """From one snapshot to another."""

    shell: Shell
    before: DatasetCard
    after: DatasetCard
    same: int
    counts: tuple[tuple[str, int], ...]
    labels: tuple[DiffLine, ...]
    sources: tuple[DiffLine, ...]
    rows: tuple[ChangeLine, ...]
    more: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionLine:
    """How a version came about and what became of it. `elsewhere` are pages of MLflow."""

    name: str
    champion: bool
    steps: tuple[Fact, ...]
    elsewhere: tuple[Fact, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LineagePage:
    """What hangs together with a record, a case or a version."""

    shell: Shell
    about: str
    picture: Picture
    said: tuple[Fact, ...]
    records: tuple[Fact, ...]
    snapshots: tuple[DatasetCard, ...]
    versions: tuple[VersionLine, ...]
    total: int
