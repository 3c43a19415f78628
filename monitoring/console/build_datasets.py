"""The pages about data sets and lineage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from export.contracts.dataset import Source, Split
from export.contracts.errors import SnapshotError
from monitoring.api import dataset_models as m
from monitoring.api.dataset_views import DatasetDesk, shown_version
from monitoring.api.fields import from_ns, to_text
from monitoring.console import dataset_parts as p
from monitoring.console.build import Builder
from monitoring.console.lineage_picture import picture_of
from monitoring.console.parts import CaseCard, Choice, Fact
from monitoring.datasets import lineage
from monitoring.datasets.recipes import Recipe

TONES = {"train": "c1", "validation": "c3", "test": "c4", "base": "c2", "case": "c1", "feedback": "c3", "audit": "c5"}
STATES = {"whole": "", "erasing": "rows are being erased", "erased": "erased"}
EXAMPLES = 18
SHOWN = 60
MOST_CLASSES = 60


def datasets_page(builder: Builder, desk: DatasetDesk, model: str | None) -> p.DatasetsPage:
    """All snapshots, newest first."""
    found = desk.all(m.DatasetQuery(model=model, limit=200)).datasets
    models = builder.view.models()
    return p.DatasetsPage(
        shell=builder.shell("datasets"),
        models=tuple(Choice(value=n, label=n, chosen=n == model, href=f"/datasets?model={n}") for n in models),
        build=tuple(models),
        cards=tuple(_card(d) for d in found),
    )


def dataset_page(builder: Builder, desk: DatasetDesk, identity: str) -> p.DatasetPage:
    """One snapshot."""
    one = desk.one(identity)
    classes: tuple[p.BarLine, ...] = ()
    slices: tuple[p.BarLine, ...] = ()
    cases: list[str] = []
    problem = ""
    try:
        table = desk.row(identity).open().table(columns=["label", "split", "source", "case_id", "slices", "time_ns"])
    except SnapshotError as error:
        problem = f"Its data cannot be read: {error.message}"
    else:
        splits = table["split"].to_pylist()
        if one.classes:
            classes = _bars(Counter(zip(map(_text, table["label"].to_pylist()), splits, strict=True)))
        held = zip(table["slices"].to_pylist(), splits, strict=True)
        slices = _bars(Counter((name, split) for names, split in held for name in names))
        newest = sorted(zip(table["time_ns"].to_pylist(), table["case_id"].to_pylist(), strict=True), reverse=True)
        cases = list(dict.fromkeys(case for _, case in newest if case))[: EXAMPLES * 3]
    others = [d for d in desk.all(m.DatasetQuery(model=one.model, limit=200)).datasets if d.id != identity]
    return p.DatasetPage(
        shell=builder.shell("datasets"),
        card=_card(one),
        facts=_facts(one),
        notes=tuple(one.notes),
        classes=classes,
        slices=slices,
        recipe=_recipe(one.recipe, usual=False),
        usual=_recipe(one.recipe, usual=True),
        examples=_examples(builder, cases)[:EXAMPLES],
        others=tuple(
            Choice(value=d.id, label=f"{d.name} · {d.id[:8]}", chosen=False, href=f"/datasets/{d.id}/diff/{identity}")
            for d in others[:20]
        ),
        picture=picture_of(_around(desk, one)),
        problem=problem,
    )


def diff_page(builder: Builder, desk: DatasetDesk, before: str, after: str) -> p.DatasetDiffPage:
    """From one snapshot to another."""
    found = desk.diff(before, after, m.DatasetDiffQuery(limit=SHOWN))
    pictures = {card.id: card.picture or "" for card in _examples(builder, [r.case for r in found.rows if r.case])}
    return p.DatasetDiffPage(
        shell=builder.shell("datasets"),
        before=_card(found.before),
        after=_card(found.after),
        same=found.same,
        counts=tuple(found.counts.items()),
        labels=_diverging(found.by_label),
        sources=_diverging(found.by_source),
        rows=tuple(
            p.ChangeLine(
                row_id=r.row_id,
                change=r.change.value,
                before="" if r.before is None else _shown(r.before),
                after="" if r.after is None else _shown(r.after),
                source=r.source,
                case=r.case or "",
                picture=pictures.get(r.case or "", ""),
            )
            for r in found.rows
        ),
        more=sum(found.counts.values()) - len(found.rows),
    )


def lineage_page(builder: Builder, desk: DatasetDesk, found: lineage.Lineage) -> p.LineagePage:
    """What hangs together."""
    shown = [desk.shown(node.snapshot) for node in found.snapshots]
    return p.LineagePage(
        shell=builder.shell("datasets"),
        about=found.about,
        picture=picture_of(found),
        said=tuple(
            Fact(
                name=f"{s.actor}, {to_text(from_ns(s.time_ns))[:19]}Z",
                value=s.what + ("" if s.label is None else f": {_text(s.label)}"),
                href=f"/cases/{s.case}",
            )
            for s in found.said[:SHOWN]
        ),
        records=tuple(
            Fact(
                name=r.record_id,
                value=f"version {r.version} said {r.predicted or 'nothing'}",
                href=f"/cases/{r.case}" if r.case else "",
            )
            for r in found.records[:SHOWN]
        ),
        snapshots=tuple(_card(d) for d in shown),
        versions=tuple(_version(shown_version(node, desk.mlflow)) for node in found.versions),
        total=found.total,
    )


def _version(v: m.LineageVersion) -> p.VersionLine:
    steps = [
        ("data set", v.snapshot, f"/datasets/{v.snapshot}", v.snapshot),
        ("turn of the loop", v.stage.replace("_", " "), f"/loop/{v.training}", v.training),
        ("gate", v.gate_outcome, f"/gates/{v.gate}", v.gate),
        ("roll-out", v.rollout_state.replace("_", " "), f"/rollouts/{v.rollout}", v.rollout),
    ]
    there = []
    if v.mlflow is not None:
        there.append(Fact(name="in MLflow", value=f"{v.mlflow.name} version {v.mlflow.number}", href=v.mlflow.url))
        if v.mlflow.run_url:
            there.append(Fact(name="run in MLflow", value=v.mlflow.run[:12], href=v.mlflow.run_url))
    return p.VersionLine(
        name=f"{v.model} {v.version}",
        champion=v.champion,
        steps=tuple(Fact(name=name, value=text, href=href) for name, text, href, known in steps if known),
        elsewhere=tuple(there),
    )


def _around(desk: DatasetDesk, one: m.Dataset) -> lineage.Lineage:
    """A snapshot in the middle of its lineage."""
    store, catalogue = desk.source.store, desk.source.catalogue
    return lineage.of_snapshot(store, catalogue, desk.folder, one.id)


def _card(d: m.Dataset) -> p.DatasetCard:
    state = STATES[d.state.value]
    if d.erased and d.state.value == "erased":
        state = f"{d.erased} rows erased; " + (f"{d.successor[:8]} has the rest" if d.successor else "nothing is left")
    return p.DatasetCard(
        id=d.id,
        name=d.name,
        model=d.model,
        rows=d.rows,
        base="" if d.base is None else d.base.removeprefix("sha256:")[:16],
        at=to_text(d.created_at),
        by=d.created_by,
        state_words=state,
        splits=_line("splits", d.splits, [s.value for s in Split]),
        sources=_line("sources", d.sources, [s.value for s in Source]),
        versions=tuple(d.versions),
    )


def _line(name: str, counts: Mapping[str, int], order: list[str], widest: int = 0) -> p.BarLine:
    total = sum(counts.values())
    scale = 100.0 / max(widest, total, 1)
    pieces, x = [], 0.0
    for key in order:
        count = counts.get(key, 0)
        if count:
            tone = TONES.get(key, "c1")
            pieces.append(p.Bar(name=key, count=count, x=round(x, 3), width=round(count * scale, 3), tone=tone))
            x += count * scale
    return p.BarLine(name=name, count=total, pieces=tuple(pieces))


def _bars(counts: Counter[tuple[str, str]]) -> tuple[p.BarLine, ...]:
    """A bar a name, its splits side by side; the largest names, in the order of the alphabet."""
    by_name: dict[str, Counter[str]] = {}
    for (name, split), count in counts.items():
        by_name.setdefault(name, Counter())[split] += count
    kept = sorted(by_name, key=lambda name: (-by_name[name].total(), name))[:MOST_CLASSES]
    widest = max((by_name[name].total() for name in kept), default=0)
    order = [s.value for s in Split]
    return tuple(_line(name, by_name[name], order, widest) for name in sorted(kept))


def _diverging(found: Mapping[str, Mapping[str, int]]) -> tuple[p.DiffLine, ...]:
    widest = max((max(c["added"], c["removed"]) for c in found.values()), default=0) or 1
    return tuple(
        p.DiffLine(
            name=name,
            added=c["added"],
            removed=c["removed"],
            other=c["relabelled"] + c["moved"],
            right=round(50.0 * c["added"] / widest, 2),
            left=round(50.0 * c["removed"] / widest, 2),
        )
        for name, c in found.items()
    )


def _facts(d: m.Dataset) -> tuple[Fact, ...]:
    base = "" if d.base is None else d.base.removeprefix("sha256:")[:16]
    facts = [
        Fact(name="digest", value=d.digest, code=True),
        Fact(name="model", value=d.model, href=f"/models/{d.model}"),
        Fact(name="made", value=f"{to_text(d.created_at)[:19]}Z by {d.created_by}"),
        Fact(name="newest row", value=f"{to_text(d.newest_at)[:19]}Z" if d.newest_at.year > 1970 else "no times known"),
    ]
    facts += [Fact(name="carries on", value=base, href=f"/datasets/{base}")] if base else []
    facts += [
        Fact(name="trained on it", value=f"{d.model} {v}", href=f"/lineage/version/{d.model}?version={v}")
        for v in d.versions
    ]
    return tuple(facts)


def _recipe(recipe: Mapping[str, Any], *, usual: bool) -> tuple[Fact, ...]:
    """Fields that are as by default, or the others."""
    default = Recipe().to_plain()
    return tuple(
        Fact(name=name, value=_shown(value)) for name, value in recipe.items() if (value == default.get(name)) == usual
    )


def _examples(builder: Builder, cases: list[str]) -> tuple[CaseCard, ...]:
    """Cards of those that are still kept, the same input once."""
    cards: list[CaseCard] = []
    for identity in cases:
        row = builder.view.store.case(identity)
        if row is not None:
            cards.append(builder.card(row))
        if len(cards) >= SHOWN:
            break
    return tuple(cards)


def _text(label: str) -> str:
    return _shown(json.loads(label))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:200]
