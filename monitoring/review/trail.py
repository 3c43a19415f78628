"""Questions to the trail: what was done, by whom, to which case; how fast, and how well reviewers agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import InvalidRequest
from monitoring import schema as t
from monitoring.review.acts import shown_detail
from monitoring.review.agreement import Agreement, agreement, pairs_of
from monitoring.review.contracts import ActKind, Verdict
from monitoring.review.lines import read_opinions
from monitoring.store import Store
from monitoring.store_filters import given

MINUTE_NS = 60 * 10**9
PACE_MINUTES = 10
AGREED_OVER = 5000  # newest cases with several opinions that the agreement is worked out over
DECIDING = (ActKind.DECIDE.value, ActKind.BULK.value, ActKind.IMPORT.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class ActRow:
    """One act. `detail`: what was asked, without the cases one by one."""

    id: int
    actor: str
    time_ns: int
    kind: str
    detail: Mapping[str, Any]
    cases: int
    undoes: int | None
    undone_by: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What an act did to one case.

    Attributes:
        before, after: What of the standing (and of the tags) changed, from and to.
        withdrawn: The act was undone: it counts no more.
    """

    act: ActRow
    verdict: str | None
    label: str | None
    comment: str | None
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    withdrawn: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How reviewing goes.

    Attributes:
        decided: Cases decided since the day began, and not undone; `single`: of them one by one.
        per_minute: Cases over the last ten minutes, or since the first decision in them, a minute.
    """

    decided: int
    single: int
    per_minute: float


def acts(
    store: Store,
    *,
    actor: str | None = None,
    case: str | None = None,
    kind: ActKind | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[ActRow], str | None]:
    """Acts, newest first, and the cursor of the page after.

    Raises:
        InvalidRequest: `cursor` did not come from this list.
    """
    a, d = t.acts.c, t.decisions.c
    query = sa.select(t.acts).where(*given((a.actor, actor), (a.kind, None if kind is None else kind.value)))
    if case is not None:
        query = query.where(a.id.in_(sa.select(d.act_id).where(d.case_id == case)))
    if cursor is not None:
        if not cursor.isdecimal() or len(cursor) > 18:
            raise InvalidRequest("cursor is not one that this list gave")
        query = query.where(a.id < int(cursor))
    with store.read() as connection:
        rows = [_act(row) for row in connection.execute(query.order_by(a.id.desc()).limit(limit + 1)).mappings()]
    more = len(rows) > limit
    return rows[:limit], str(rows[limit - 1].id) if more else None


def history(store: Store, case: str, limit: int = 500) -> list[Step]:
    """What was done to a case, newest first."""
    a, d = t.acts.c, t.decisions.c
    names = ("verdict", "label", "comment", "before", "after", "withdrawn")
    query = sa.select(t.acts, *(d[name].label(f"of_{name}") for name in names)).join(t.decisions, a.id == d.act_id)
    query = query.where(d.case_id == case).order_by(d.id.desc()).limit(limit)
    with store.read() as connection:
        rows = connection.execute(query).mappings().all()
    return [Step(act=_act(row), **{name: row[f"of_{name}"] for name in names}) for row in rows]


def pace(store: Store, now_ns: int, actor: str | None = None, model: str | None = None) -> Pace:
    """How many were decided today (UTC), and how fast it goes now."""
    day_ns = now_ns // (86_400 * 10**9) * 86_400 * 10**9
    since_ns = now_ns - PACE_MINUTES * MINUTE_NS
    a, d, c = t.acts.c, t.decisions.c, t.cases.c
    where = [a.kind.in_(DECIDING), a.time_ns >= min(day_ns, since_ns), *given((a.actor, actor))]
    query = sa.select(a.id, a.time_ns, a.kind, sa.func.count(d.id).label("n")).join(t.decisions, d.act_id == a.id)
    if model is not None:
        query = query.join(t.cases, c.id == d.case_id).where(c.model == model)
    query = query.where(*where, d.withdrawn.is_(False)).group_by(a.id, a.time_ns, a.kind)
    with store.read() as connection:
        rows = connection.execute(query).all()
    today = [row for row in rows if row.time_ns >= day_ns]
    recent = [row for row in rows if row.time_ns >= since_ns]
    span_ns = max(now_ns - min((row.time_ns for row in recent), default=now_ns), MINUTE_NS)
    return Pace(
        decided=sum(row.n for row in today),
        single=sum(row.n for row in today if row.kind == ActKind.DECIDE.value),
        per_minute=sum(row.n for row in recent) * MINUTE_NS / span_ns,
    )


def agreement_of(store: Store, model: str | None = None) -> Agreement:
    """How well reviewers agree on the newest cases that several looked at."""
    a, d, c = t.acts.c, t.decisions.c, t.cases.c
    query = (
        sa.select(d.case_id)
        .join(t.acts, a.id == d.act_id)
        .where(d.verdict.is_not(None), d.withdrawn.is_(False), d.case_id.in_(_second_looks()))
        .group_by(d.case_id)
        .having(sa.func.count(a.actor.distinct()) > 1)
        .order_by(sa.func.max(d.id).desc())
        .limit(AGREED_OVER)
    )
    if model is not None:
        query = query.join(t.cases, c.id == d.case_id).where(c.model == model)
    with store.read() as connection:
        said = read_opinions(connection, list(connection.scalars(query)))
    clear = ([x for x in opinions if x.verdict is not Verdict.UNCLEAR] for opinions in said.values())
    return agreement(pairs_of(clear))


def _second_looks() -> sa.Select[Any]:
    """Cases that were decided on more than once, among the newest rows of the trail."""
    d = t.decisions.c
    newest = sa.select(sa.func.max(d.id)).scalar_subquery()
    recent = sa.and_(d.verdict.is_not(None), d.id > newest - 20 * AGREED_OVER)
    return sa.select(d.case_id).where(recent).group_by(d.case_id).having(sa.func.count() > 1)


def _act(row: sa.RowMapping) -> ActRow:
    same = ("id", "actor", "time_ns", "kind", "cases", "undoes", "undone_by")
    return ActRow(**{name: row[name] for name in same}, detail=shown_detail(row["detail"]))
