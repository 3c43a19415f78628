"""Answers about lists of cases, and saved views."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from monitoring.api.fields import Answer, Asked
from monitoring.api.models import Case


class ListedCase(Case):
    """A failure case in a list."""

    case_tags: list[str] = Field(description="Tags that reviewers gave.")


class CaseList(Answer):
    """A page of cases."""

    cases: list[ListedCase]
    next: str | None = Field(description="Cursor of the next page; null when this is the last.")


class CaseIds(Answer):
    """Ids of cases, in order."""

    ids: list[str]
    next: str | None = Field(description="Cursor of those after these; null when these are the last.")


class CaseCount(Answer):
    """How many cases fit, exactly."""

    count: int


class FacetValue(Answer):
    """A value of a field, and how many cases have it."""

    value: str
    count: int


class Facets(Answer):
    """The most frequent values of each field among the cases that fit what is asked of the other fields."""

    count: int = Field(description="Cases that fit everything that is asked.")
    facets: dict[str, list[FacetValue]] = Field(description="By field of the search: is, reason, model, class, ...")


class ViewSave(Asked):
    """A view to keep; one of the same name of the same person is replaced."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
    query: Annotated[str, StringConstraints(max_length=2000)] = Field(
        description="The address after its question mark."
    )
    shared: bool = Field(False, description="For everybody; needs the role reviewer.")


class SavedView(Answer):
    """A view of the case list."""

    id: int
    name: str
    query: str
    owner: str
    shared: bool
    own: bool


class SavedViews(Answer):
    """One's own views and everybody's, by name."""

    views: list[SavedView]
