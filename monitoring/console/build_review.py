"""The review page, and one case of it as a sheet."""

from __future__ import annotations

import time

from export.contracts.cases import CaseState
from export.contracts.manifest import TaskKind
from monitoring.api import fields
from monitoring.api.finding_views import Findings
from monitoring.case_facts import label_of, standing_of
from monitoring.console import parts, words
from monitoring.console.build import Builder
from monitoring.console.build_answers import answer_part
from monitoring.console.build_case_parts import bars_of, verdict_of
from monitoring.console.build_inputs import inputs_of
from monitoring.console.build_pads import pad_of
from monitoring.console.review_parts import Classes, ReviewPage, Sheet, StandingLine
from monitoring.people.contracts import Principal, Role
from monitoring.review.contracts import LEASE_S, Standing, Verdict
from monitoring.slice_queries import counts_of_groups, leader_of, slices_of_case
from monitoring.store import Store

FILTERS = ("model", "version", "slice", "tag", "batch")
COMMENTS = 5
VERDICTS = {
    Verdict.CORRECT: "the answer is right",
    Verdict.LABEL: "labelled",
    Verdict.WRONG: "the answer is wrong",
    Verdict.UNCLEAR: "unclear",
    Verdict.DISMISS: "dismissed",
}


def review_page(builder: Builder, who: Principal, asked: dict[str, str], first: str | None, back: str) -> ReviewPage:
    """The page around the cases.

    Args:
        builder: Store and catalogue.
        who: Who looks.
        asked: Filters of the queue, as in the address.
        first: The case to begin with, whatever the queue says.
        back: Where it was come from; an address of the console.
    """
    filters = {name: asked[name] for name in FILTERS if asked.get(name)}
    if "model" in filters:
        builder.view.known(filters["model"], filters.get("version"))
    shell = builder.shell("review")
    return ReviewPage(
        shell=shell,
        actor=who.name,
        role=who.role.value,
        may_decide=who.role.covers(Role.REVIEWER),
        title=", ".join(f"{name} {value}" for name, value in filters.items()) or "everything",
        filters=filters,
        models=builder.view.models(),
        first=first,
        waiting=shell.open_cases,
        lease_s=LEASE_S,
        back=back,
    )


def sheet(builder: Builder, findings: Findings, identity: str) -> Sheet:
    """One case, ready to be decided.

    Raises:
        NotFound: there is none.
    """
    view = builder.view
    row = view.case_row(identity)
    case = view.case_detail(identity)
    card = builder.card(row)
    verdict, tone = verdict_of(card)
    bars, hidden = bars_of(case, card)
    leader = leader_of(view.store, identity)
    count = counts_of_groups(view.store, [leader]).get(leader)
    manifest = view.manifest(row.model, row.version)
    return Sheet(
        card=card,
        task=case.task or TaskKind.OTHER.value,
        verdict=verdict,
        verdict_tone=tone,
        standing=standing_line(view.store, identity, case.class_names),
        inputs=inputs_of(builder, row, view.store.case_tensors(identity)),
        answer=answer_part(builder, case),
        bars=bars,
        hidden_classes=hidden,
        pad=pad_of(manifest, case),
        why=tuple(parts.Fact(name=words.reason(r), value=words.reason_text(r)) for r in row.reasons),
        facts=_facts(row.record_id, fields.to_text(case.time), case.params, case.tags),
        slices=tuple(
            parts.Fact(name=key, value=text, href=f"/slices/{key}")
            for key, text in slices_of_case(view.store, identity)
        ),
        stands_for=1 if count is None else count.records,
        leader=leader,
        error=case.error,
        comments=tuple(f.comment for f in case.feedback if f.comment)[-COMMENTS:],
    )


def classes_of(builder: Builder, model: str, version: str) -> Classes:
    """The classes of a version.

    Raises:
        NotFound: there is no such model or version.
    """
    manifest = builder.view.manifest(builder.view.known(model, version), version)
    names = () if manifest is None else manifest.task.class_names
    task = TaskKind.OTHER if manifest is None else manifest.task.kind
    return Classes(model=model, version=version, task=task.value, classes=names)


def standing_line(store: Store, identity: str, names: list[str]) -> StandingLine:
    """Where a case stands, with a sentence for people."""
    now = standing_of(store, identity) or Standing()
    label = words.label(label_of(now), names) or ""
    leased = now.lease_by if now.lease_until_ns > time.time_ns() else ""
    return StandingLine(
        edition=now.edition,
        state=now.state.value,
        leased_by=leased,
        leased_until_ns=now.lease_until_ns,
        assignee=now.assignee,
        priority=now.priority,
        opinions=now.opinions,
        verdict=now.verdict,
        label=label,
        decided_by=now.decided_by,
        decided_at=fields.to_text(fields.from_ns(now.decided_ns)) if now.decided_ns else None,
        sentence=_sentence(now.state.value, now.verdict, label, now.decided_by, leased),
    )


def _sentence(state: str, verdict: str, label: str, by: str, leased_by: str) -> str:
    if verdict:
        said = VERDICTS[Verdict(verdict)]
        return f"{said}{f' {label}' if label else ''}, says {by}"
    if state == CaseState.SECOND_OPINION:
        return "waits for another opinion"
    return f"{leased_by} has it" if leased_by else words.state(state)


def _facts(record_id: str, at: str, params: str | None, tags: str | None) -> tuple[parts.Fact, ...]:
    facts = [parts.Fact(name="received", value=words.clock(at)), parts.Fact(name="record", value=record_id, code=True)]
    for name, text in (("parameters", words.pretty(params)), ("tags", words.pretty(tags))):
        if text:
            facts.append(parts.Fact(name=name, value=text, code=True))
    return tuple(facts)
