"""Questions about one case: where it stands, and what every version said to the same request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState
from monitoring import schema as t
from monitoring.review.contracts import Standing
from monitoring.store import Store

MOST_SAID = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class SaidRow:
    """What a version answered. Columns as in `monitoring.schema.records`.

    Attributes:
        same_request: It is the same request, answered by another version in the shadow or the canary, and not another
            request with the same input.
        case_id: Its case; None where it became none.
    """

    version: str
    variant: str
    record_id: str
    time_ns: int
    outcome: str
    rows: int
    predicted: int | None
    value: float | None
    answer: Any
    p_wrong: float | None
    correct_rows: int | None
    same_request: bool
    case_id: str | None


def standing_of(store: Store, identity: str) -> Standing | None:
    """Where a case stands with its reviewers; None where there is no such case."""
    c = t.cases.c
    names = ("edition", "lease_by", "lease_until_ns", "assignee", "priority", "opinions", "verdict", "decided_by")
    query = sa.select(*(c[n] for n in names), c.state, c.decided_ns, c.decided_label).where(c.id == identity)
    with store.read() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    values = {name: row[name] for name in names}
    state, label = CaseState(row["state"]), row["decided_label"]
    return Standing(**values, state=state, label=label, decided_ns=row["decided_ns"])


def said_of_case(store: Store, identity: str) -> list[SaidRow]:
    """What the versions of the model said to this request, and to others with the same input, newest first.

    A request that a challenger answered in the shadow has a record of each under one id. The same input at another time
    is found by the hash of its content, which flagged records have.
    """
    c, r = t.cases.c, t.records.c
    facts = (c.id_hash, c.record_id, c.model, c.time_ns, c.variant, c.content_hash)
    with store.read() as connection:
        case = connection.execute(sa.select(*facts).where(c.id == identity)).one_or_none()
        if case is None:
            return []
        rows = _records(connection, sa.and_(r.id_hash == case.id_hash, r.record_id == case.record_id), case.model)
        if case.content_hash is not None:
            rows |= _records(connection, r.content_hash == case.content_hash, case.model)
        own = sa.tuple_(c.id_hash, c.time_ns, c.variant).in_(
            [(x["id_hash"], x["time_ns"], x["variant"]) for x in rows.values()]
        )
        known = connection.execute(sa.select(c.id_hash, c.time_ns, c.variant, c.id).where(own)).all() if rows else []
    cases = {(x.id_hash, x.time_ns, x.variant): x.id for x in known}
    made = [
        SaidRow(
            **{n: x[n] for n in _SAID},
            same_request=x["id_hash"] == case.id_hash and x["time_ns"] == case.time_ns,
            case_id=cases.get((x["id_hash"], x["time_ns"], x["variant"])),
        )
        for x in rows.values()
    ]
    made.sort(key=lambda x: (not x.same_request, -x.time_ns, x.version, x.variant))
    return made[:MOST_SAID]


_SAID = ("version", "variant", "record_id", "time_ns", "outcome", "rows", "predicted", "value", "answer", "p_wrong",
         "correct_rows")  # fmt: skip


def _records(connection: sa.Connection, which: sa.ColumnElement[bool], model: str) -> dict[int, dict[str, Any]]:
    r, v = t.records.c, t.versions.c
    names = [r[n] for n in _SAID if n != "version"]
    query = sa.select(r.seq, r.id_hash, v.version, *names).join(t.versions, r.version_id == v.id)
    query = query.where(which, v.model == model).order_by(r.time_ns.desc(), r.seq.desc()).limit(MOST_SAID)
    return {row["seq"]: dict(row) for row in connection.execute(query).mappings()}


@dataclass(frozen=True, kw_only=True, slots=True)
class ActRow:
    """What an act did to a case. `before` and `after` hold what changed of `monitoring.review.contracts.Standing`."""

    act: int
    time_ns: int
    actor: str
    kind: str
    verdict: str | None
    label: str | None
    comment: str | None
    before: dict[str, Any]
    after: dict[str, Any]
    withdrawn: bool


def history_of(store: Store, identity: str, limit: int = 200) -> list[ActRow]:
    """What people did to a case, newest first."""
    d, a = t.decisions.c, t.acts.c
    columns = (
        a.id.label("act"),
        a.time_ns,
        a.actor,
        a.kind,
        d.verdict,
        d.label,
        d.comment,
        d.before,
        d.after,
        d.withdrawn,
    )
    query = sa.select(*columns).join(t.acts, a.id == d.act_id).where(d.case_id == identity)
    with store.read() as connection:
        rows = connection.execute(query.order_by(d.id.desc()).limit(limit)).mappings()
        return [ActRow(**row) for row in rows]


def tags_of(store: Store, identity: str) -> tuple[str, ...]:
    """The tags that people gave a case."""
    c = t.case_tags.c
    with store.read() as connection:
        return tuple(connection.scalars(sa.select(c.tag).where(c.case_id == identity).order_by(c.tag)))


def label_of(standing: Standing) -> Any:
    """The settled label; None without one."""
    return json.loads(standing.label) if standing.label else None
