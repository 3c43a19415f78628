"""Contexts of the rooms for looking around: map, selection, comparison, and requests to try."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.api.compare_models import Comparison, Replay
from monitoring.console.parts import CaseCard, Choice, Filter, Shell


@dataclass(frozen=True, kw_only=True, slots=True)
class MapPage:
    """The map of a version; its points are fetched by the page's script. `focus` is "x,y" of something to mark."""

    shell: Shell
    model: str
    version: str
    versions: tuple[Choice, ...]
    points: str
    focus: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionPage:
    """Cases that somebody gathered."""

    shell: Shell
    id: str
    model: str
    title: str
    actor: str
    at: str
    cases: int
    left: int
    shown: tuple[CaseCard, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixCell:
    """A cell of the matrix."""

    name: str
    count: int
    same: bool
    href: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixRow:
    """A row of the matrix: what the left version answered."""

    name: str
    cells: tuple[MatrixCell, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparePage:
    """Two versions beside each other. `found` is None where there is nothing to compare; `problem` says why.

    Attributes:
        within: Name of the test set or selection that it stays within; empty: everything.
        test_set: Its id, where it is one.
        selection: Likewise.
    """

    shell: Shell
    model: str
    left: str
    right: str
    filters: tuple[Filter, ...]
    problem: str
    sentence: str
    caveat: str
    sources: str
    listed: str
    loaded: str
    within: str
    test_set: str
    selection: str
    filtered: bool
    base: str
    query: str
    next_href: str | None
    matrix: tuple[MatrixRow, ...]
    runs: tuple[Replay, ...]
    found: Comparison | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TryField:
    """A number of a tabular input, with its median and range on the reference."""

    name: str
    value: str
    range: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TryInput:
    """An input of the form. `kind`: "image" (numbers made by the browser), "file", "fields", "text" or "json"."""

    name: str
    kind: str
    datatype: str
    shape: str
    note: str
    example: str
    fields: tuple[TryField, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TryPage:
    """A form made from the signature. `inputs_json` is what its script needs of each input."""

    shell: Shell
    model: str
    version: str
    versions: tuple[Choice, ...]
    inputs: tuple[TryInput, ...]
    inputs_json: str
    problem: str
