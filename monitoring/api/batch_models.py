"""What the API asks and answers about labelling batches."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from monitoring.api.fields import Answer, Asked, Name, Time
from monitoring.review.batches import MOST_CASES, BatchState

CaseKey = Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]
SliceKey = Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")]
Key = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern="^[!-~]+$")]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)]


class Batch(Answer):
    """A named set of cases that are labelled together. cases = waiting + decided + gone."""

    id: str
    name: str
    model: str | None = Field(description="null: of several models.")
    slice: str | None = Field(description="The slice that it shall fix.")
    state: BatchState
    note: str
    created_at: Time
    created_by: str
    changed_at: Time
    cases: int
    waiting: int
    decided: int
    gone: int = Field(description="No longer kept.")


class Batches(Answer):
    """Newest first."""

    batches: list[Batch]


class BatchCases(Answer):
    """A page of a batch's cases, in its order."""

    cases: list[str]
    next: int | None = Field(description="Give it as `after` for the page behind this one.")


class BatchQuery(Asked):
    """Which batches."""

    model: Name | None = None
    state: BatchState | None = None
    slice: SliceKey | None = None
    limit: int = Field(100, ge=1, le=500)


class BatchCaseQuery(Asked):
    """Which cases of a batch."""

    waiting: bool | None = Field(None, description="Only those without a decision, or only those with one.")
    after: int = Field(-1, ge=-1)
    limit: int = Field(500, ge=1, le=5000)


class BatchMake(Asked):
    """A batch of these cases, or of the cases of a slice. The same key again gives the same batch."""

    name: Title
    cases: list[CaseKey] | None = Field(None, min_length=1, max_length=MOST_CASES)
    slice: SliceKey | None = None
    limit: int = Field(500, ge=1, le=5000, description="Of a slice's cases, the most telling first.")
    note: Note = ""
    key: Key | None = None

    @model_validator(mode="after")
    def _one_of(self) -> BatchMake:
        if (self.cases is None) == (self.slice is None):
            raise ValueError("give either 'cases' or 'slice'")
        return self


class BatchAdd(Asked):
    """More cases; those that are in it already stay where they are."""

    cases: list[CaseKey] = Field(min_length=1, max_length=MOST_CASES)
