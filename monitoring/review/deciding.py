"""Decisions about many cases: what becomes of each, and which are left as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState
from export.contracts.errors import InvalidRequest
from monitoring.review import machine
from monitoring.review.asked import Decision, ImportedLabel, Result, Selection
from monitoring.review.contracts import Standing, Verdict
from monitoring.review.lines import CaseLine, Change, plain, read_lines, read_opinions
from monitoring.review.machine import Opinion, Refusal
from monitoring.review.truths import label_of

MAX_COMMENT = 4000


@dataclass(frozen=True, kw_only=True, slots=True)
class Bulk:
    """One decision about many cases.

    Attributes:
        again: Also about cases that are settled already; otherwise they are skipped.
        expect: How many cases would change as the reviewer saw it; another number is a conflict and nothing is done.
    """

    selection: Selection
    verdict: Verdict
    label: Any = None
    comment: str | None = None
    again: bool = False
    expect: int | None = None


def one_by_one(
    connection: sa.Connection, actor: str, decisions: Sequence[Decision], now_ns: int
) -> tuple[list[Change], list[dict[str, Any]]]:
    """What becomes of each case, and the results as they are stored: see `to_result`."""
    lines = read_lines(connection, [d.case for d in decisions], lock=True)
    given = _given(connection, lines.values())
    changes: list[Change] = []
    results: list[dict[str, Any]] = []
    for d in decisions:
        line = lines.get(d.case)
        if line is None:
            results.append({"case": d.case, "ok": False, "standing": None, "conflict": "there is no such case"})
            continue
        try:
            change = _decision(line, actor, d, given.get(d.case, []), now_ns)
        except Refusal as refusal:
            results.append(_result(d.case, line.standing, str(refusal)))
            continue
        changes.append(change)
        results.append(_result(d.case, change.after))
    return changes, results


def in_bulk(
    connection: sa.Connection, actor: str, asked: Bulk, ids: Sequence[str], now_ns: int, *, lock: bool = False
) -> tuple[list[Change], dict[str, int]]:
    """The same decision about each of the cases; how many are left, by why."""
    lines = read_lines(connection, ids, lock=lock)
    given = _given(connection, lines.values())
    skipped: Counter[str] = Counter()
    changes = []
    for identity in ids:
        line = lines.get(identity)
        if line is None:
            skipped["gone"] += 1
            continue
        if line.standing.decided_by and line.standing.state not in machine.WAITING and not asked.again:
            skipped["settled"] += 1
            continue
        one = Decision(case=identity, verdict=asked.verdict, label=asked.label, comment=asked.comment)
        try:
            changes.append(_decision(line, actor, one, given.get(identity, ()), now_ns))
        except Refusal:
            skipped["leased" if machine.leased(line.standing, now_ns) else "opinion given"] += 1
    return changes, dict(skipped)


def imported(
    connection: sa.Connection, reviewer: str, items: Sequence[ImportedLabel], now_ns: int
) -> tuple[list[Change], dict[str, int]]:
    """Opinions from elsewhere; how many are left, by why."""
    lines = read_lines(connection, [x.case for x in items], lock=True)
    given = _given(connection, lines.values())
    changes: dict[str, Change] = {}
    skipped: Counter[str] = Counter()
    for item in items:
        line = lines.get(item.case)
        if line is None or item.case in changes:
            skipped["gone" if line is None else "named twice"] += 1
            continue
        asked = Decision(case=item.case, verdict=item.verdict, label=item.label, comment=item.comment)
        opinions = given.get(item.case, ())
        says = _opinion(line, reviewer, asked).says
        if any(x.actor == reviewer and x.says == says for x in opinions):
            skipped["said already"] += 1
            continue
        free = replace(line, standing=replace(line.standing, lease_by="", lease_until_ns=0))
        try:
            changes[item.case] = replace(_decision(free, reviewer, asked, opinions, now_ns), case=line)
        except Refusal:
            skipped["opinion given"] += 1
    return list(changes.values()), dict(skipped)


def _given(connection: sa.Connection, lines: Collection[CaseLine]) -> dict[str, list[Opinion]]:
    """Opinions on those of the cases that may have some: it is a question less for all others."""
    some = [x.id for x in lines if x.standing.edition > 0]
    return read_opinions(connection, some) if some else {}


def check_verdict(verdict: Verdict, label: Any, comment: str | None) -> None:
    """Whether a verdict is whole.

    Raises:
        InvalidRequest: says what is missing, or too much.
    """
    if (verdict is Verdict.LABEL) != (label is not None):
        raise InvalidRequest("label: it goes with the verdict 'label', and that with a label")
    if comment is not None and len(comment) > MAX_COMMENT:
        raise InvalidRequest(f"comment: at most {MAX_COMMENT} characters")


def _opinion(line: CaseLine, actor: str, d: Decision) -> Opinion:
    return Opinion(actor=actor, verdict=d.verdict, label=label_of(line, d.verdict, d.label))


def _decision(line: CaseLine, actor: str, d: Decision, given: Sequence[Opinion], now_ns: int) -> Change:
    opinion = _opinion(line, actor, d)
    after = machine.decide(line.standing, opinion, d.edition, given, now_ns)
    return Change(case=line, after=after, verdict=d.verdict.value, label=opinion.label, comment=d.comment)


def _result(case: str, standing: Standing, conflict: str = "") -> dict[str, Any]:
    return {"case": case, "ok": not conflict, "standing": plain(standing), "conflict": conflict}


def to_result(stored: Mapping[str, Any]) -> Result:
    """A result as it was stored."""
    standing = stored["standing"]
    made = None if standing is None else Standing(**standing | {"state": CaseState(standing["state"])})
    return Result(case=stored["case"], ok=stored["ok"], standing=made, conflict=stored["conflict"])


def answered(line: CaseLine) -> str:
    """What the model answered, in a word."""
    if line.predicted_label is not None:
        return line.predicted_label
    return "unknown" if line.predicted is None else str(line.predicted)


def words_of(selection: Selection) -> dict[str, Any]:
    """A selection for the trail."""
    if selection.cases is not None:
        return {"cases": len(selection.cases)}
    if selection.filter is not None:
        given = {name: value for name, value in selection.filter.items() if value is not None}
        return {"filter": {name: getattr(value, "value", value) for name, value in given.items()}}
    if selection.slice is not None:
        return {"slice": selection.slice}
    return {"like": selection.like, "likeness": selection.likeness, "limit": selection.limit}
