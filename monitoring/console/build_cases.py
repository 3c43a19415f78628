"""The case list."""

from __future__ import annotations

from urllib.parse import urlencode

from export.contracts.cases import CaseState, FlagReason
from monitoring.api import asks, fields
from monitoring.console import contexts as c
from monitoring.console import parts, words
from monitoring.console.build import Builder
from monitoring.slice_queries import counts_of_groups
from monitoring.store import CaseOrder

PAGE = 48


def cases_page(builder: Builder, query: asks.CaseQuery) -> c.CasesPage:
    """The grid, its filters, and the way on."""
    view = builder.view
    page = view.store.cases(
        model=query.model,
        version=query.version,
        reason=query.reason,
        state=query.state,
        correct=query.correct,
        min_p_wrong=query.min_score,
        from_ns=None if query.start is None else int(query.start.timestamp()) * 1_000_000_000,
        to_ns=None if query.end is None else int(query.end.timestamp()) * 1_000_000_000,
        order=CaseOrder(query.order.value),
        cursor=query.cursor,
        limit=PAGE,
        # Audit cases are looked at one by one, whatever else looks like them.
        grouped=query.reason is not FlagReason.AUDIT,
    )
    counts = counts_of_groups(view.store, [row.id for row in page.cases])
    asked = {
        "model": query.model,
        "version": query.version,
        "reason": None if query.reason is None else query.reason.value,
        "state": None if query.state is None else query.state.value,
        "correct": None if query.correct is None else str(query.correct).lower(),
        "min_score": None if query.min_score is None else f"{query.min_score:g}",
        "order": query.order.value,
        "from": None if query.start is None else fields.to_text(query.start),
        "to": None if query.end is None else fields.to_text(query.end),
    }
    given = {k: v for k, v in asked.items() if v is not None}
    first = f"/cases?{urlencode(given)}"
    return c.CasesPage(
        shell=builder.shell("cases"),
        filters=_filters(builder, query, asked),
        filtered=any(v is not None for k, v in asked.items() if k != "order"),
        total=_total(builder, query),
        cases=tuple(builder.card(row, counts[row.id].records if row.id in counts else 1) for row in page.cases),
        next_href=f"{first}&{urlencode({'cursor': page.cursor})}" if page.cursor else None,
        first_href=first if query.cursor else None,
    )


def _total(builder: Builder, query: asks.CaseQuery) -> int | None:
    """How many cases fit, where counting is cheap; None where a filter would need a scan."""
    if query.correct is not None or query.min_score is not None or query.start or query.end:
        return None
    from monitoring.flags import FLAG_BITS

    bit = 0 if query.reason is None else FLAG_BITS[query.reason]
    return sum(
        count
        for _, version, state, flags, count in builder.view.store.case_counts(query.model)
        if query.version in (None, version)
        and (query.state is None or query.state.value == state)
        and (not bit or flags & bit)
    )


def _filters(builder: Builder, query: asks.CaseQuery, asked: dict[str, str | None]) -> tuple[parts.Filter, ...]:
    models = [(name, name) for name in builder.view.models()]
    versions = (
        [(v.version, v.version) for v in builder.view.store.versions(query.model) if v.version] if query.model else []
    )
    reasons = [(r.value, words.reason(r.value)) for r in FlagReason]
    states = [(s.value, words.state(s.value)) for s in CaseState]
    scores = [(f"{s:g}", f"at least {s * 100:.0f} %") for s in (0.25, 0.5, 0.75, 0.9)]
    answers = [("false", "wrong"), ("true", "right")]
    orders = [(o.value, words.ORDERS[o]) for o in CaseOrder]
    lists = (
        ("model", "Model", "every model", models),
        ("version", "Version", "every version", versions),
        ("reason", "Reason", "any reason", reasons),
        ("state", "State", "any state", states),
        ("correct", "Answer", "known or not", answers),
        ("min_score", "P(wrong)", "any", scores),
        ("order", "First", "", orders),
    )
    return tuple(
        parts.Filter(
            name=name,
            label=label,
            choices=tuple(
                parts.Choice(value=value, label=text, chosen=value == (asked[name] or ""))
                for value, text in ([("", every)] if every else []) + options
            ),
        )
        for name, label, every, options in lists
        if options
    )
