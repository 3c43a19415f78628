"""The case list."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

from export.contracts.cases import CaseState, FlagReason
from export.contracts.errors import InvalidRequest
from monitoring.api import asks
from monitoring.api.list_views import CaseLists
from monitoring.console import parts, words
from monitoring.console.build import Builder
from monitoring.console.build_inputs import inputs_of
from monitoring.console.input_parts import InputView
from monitoring.console.list_parts import CasesPage, Chip, Facet, FacetChoice, ListCard, ViewLink
from monitoring.listing.order import Sort
from monitoring.listing.reading import read_cases, read_inputs, read_tags
from monitoring.listing.terms import Field, Is, Picked, Term
from monitoring.listing.views import plain_query, views_for
from monitoring.people.contracts import Principal, Role
from monitoring.review.machine import leased
from monitoring.rows import CaseRow
from monitoring.slice_queries import counts_of_groups

PAGE = 48
VALUES = 8  # of a facet
CELLS = 5  # of a row's values on a card
TEXT = 240  # characters of a text on a card
DENSITIES = {"": "Cards", "compact": "Small", "lines": "Lines"}
SORTS = {
    Sort.RANK: "most probably wrong",
    Sort.QUEUE: "what to look at next",
    Sort.TIME: "newest",
    Sort.OLDEST: "oldest",
    Sort.UNSURE: "least sure",
    Sort.DECIDED: "decided last",
}
PICKED = {
    Picked.AUDIT: "by lot (audit)",
    Picked.RANDOM: "by lot, nothing odd",
    Picked.SCORE: "by its scores",
    Picked.RULE: "by a rule",
    Picked.PEOPLE: "by people",
    Picked.DISAGREEMENT: "by disagreement",
}
_FACETS = (
    (Field.IS, "state", "State"), (Field.REASON, "reason", "Reason"), (Field.TAG, "tag", "Tag"),
    (Field.MODEL, "model", "Model"), (Field.VERSION, "version", "Version"), (Field.CLASS, "class", "Answer"),
    (Field.LABEL, "label", "Truth"), (Field.ASSIGNEE, "assignee", "Assigned to"), (Field.VERDICT, "verdict", "Verdict"),
    (Field.BY, "by", "Decided by"),
)  # fmt: skip
_ORDER = ("q", "model", "version", "reason", "picked", "state", "correct", "min_score", "max_score", "class", "label",
          "tag", "assignee", "by", "verdict", "slice", "record", "order", "from", "to", "grouped",
          "density")  # fmt: skip
_CHIPS = {"min_score": "P(wrong) from", "max_score": "P(wrong) to", "correct": "answer", "class": "answer",
          "label": "truth", "by": "decided by"}  # fmt: skip
_REVIEWED = ("model", "version", "slice", "tag", "order", "density", "state")  # what the review page can be asked for


def cases_page(
    builder: Builder, lists: CaseLists, who: Principal, asked: Mapping[str, str], query: asks.CaseQuery
) -> CasesPage:
    """The grid, its filters, and the way on.

    Args:
        builder: Store, catalogue, health.
        lists: Answers about lists.
        who: Whose saved views are shown.
        asked: The address as it was asked for.
        query: The same, checked.
    """
    given = {name: asked[name] for name in _ORDER if asked.get(name)} | {"order": query.order.value}
    given = {name: given[name] for name in _ORDER if name in given}
    problem, cursor = "", None
    terms: tuple[Term, ...] = ()
    rows: tuple[CaseRow, ...] = ()
    store = builder.view.store
    try:
        # Audit cases are looked at one by one, whatever else looks like them.
        whole = query.reason is FlagReason.AUDIT
        terms = lists.terms(query)
        shown = terms if whole else (*terms, Term(field=Field.IS, value=Is.LEADING.value))
        page = store.index.page(shown, query.order, query.cursor, PAGE)
        rows, cursor = read_cases(store, page.ids), page.cursor
    except InvalidRequest as error:
        problem = str(error)
    density = asked.get("density", "")
    first = f"/cases?{urlencode(given)}"
    return CasesPage(
        shell=builder.shell("cases"),
        q=query.q or "",
        problem=problem,
        filters=_filters(builder, given, query.model),
        filtered=any(name not in ("order", "density") for name in given),
        total=0 if problem else store.index.count(terms),
        cases=_cards(builder, rows),
        facets=() if problem else _facets(lists, terms, given),
        chips=_chips(given),
        views=_views(builder, who, given),
        density=density if density in DENSITIES else "",
        densities=tuple(
            parts.Choice(value=value, label=label, chosen=value == density, href=_href(given | {"density": value}))
            for value, label in DENSITIES.items()
        ),
        asked=urlencode(given),
        exported=urlencode({name: value for name, value in given.items() if name != "density"}),
        reviews=_reviews(given),
        may_review=who.role.covers(Role.REVIEWER),
        next_href=f"{first}&{urlencode({'cursor': cursor})}" if cursor else None,
        first_href=first if query.cursor else None,
    )


def _cards(builder: Builder, rows: tuple[CaseRow, ...]) -> tuple[ListCard, ...]:
    store, ids = builder.view.store, [row.id for row in rows]
    counts, tags = counts_of_groups(store, ids), read_tags(store, ids)
    cards = {row.id: builder.card(row, counts[row.id].records if row.id in counts else 1) for row in rows}
    tensors = read_inputs(store, [row.id for row in rows if cards[row.id].picture is None])
    now_ns = int(time.time() * 1e9)
    made = []
    for row in rows:
        kept, standing = tensors.get(row.id, ()), row.standing
        view = _small(inputs_of(builder, row, kept).views[0]) if kept else None
        made.append(
            ListCard(
                id=row.id,
                card=cards[row.id],
                view=view,
                edition=standing.edition,
                assignee=standing.assignee,
                priority=standing.priority,
                verdict=standing.verdict,
                decided_by=standing.decided_by,
                leased_by=standing.lease_by if leased(standing, now_ns) else "",
                tags=tags.get(row.id, ()),
            )
        )
    return tuple(made)


def _small(view: InputView) -> InputView:
    """As much of an input as a card has room for: what is unusual stands first."""
    more = view.hidden + max(0, len(view.cells) - CELLS)
    return replace(view, cells=view.cells[:CELLS], hidden=more, text=view.text[:TEXT], cut=len(view.text) > TEXT)


def _href(given: Mapping[str, str]) -> str:
    kept = {name: given[name] for name in _ORDER if given.get(name)}
    return f"/cases?{urlencode(kept)}" if kept else "/cases"


def _chips(given: Mapping[str, str]) -> tuple[Chip, ...]:
    shown = (name for name in given if name not in ("order", "density", "q"))
    return tuple(
        Chip(text=f"{_CHIPS.get(name, name)}: {_value(name, given[name])}", href=_href({**given, name: ""}))
        for name in shown
    )


def _value(name: str, value: str) -> str:
    if name == "correct":
        return {"true": "right", "false": "wrong"}.get(value.lower(), value)
    if name == "picked":
        return PICKED[Picked(value)] if value in tuple(Picked) else value
    return words.reason(value) if name == "reason" else words.state(value) if name == "state" else value


def _facets(lists: CaseLists, terms: tuple[Term, ...], given: Mapping[str, str]) -> tuple[Facet, ...]:
    found = lists.view.store.index.facets(terms, VALUES)
    made = []
    for field, name, label in _FACETS:
        chosen = given.get(name, "")
        values = found.get(field, [])
        if not values or (len(values) == 1 and not chosen and field in (Field.MODEL, Field.VERSION)):
            continue
        choices = tuple(
            FacetChoice(
                value=value,
                label=_value(name, value),
                count=count,
                chosen=value == chosen,
                href=_href({**given, name: "" if value == chosen else value}),
            )
            for value, count in values
        )
        made.append(Facet(name=name, label=label, choices=choices))
    return tuple(made)


def _views(builder: Builder, who: Principal, given: Mapping[str, str]) -> tuple[ViewLink, ...]:
    here = plain_query(urlencode(given))
    return tuple(
        ViewLink(id=v.id, name=v.name, href=f"/cases?{v.query}", owner=v.owner, shared=v.shared, own=v.own,
                 chosen=v.query == here)
        for v in views_for(builder.view.store, who.name)
    )  # fmt: skip


def _reviews(given: Mapping[str, str]) -> str:
    if any(name not in _REVIEWED for name in given) or given.get("state", "open") != "open":
        return ""
    kept = {name: given[name] for name in ("model", "version", "slice", "tag") if name in given}
    return f"/review?{urlencode(kept)}" if kept else "/review"


def _filters(builder: Builder, given: Mapping[str, str], model: str | None) -> tuple[parts.Filter, ...]:
    models = [(name, name) for name in builder.view.models()]
    versions = [(v.version, v.version) for v in builder.view.store.versions(model) if v.version] if model else []
    ways = [(way.value, PICKED[way]) for way in Picked]
    reasons = [(r.value, words.reason(r.value)) for r in FlagReason]
    states = [(s.value, words.state(s.value)) for s in CaseState]
    scores = [(f"{s:g}", f"at least {s * 100:.0f} %") for s in (0.25, 0.5, 0.75, 0.9)]
    answers = [("false", "wrong"), ("true", "right")]
    lists = (
        ("model", "Model", "every model", models),
        ("version", "Version", "every version", versions),
        ("reason", "Reason", "any reason", reasons),
        ("picked", "Picked", "in any way", ways),
        ("state", "State", "any state", states),
        ("correct", "Answer", "known or not", answers),
        ("min_score", "P(wrong)", "any", scores),
        ("order", "First", "", [(sort.value, text) for sort, text in SORTS.items()]),
    )
    return tuple(
        parts.Filter(
            name=name,
            label=label,
            choices=tuple(
                parts.Choice(value=value, label=text, chosen=value == given.get(name, ""))
                for value, text in ([("", every)] if every else []) + options
            ),
        )
        for name, label, every, options in lists
        if options
    )
