"""What the case list shows: cards with what can be seen of an input, facets, chips, saved views."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.input_parts import InputView
from monitoring.console.parts import CaseCard, Choice, Filter, Shell


@dataclass(frozen=True, kw_only=True, slots=True)
class ListCard:
    """A case in the list. `view`: its input where that is no picture; None where there is one, or nothing to see."""

    id: str
    card: CaseCard
    view: InputView | None
    edition: int
    assignee: str
    priority: int
    verdict: str
    decided_by: str
    leased_by: str
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FacetChoice:
    """A value with how many cases have it; `href` asks for it, or for it no more."""

    value: str
    label: str
    count: int
    chosen: bool
    href: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Facet:
    """The values of a field."""

    name: str
    label: str
    choices: tuple[FacetChoice, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """Something that is asked for; `href` is the list without it."""

    text: str
    href: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewLink:
    """A saved view."""

    id: int
    name: str
    href: str
    owner: str
    shared: bool
    own: bool
    chosen: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CasesPage:
    """A page of the case list.

    Attributes:
        problem: What is wrong with the search; "" where nothing is.
        asked: What is asked for, as an address without page and form.
        exported: The same, for a file.
        reviews: Address of the review page for the same filters; "" where it does not know one of them.
    """

    shell: Shell
    q: str
    problem: str
    filters: tuple[Filter, ...]
    filtered: bool
    total: int
    cases: tuple[ListCard, ...]
    facets: tuple[Facet, ...]
    chips: tuple[Chip, ...]
    views: tuple[ViewLink, ...]
    density: str
    densities: tuple[Choice, ...]
    asked: str
    exported: str
    reviews: str
    may_review: bool
    next_href: str | None
    first_href: str | None
