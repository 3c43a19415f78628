"""What the API answers about slices, groups of cases and like records."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from monitoring.api.fields import Answer, Asked, Label, Name, Share, Time
from monitoring.slices.found import SliceKind, SliceState


class SlicePoint(Answer):
    """A slice over one searched span."""

    end: Time
    rows: int
    failure_rate: Share
    low: Share
    high: Share
    overall_rate: Share


class Slice(Answer):
    """A group of records that fails more than the rest."""

    id: str
    model: str
    version: str | None = Field(description="null: of every version.")
    kind: SliceKind
    conditions: list[list[str]] = Field(description="[attribute, value]: its definition, or what is typical of it.")
    words: str
    sentence: str
    state: SliceState
    edition: int = Field(description="Counts up with every change; an act that names another one is refused.")
    owner: str | None
    fixed_in: str | None = Field(description="The version from which on it may not come back.")
    merged_into: str | None
    split_from: str | None
    waiting: int = Field(description="Its cases without a decision.")
    watch_limit: float | None = Field(description="Failure rate above which people are told.")
    watch_firing: bool
    current: bool = Field(description="Found in the newest search; else it is only measured, or gone.")
    first_at: Time
    last_at: Time
    rows: int
    failure_rate: Share
    low: Share = Field(description="95 % interval.")
    high: Share
    overall_rate: Share
    p_value: float = Field(description="Chance that a random group fails as often, corrected for all looked at.")
    basis: str = Field(description='"labels", or "estimate" where fewer than ten labels are known.')
    labelled: int
    labelled_wrong: int
    explains: list[str] = Field(description="Slices that this one makes unnecessary.")
    points: list[SlicePoint]
    cases: list[str] = Field(description="Ids of cases in it, the most telling first.")


class Slices(Answer):
    """Slices of the newest search first."""

    slices: list[Slice]


Author = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]


class SliceQuery(Asked):
    """Which slices."""

    model: Name | None = None
    current: bool | None = Field(None, description="Only those of the newest search, or only older ones.")
    state: SliceState | None = Field(None, description="Default: all but those that are part of others, or split.")
    owner: Author | None = None
    limit: int = Field(50, ge=1, le=200)


class NeighbourSource(StrEnum):
    """Among what neighbours are looked for."""

    RECORDS = "records"  # everything recorded
    CASES = "cases"  # records that are cases
    REFERENCE = "reference"  # the sample of the reference that the package holds


class NeighbourQuery(Asked):
    """How many, of what."""

    of: NeighbourSource = NeighbourSource.RECORDS
    k: int = Field(12, ge=1, le=100)


class Neighbour(Answer):
    """An input that is like a case's."""

    likeness: float = Field(description="Cosine of the embeddings: 1 is the same direction.")
    record_id: str | None = Field(description="null: of the reference, whose inputs are not kept.")
    time: Time | None
    predicted: str | None
    p_wrong: float | None
    correct: bool | None
    label: Label
    case: str | None
    picture: str | None


class Neighbours(Answer):
    """Nearest first; the case itself is left out."""

    neighbours: list[Neighbour]
    missing: str | None = Field(description="Why there are none, in words.")


class Member(Answer):
    """A record that a case stands for."""

    record_id: str
    time: Time
    likeness: float
    case: str | None


class Members(Answer):
    """Everything that a case stands for, itself included."""

    leader: str
    cases: int
    records: int = Field(description="Flagged records with one of the group's inputs.")
    members: list[Member]
