"""What the API asks and answers about what people do with slices."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from monitoring.api.batch_models import Key, Note, SliceKey, Title
from monitoring.api.fields import Answer, Asked, Label, Name, Time
from monitoring.slices.issues import GROWS

Person = Annotated[str, StringConstraints(strip_whitespace=True, max_length=64)]


class SliceDoing(StrEnum):
    """What can be done to a slice in one request."""

    ACKNOWLEDGE = "acknowledge"
    OWN = "own"  # `owner`; "" takes it from whoever has it
    FIX = "fix"  # `version`
    IGNORE = "ignore"  # until it has `grows` times its excess failures
    REOPEN = "reopen"
    MERGE = "merge"  # `into`
    UNMERGE = "unmerge"
    SPLIT = "split"  # `by`: an attribute, or "looks"
    COMMENT = "comment"  # `text`
    WATCH = "watch"  # `limit`: a failure rate
    UNWATCH = "unwatch"


class SliceActAsked(Asked):
    """An act. The same key again does nothing more. With an `edition` that is no longer the slice's: 409."""

    act: SliceDoing
    key: Key | None = None
    edition: int | None = Field(None, ge=0)
    owner: Person = ""
    version: Name | None = None
    grows: float = Field(GROWS, gt=1.0, le=1000.0)
    into: SliceKey | None = None
    by: Annotated[str, StringConstraints(max_length=200)] = ""
    text: Note = ""
    limit: float | None = Field(None, gt=0.0, lt=1.0)


class SliceBatchAsked(Asked):
    """A labelling batch of a slice's cases, the most telling first."""

    name: Title | None = None
    limit: int = Field(500, ge=1, le=5000)
    note: Note = ""
    key: Key | None = None


class TestSetAsked(Asked):
    """A protected test set of the slice's cases whose truth is known."""

    __test__ = False  # no class of tests

    name: Title
    key: Key | None = None


class SliceEvent(Answer):
    """A line of a slice's history. `actor` "hardcase": a search did it, at the end of the searched span."""

    id: int
    time: Time
    actor: str
    kind: str
    before: str
    after: str
    detail: dict[str, Any]


class SliceHistory(Answer):
    """Newest first; nothing is ever taken out."""

    events: list[SliceEvent]


class SplitChoice(Answer):
    """An attribute by which a slice falls apart; `spread` is the largest failure rate of a part less the smallest."""

    by: str
    parts: int
    spread: float


class SplitChoices(Answer):
    """The most telling first."""

    choices: list[SplitChoice]


class TestSet(Answer):
    """Failures that shall never come back: immutable, and kept by retention."""

    __test__ = False

    id: str
    name: str
    model: str
    slice: str | None
    words: str
    created_at: Time
    created_by: str
    digest: str
    items: int
    kept: int = Field(description="Items whose case is still there: all, unless records were erased.")


class TestSets(Answer):
    """Newest first."""

    __test__ = False

    test_sets: list[TestSet]


class TestSetItem(Answer):
    """A failure with its truth."""

    __test__ = False

    case: str
    record_id: str
    time: Time
    version: str
    predicted: str | None
    label: Label
    author: str


class TestSetItems(Answer):
    """A page of a test set."""

    __test__ = False

    items: list[TestSetItem]
    next: int | None = Field(description="Give it as `after` for the page behind this one.")


class TestSetQuery(Asked):
    """Which test sets."""

    __test__ = False

    model: Name | None = None
    slice: SliceKey | None = None


class TestSetItemQuery(Asked):
    """Which items."""

    __test__ = False

    after: int = Field(-1, ge=-1)
    limit: int = Field(1000, ge=1, le=5000)
