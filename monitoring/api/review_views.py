"""The ledger's words as the API's answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from monitoring.api import fields
from monitoring.api import review_models as m
from monitoring.api.answers import standing_answer
from monitoring.api.views import View
from monitoring.people.contracts import Principal, Role
from monitoring.review import asked, trail
from monitoring.review.contracts import ActKind, Verdict
from monitoring.review.deciding import Bulk
from monitoring.review.ledger import Ledger
from monitoring.review.tags import tags_of


@dataclass(frozen=True, kw_only=True)
class ReviewView:
    """What the answers about reviewing are made of."""

    view: View
    ledger: Ledger

    def lease(self, who: Principal, ask: m.LeaseAsk) -> m.Leased:
        """The next cases."""
        which = {"model": ask.model, "version": ask.version, "slice_id": ask.slice, "tag": ask.tag, "batch": ask.batch}
        got = self.ledger.lease(who.name, ask.count, ask.seconds, skip=ask.skip, **which)
        cases = [self.view.case_detail(case) for case in got.cases]
        return m.Leased(cases=cases, until=fields.from_ns(got.until_ns), waiting=got.waiting)

    def decide(self, who: Principal, ask: m.DecisionsAsk) -> m.Decided:
        """Decisions one by one."""
        decisions = [
            asked.Decision(case=d.case, verdict=d.verdict, edition=d.edition, label=d.label, comment=d.comment)
            for d in ask.decisions
        ]
        done = self.ledger.decide(who.name, ask.key, decisions)
        results = [
            m.DecisionResult(
                case=r.case,
                ok=r.ok,
                standing=None if r.standing is None else standing_answer(r.standing, self.ledger.clock()),
                conflict=r.conflict or None,
            )
            for r in done.results
        ]
        return m.Decided(act=done.act, results=results)

    def preview(self, who: Principal, ask: m.PreviewAsk) -> m.Preview:
        """What a bulk decision would do."""
        seen = self.ledger.preview(who.name, _bulk(ask, None))
        found = (self.view.store.case(case) for case in seen.examples)
        return m.Preview(
            count=seen.count,
            examples=[self.view.case(row) for row in found if row is not None],
            by=dict(seen.by),
            skipped=dict(seen.skipped),
        )

    def bulk(self, who: Principal, ask: m.BulkAsk) -> m.Changed:
        """One decision about many cases."""
        return changed(self.ledger.bulk(who.name, ask.key, _bulk(ask, ask.expect)))

    def undo(self, who: Principal, act: int, key: str) -> m.Changed:
        """Take an act back: one's own, or as an operator anybody's.

        Raises:
            Forbidden: it is somebody else's.
        """
        own = None if who.role.covers(Role.OPERATOR) else who.name
        return changed(self.ledger.undo(who.name, key, act, only_of=own))

    def acts(self, query: m.ActQuery) -> m.Acts:
        """The audit trail."""
        rows, after = trail.acts(
            self.view.store,
            actor=query.actor,
            case=query.case,
            kind=query.kind,
            cursor=query.cursor,
            limit=query.limit,
        )
        return m.Acts(acts=[act_answer(row) for row in rows], next=after)

    def history(self, case: str) -> m.History:
        """What was done to a case, which may be gone.

        Raises:
            NotFound: there is no such case, and never was one that anybody did something to.
        """
        steps = trail.history(self.view.store, case)
        if not steps:
            self.view.case_row(case)
        with self.view.store.read() as connection:
            tags = tags_of(connection, [case]).get(case, ())
        return m.History(case=case, tags=list(tags), steps=[_step(step) for step in steps])

    def pace(self, query: m.PaceQuery) -> m.Pace:
        """How reviewing goes."""
        going = trail.pace(self.view.store, self.ledger.clock(), query.actor, query.model)
        agreed = self.agreement(query.model)
        return m.Pace(
            decided=going.decided,
            single=going.single,
            per_minute=round(going.per_minute, 2),
            waiting=self.ledger.waiting(query.model),
            agreement=agreed,
        )

    def agreement(self, model: str | None) -> m.Agreement:
        """How well reviewers agree."""
        return m.Agreement.model_validate(trail.agreement_of(self.view.store, model))


def changed(done: asked.Changed) -> m.Changed:
    """An act over many cases as an answer."""
    return m.Changed(act=done.act, changed=done.changed, skipped=dict(done.skipped))


def act_answer(row: trail.ActRow) -> m.Act:
    """An act as an answer."""
    same = ("id", "actor", "cases", "undoes", "undone_by")
    values: dict[str, Any] = {name: getattr(row, name) for name in same}
    return m.Act(
        **values | {"time": fields.from_ns(row.time_ns), "kind": ActKind(row.kind), "detail": dict(row.detail)}
    )


def _step(step: trail.Step) -> m.Step:
    decode: Callable[[str], Any] = json.loads
    return m.Step(
        act=act_answer(step.act),
        verdict=None if step.verdict is None else Verdict(step.verdict),
        label=decode(step.label) if step.label else None,
        comment=step.comment,
        before=_plain(step.before),
        after=_plain(step.after),
        withdrawn=step.withdrawn,
    )


def _plain(values: Any) -> dict[str, Any]:
    """A part of a standing with labels decoded and times as times."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        if name.endswith("_ns"):
            out[name[:-3] + ("_at" if name == "decided_ns" else "")] = (
                fields.to_text(fields.from_ns(value)) if value else None
            )
        else:
            out[name] = json.loads(value) if name == "label" and value else value if value != "" else None
    return out


def _bulk(ask: m.PreviewAsk, expect: int | None) -> Bulk:
    return Bulk(
        selection=ask.selection.domain(),
        verdict=ask.verdict,
        label=ask.label,
        comment=ask.comment,
        again=ask.again,
        expect=expect,
    )
