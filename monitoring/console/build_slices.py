"""The pages about slices, and what the page of a case says about others like it."""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import quote

from monitoring.api import fields
from monitoring.api import finding_models as f
from monitoring.api.finding_views import Findings
from monitoring.api.slice_views import SliceDesk
from monitoring.console import parts, words
from monitoring.console import slice_parts as p
from monitoring.console.build import Builder
from monitoring.console.slice_parts import LikeCard, SliceCard
from monitoring.console.slice_words import state_words, told
from monitoring.review.batches import BatchRow, batch, batches, cases_of_batch
from monitoring.review.test_sets import SetRow, all_sets
from monitoring.slice_queries import counts_of_groups, slices, slices_of_case
from monitoring.slices.acts import SliceEvent
from monitoring.slices.found import SliceKind, SliceState
from monitoring.slices.issues import OPEN

EXAMPLES = 5
MEMBERS = 12
LIKE = 12
BATCH_SHOWN = 60


TABS = {
    "open": ("Open", OPEN),
    "fixed": ("Fixed", (SliceState.FIXED,)),
    "ignored": ("Ignored", (SliceState.IGNORED,)),
    "apart": ("Merged and split", (SliceState.MERGED, SliceState.SPLIT)),
}


def slices_page(builder: Builder, findings: Findings, model: str | None, tab: str) -> p.SlicesPage:
    """All slices, those of the newest search first."""
    all_states = [s for _, states in TABS.values() for s in states]
    store = builder.view.store
    if model is not None:
        builder.view.known(model)
    rows = slices(store, model, states=all_states)
    states = {s.value for s in TABS[tab][1]}
    cards = [_card(builder, findings.of_row(r, EXAMPLES), EXAMPLES) for r in rows if r.state in states]
    cards.sort(key=lambda card: card.state != SliceState.REGRESSED.value)  # what came back is the first to know
    query = f"&model={model}" if model else ""
    return p.SlicesPage(
        shell=builder.shell("slices"),
        tabs=tuple(
            parts.Choice(
                value=name,
                label=f"{label} {sum(r.state in {s.value for s in of} for r in rows)}",
                chosen=name == tab,
                href=f"/slices?tab={name}{query}",
            )
            for name, (label, of) in TABS.items()
        ),
        models=tuple(
            parts.Choice(value=name, label=name, chosen=name == model, href=f"/slices?tab={tab}&model={name}")
            for name in builder.view.models()
        ),
        current=tuple(card for card in cards if card.current or card.state == SliceState.REGRESSED.value),
        earlier=tuple(card for card in cards if not card.current and card.state != SliceState.REGRESSED.value),
        any=bool(rows),
    )


def slice_page(builder: Builder, desk: SliceDesk, identity: str, with_splits: bool) -> p.SlicePage:
    """One slice."""
    one = desk.findings.slice(identity)
    store, acts = builder.view.store, desk.acts
    card = _card(builder, one, len(one.cases))
    splits = desk.choices(identity).choices if with_splits else None
    others = [r for r in slices(store, one.model, states=[*OPEN, SliceState.FIXED]) if r.id != identity]
    return p.SlicePage(
        shell=builder.shell("slices"),
        card=card,
        trend=_trend(one, bare=False),
        facts=_facts(one),
        explains=tuple(one.explains),
        cases=card.examples,
        story=tuple(_story(event) for event in acts.history(identity)),
        batches=tuple(batch_line(row) for row in batches(store, slice_id=identity)),
        sets=tuple(set_line(row) for row in all_sets(store, slice_id=identity)),
        parts=tuple(
            parts.Fact(name=how, value=text, href=f"/slices/{key}") for key, text, how in acts.parts_of(identity)
        ),
        versions=tuple(
            parts.Choice(value=v, label=v, chosen=False, href="")
            for v in reversed(
                list(dict.fromkeys([*_seen(builder, one.model), *builder.view.catalogue.versions(one.model)]))
            )
        ),
        others=tuple(parts.Choice(value=r.id, label=r.words[:90], chosen=False, href="") for r in others),
        splits=None
        if splits is None
        else tuple(
            parts.Choice(
                value=s.by, label=f"{s.by}: {s.parts} parts, {words.percent(s.spread, 0)} apart", chosen=False, href=""
            )
            for s in splits
        ),
        watch_percent=f"{100 * min(max(one.failure_rate, 0.01), 0.99):.0f}",
    )


def _seen(builder: Builder, model: str) -> list[str]:
    return [row.version for row in builder.view.store.versions(model)]


def _facts(one: f.Slice) -> tuple[parts.Fact, ...]:
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
        parts.Fact(name="owner", value=one.owner or "nobody"),
        parts.Fact(name="slice", value=one.id, code=True),
    ]
    if one.merged_into:
        facts.insert(0, parts.Fact(name="part of", value=one.merged_into, href=f"/slices/{one.merged_into}"))
    if one.split_from:
        facts.insert(0, parts.Fact(name="split from", value=one.split_from, href=f"/slices/{one.split_from}"))
    return tuple(facts)


def _story(event: SliceEvent) -> p.StoryLine:
    text, tone = told(event.kind, event.detail)
    said = str(event.detail.get("text", ""))
    return p.StoryLine(
        at=fields.to_text(fields.from_ns(event.time_ns)), actor=event.actor, text=text, said=said, tone=tone
    )


def batches_page(builder: Builder) -> p.BatchesPage:
    """Labelling batches and test sets."""
    store = builder.view.store
    lines = [batch_line(row) for row in batches(store)]
    lines.sort(key=lambda line: line.state != "open")
    return p.BatchesPage(
        shell=builder.shell("slices"), batches=tuple(lines), sets=tuple(set_line(row) for row in all_sets(store))
    )


def batch_page(builder: Builder, identity: str) -> p.BatchPage:
    """One batch: what waits first."""
    store = builder.view.store
    row = batch(store, identity)
    waiting = cases_of_batch(store, identity, waiting=True, limit=BATCH_SHOWN)
    done = cases_of_batch(store, identity, waiting=False, limit=BATCH_SHOWN - len(waiting))
    found = [store.case(case) for _, case in [*waiting, *done]]
    of = slices(store, identity=row.slice_id) if row.slice_id else []
    return p.BatchPage(
        shell=builder.shell("slices"),
        batch=batch_line(row),
        slice_words=of[0].words if of else "",
        cases=tuple(builder.card(case) for case in found if case is not None),
        more=row.waiting + row.decided - len(found),
    )


def batch_line(row: BatchRow) -> p.BatchLine:
    """A batch for a list."""
    kept = row.waiting + row.decided
    return p.BatchLine(
        id=row.id,
        name=row.name,
        model=row.model or None,
        slice_id=row.slice_id or None,
        state=row.state.value,
        note=row.note,
        by=row.created_by,
        at=fields.to_text(fields.from_ns(row.created_ns)),
        cases=row.cases,
        waiting=row.waiting,
        decided=row.decided,
        gone=row.gone,
        share=row.decided / kept if kept else 1.0,
    )


def set_line(row: SetRow) -> p.SetLine:
    """A test set for a list."""
    at = fields.to_text(fields.from_ns(row.created_ns))
    there = f"/models/{quote(row.model)}/compare?test_set={row.id}"
    return p.SetLine(id=row.id, name=row.name, items=row.items, at=at, by=row.created_by, compare=there)


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
        state_words=state_words(one.state.value, one.fixed_in)[0],
        tone=state_words(one.state.value, one.fixed_in)[1],
        current=one.current,
        edition=one.edition,
        owner=one.owner,
        waiting=one.waiting,
        watch="" if one.watch_limit is None else words.percent(one.watch_limit, 0),
        watch_firing=one.watch_firing,
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
