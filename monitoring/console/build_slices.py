"""The pages about slices, and what the page of a case says about others like it."""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import quote

from monitoring.api import fields
from monitoring.api import finding_models as f
from monitoring.api.finding_views import Findings
from monitoring.console import contexts as c
from monitoring.console import parts, words
from monitoring.console.build import Builder
from monitoring.console.slice_parts import LikeCard, SliceCard
from monitoring.slice_queries import counts_of_groups, slices_of_case
from monitoring.slices.found import SliceKind

EXAMPLES = 5
MEMBERS = 12
LIKE = 12


def slices_page(builder: Builder, findings: Findings, query: f.SliceQuery) -> c.SlicesPage:
    """All slices, those of the newest search first."""
    found = [(s.current, _card(builder, s, EXAMPLES)) for s in findings.slices(query)]
    return c.SlicesPage(
        shell=builder.shell("slices"),
        current=tuple(card for current, card in found if current),
        earlier=tuple(card for current, card in found if not current),
    )


def slice_page(builder: Builder, findings: Findings, identity: str) -> c.SlicePage:
    """One slice."""
    one = findings.slice(identity)
    card = _card(builder, one, len(one.cases))
    facts = [
        parts.Fact(name="model", value=one.model, href=f"/models/{one.model}"),
        parts.Fact(name="version", value=one.version or "every version"),
        parts.Fact(name="found by", value="attributes" if one.kind is SliceKind.ATTRIBUTES else "embedding"),
        parts.Fact(name="failure rate", value=f"{words.percent(one.low)} to {words.percent(one.high)} (95 %)"),
        parts.Fact(
            name="rests on",
            value=f"{one.labelled_wrong} wrong of {one.labelled} labelled"
            if one.basis == "labels"
            else f"P(wrong): only {one.labelled} of {one.rows} are labelled",
        ),
        parts.Fact(name="chance", value=f"{one.p_value:.2g}: that a random group fails as often"),
        parts.Fact(name="first found", value=words.clock(fields.to_text(one.first_at))),
        parts.Fact(name="last found", value=words.clock(fields.to_text(one.last_at))),
        parts.Fact(name="slice", value=one.id, code=True),
    ]
    return c.SlicePage(
        shell=builder.shell("slices"),
        card=card,
        trend=_trend(one, bare=False),
        facts=tuple(facts),
        explains=tuple(one.explains),
        cases=card.examples,
    )


def of_case(builder: Builder, findings: Findings, identity: str) -> dict[str, tuple[parts.Fact, ...] | int]:
    """Slices and duplicates of a case."""
    named = slices_of_case(builder.view.store, identity)
    members = findings.members(identity, MEMBERS + 1)
    others = [member for member in members.members if member.case != identity][:MEMBERS]
    return {
        "slices": tuple(parts.Fact(name="slice", value=text, href=f"/slices/{key}") for key, text in named),
        "stands_for": members.records,
        "members": tuple(
            parts.Fact(
                name=words.clock(fields.to_text(member.time)),
                value=f"{member.record_id}{'' if member.likeness >= 1.0 else f' (cosine {member.likeness:.4f})'}",
                href=f"/cases/{member.case}" if member.case else f"/records/{quote(member.record_id, safe='')}",
            )
            for member in others
        ),
    }


def like_case(
    findings: Findings, identity: str, of: f.NeighbourSource = f.NeighbourSource.RECORDS
) -> tuple[tuple[LikeCard, ...], str | None]:
    """More like this, over everything recorded, or among the cases."""
    near = findings.near(identity, f.NeighbourQuery(k=LIKE, of=of))
    cards = tuple(
        LikeCard(
            href=f"/cases/{n.case}" if n.case else f"/records/{quote(n.record_id or '', safe='')}",
            picture=n.picture,
            likeness=n.likeness,
            predicted=n.predicted,
            p_wrong=n.p_wrong,
            label=words.label(n.label),
            correct=n.correct,
            at=fields.to_text(n.time) if n.time is not None else "",
        )
        for n in near.neighbours
    )
    return cards, near.missing


def _card(builder: Builder, one: f.Slice, examples: int) -> SliceCard:
    rows = [row for row in (builder.view.store.case(identity) for identity in one.cases[:examples]) if row is not None]
    counts = counts_of_groups(builder.view.store, [row.id for row in rows])
    return SliceCard(
        id=one.id,
        model=one.model,
        version=one.version,
        sentence=one.sentence,
        words=one.words[:1].upper() + one.words[1:],
        rate=one.failure_rate,
        low=one.low,
        high=one.high,
        overall=one.overall_rate,
        basis=one.basis,
        rows=one.rows,
        state=one.state.value,
        first_at=fields.to_text(one.first_at),
        last_at=fields.to_text(one.last_at),
        trend=_trend(one, bare=True),
        examples=tuple(builder.card(row, counts[row.id].records if row.id in counts else 1) for row in rows),
    )


def _trend(one: f.Slice, bare: bool) -> parts.Panel:
    ends = [int(p.end.timestamp()) for p in one.points] or [0]
    step = min((b - a for a, b in pairwise(ends)), default=60)
    mine = tuple(parts.Point(at_s=at, value=p.failure_rate, n=p.rows) for at, p in zip(ends, one.points, strict=False))
    rest = tuple(parts.Point(at_s=at, value=p.overall_rate) for at, p in zip(ends, one.points, strict=False))
    series = [parts.Series(name="overall", tone="tone-2", points=rest)]
    series.append(parts.Series(name="this slice", tone="tone-4", points=mine, marks=len(mine) < 60))
    return parts.Panel(
        key=f"slice-{one.id}",
        title="Does it get better?" if not bare else "Failure rate",
        hint="share of the slice's requests that fail, over each searched span",
        unit="share",
        axis=parts.Axis(from_s=ends[0], to_s=ends[-1] + step, step_s=step),
        series=tuple(series),
    )
