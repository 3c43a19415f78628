"""What the API asks and answers about two versions beside each other."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from monitoring.api.explore_models import CaseName, SelectionName
from monitoring.api.fields import Answer, Asked, Label, Name, Share, Time
from monitoring.explore.replays import ReplayState

SetName = Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")]


class CompareSet(StrEnum):
    """On which inputs."""

    ALL = "all"  # everything that both have answered
    REQUEST = "request"  # the same requests: one of them is a shadow
    CONTENT = "content"  # other requests with the same input
    CASE = "case"  # stored cases that were sent to a version again


class Show(StrEnum):
    """Which pairs are listed."""

    DIFFERENT = "different"  # the answers differ
    NEGATIVE = "negative"  # the left one is right and the right one wrong
    POSITIVE = "positive"  # the right one repairs it
    BOTH_WRONG = "both_wrong"
    ALL = "all"


class CompareQuery(Asked):
    """Two versions, on what, and which pairs."""

    left: Name | None = Field(None, description="Default: the champion.")
    right: Name | None = Field(None, description="Default: the challenger, or the newest other version.")
    set: CompareSet = CompareSet.ALL
    show: Show = Show.DIFFERENT
    left_class: int | None = Field(None, ge=-1, le=1_000_000, description="Only where the left one answered this.")
    right_class: int | None = Field(None, ge=-1, le=1_000_000)
    slice: SetName | None = None
    test_set: SetName | None = Field(None, description="Only on this protected test set, whose own truth counts.")
    selection: SelectionName | None = Field(None, description="Only on the cases of this selection.")
    offset: int = Field(0, ge=0, le=1_000_000)
    limit: int = Field(24, ge=1, le=5000)


class Compared(Answer):
    """Right answers of both on inputs whose truth is known. What is not known is null."""

    name: str = Field(description="All, a class's name, or a slice's words.")
    id: str | None = Field(description="Of a slice, or the class's index.")
    n: int
    left_right: int
    right_right: int
    left_only: int = Field(description="Negative flips: right on the left, wrong on the right.")
    right_only: int = Field(description="Positive flips.")
    difference: float | None = Field(description="Accuracy of the right one minus that of the left one.")
    low: float | None = Field(description="95 % interval (Bonett and Price).")
    high: float | None
    p_value: float | None = Field(description="McNemar's exact test; in lists corrected for their length (Holm).")


class Side(Answer):
    """What a version said of an input."""

    predicted: int | None
    label: str | None
    confidence: float | None
    p_wrong: float | None
    value: float | None
    answer: Label
    correct: bool | None


class Pair(Answer):
    """An input that both have answered."""

    source: CompareSet
    record_id: str
    time: Time
    case: str | None
    picture: str | None
    truth: str | None
    differs: bool
    flip: int = Field(description="-1: the right version breaks it; 1: it repairs it; 0: neither, or not known.")
    left: Side
    right: Side


class Cell(Answer):
    """How often the left one answered one class and the right one another."""

    left: int
    right: int
    count: int


class Matrix(Answer):
    """Answers of the left version (rows) against those of the right one, of the classes that differ most."""

    classes: list[int]
    names: list[str]
    cells: list[Cell]
    others: int = Field(description="Pairs with a class that is not shown.")


class Change(Answer):
    """Mean of right minus left, with a 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class Comparison(Answer):
    """Two versions on the inputs that both have answered."""

    model: str
    left: str
    right: str
    set: CompareSet
    within: str | None = Field(None, description="Name of the test set or selection that it stays within.")
    pairs: int = Field(description="Inputs that both have answered.")
    different: int
    negative: int
    positive: int
    counts: dict[str, int] = Field(description="Where the pairs come from, and what could not be compared.")
    overall: Compared
    p_wrong: Change | None = Field(description="Change of the expected error, which needs no labels.")
    by_class: list[Compared]
    by_slice: list[Compared]
    matrix: Matrix | None
    listed: int = Field(description="Pairs that fit what was asked for.")
    items: list[Pair]


class ReplayStart(Asked):
    """Send stored cases to versions."""

    versions: list[Name] = Field(min_length=1, max_length=4)
    cases: list[CaseName] | None = Field(None, max_length=2500, description="Default: the newest.")
    selection: SelectionName | None = Field(None, description="The cases of a selection.")
    test_set: SetName | None = Field(None, description="The cases of a protected test set.")


class Replay(Answer):
    """Cases being sent to versions."""

    id: int
    model: str
    versions: list[str]
    actor: str
    state: ReplayState
    created_at: Time
    finished_at: Time | None
    total: int = Field(description="Questions: cases times versions.")
    done: int
    failed: dict[str, int] = Field(description="Questions without an answer, by reason.")
    share: Share


class Replays(Answer):
    """Newest first."""

    replays: list[Replay]
    loaded: list[str] = Field(description="Versions that answer now.")
