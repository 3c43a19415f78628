"""The case list and the page of one case."""

from __future__ import annotations

from urllib.parse import urlencode

from export.contracts.cases import CaseState, FlagReason
from monitoring.api import asks, fields
from monitoring.api import models as m
from monitoring.api.finding_views import Findings
from monitoring.console import contexts as c
from monitoring.console import parts, words
from monitoring.console.build import Builder
from monitoring.console.build_answers import answer_part, label_roles
from monitoring.console.build_slices import like_case, of_case
from monitoring.slice_queries import counts_of_groups
from monitoring.store import CaseOrder

MAX_BARS = 12
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
        order=query.order,
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


def case_page(builder: Builder, findings: Findings, identity: str) -> c.CasePage:
    """Everything about one case."""
    row = builder.view.case_row(identity)
    case = builder.view.case_detail(identity)
    card = builder.card(row)
    verdict, tone = verdict_of(card)
    bars, hidden = bars_of(case, card)
    like, missing = like_case(findings, identity)
    return c.CasePage(
        shell=builder.shell("cases"),
        card=card,
        verdict=verdict,
        verdict_tone=tone,
        why=tuple(parts.Fact(name=words.reason(r), value=words.reason_text(r)) for r in row.reasons),
        answer=answer_part(builder, case),
        bars=bars,
        hidden_classes=hidden,
        scores=tuple(
            parts.ScoreLine(name=words.SCORES[n][0], value=case.scores.get(n), meaning=words.SCORES[n][1])
            for n in words.SCORES
            if n in case.scores
        ),
        spans=_spans(case.timing_us),
        total_us=case.timing_us.get("total", 0),
        facts=_facts(case),
        tensors=tuple(
            parts.Fact(
                name=f"{'input' if t.direction == 'in' else 'output'} {t.name}",
                value=f"{t.datatype} [{', '.join(str(n) for n in t.shape)}] · {words.size(t.size_bytes)}",
            )
            for t in case.tensors
        )
        or (parts.Fact(name="input", value=words.plain(case.input_state)),),
        feedback=tuple(
            parts.FeedbackLine(
                at=fields.to_text(f.time),
                label=words.label(f.label, case.class_names) or (", ".join(f.labels) if f.labels else None),
                score=f.score,
                comment=f.comment,
                author=f.author,
            )
            for f in case.feedback
        ),
        download=case.input,
        error=case.error,
        like=like,
        like_missing=missing,
        **of_case(builder, findings, identity),  # type: ignore[arg-type]  # its values are of the fields they are named by
    )


def verdict_of(card: parts.CaseCard) -> tuple[str, str]:
    """What is known about the answer, and its tone."""
    if card.outcome != "ok":
        return words.plain(f"the request ended as {card.outcome}"), "bad"
    if card.correct is True:
        return "the answer was right", "good"
    if card.correct is False:
        return "the answer was wrong", "bad"
    return "nobody knows yet whether the answer is right", ""


def bars_of(case: m.CaseDetail, card: parts.CaseCard) -> tuple[tuple[parts.Bar, ...], int]:
    """Class probabilities, and how many are left out."""
    values = [p or 0.0 for p in case.probabilities or ()]
    names = [words.label(i, case.class_names) or str(i) for i in range(len(values))]
    several = label_roles(case)
    bars = []
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        predicted, truth = i == case.predicted, card.label is not None and name == card.label
        if several is not None:
            predicted, truth = i in several[0], name in several[1]
        role = "both" if predicted and truth else "predicted" if predicted else "truth" if truth else ""
        bars.append(parts.Bar(label=name, value=value, role=role))
    if len(bars) <= MAX_BARS:
        return tuple(bars), 0
    bars.sort(key=lambda b: (not b.role, -b.value))
    return tuple(bars[:MAX_BARS]), len(bars) - MAX_BARS


def _spans(timing_us: dict[str, int]) -> tuple[parts.Span, ...]:
    queue, compute, total = (timing_us.get(n, 0) for n in ("queue", "compute", "total"))
    other = max(total - queue - compute, 0)
    named = (
        ("waiting for a batch", queue, "tone-2"),
        ("model", compute, "tone-1"),
        ("everything else", other, "tone-5"),
    )
    return tuple(parts.Span(name=name, us=us, tone=tone) for name, us, tone in named)


def _facts(case: m.CaseDetail) -> tuple[parts.Fact, ...]:
    facts = [
        parts.Fact(
            name="model", value=f"{case.model} {case.version}", href=f"/models/{case.model}?version={case.version}"
        ),
        parts.Fact(name="answered as", value=case.variant),
        parts.Fact(name="outcome", value=case.outcome),
        parts.Fact(name="received", value=words.clock(fields.to_text(case.time))),
        parts.Fact(name="state", value=words.state(case.state.value)),
    ]
    if case.rows > 1:
        facts.append(parts.Fact(name="row of the request", value=f"{case.row} of {case.rows}"))
    if case.inclusion_probability is not None:
        facts.append(parts.Fact(name="drawn with probability", value=words.percent(case.inclusion_probability)))
    facts.append(parts.Fact(name="record", value=case.record_id, code=True))
    facts.append(parts.Fact(name="case", value=case.id, code=True))
    for name, value in (
        ("trace", case.trace_id),
        ("parameters", words.pretty(case.params)),
        ("tags", words.pretty(case.tags)),
    ):
        if value:
            facts.append(parts.Fact(name=name, value=value, code=True))
    return tuple(facts)
