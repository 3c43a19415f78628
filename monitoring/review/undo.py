"""Taking an act back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState
from export.contracts.errors import Conflict, Forbidden, NotFound
from monitoring import schema as t
from monitoring.review.acts import Act
from monitoring.review.contracts import LEASE_S, ActKind, Standing
from monitoring.review.lines import CaseLine, Change, chunks, read_lines
from monitoring.review.machine import NAMES, WAITING
from monitoring.review.tags import set_tags

LASTING = (ActKind.LEASE.value, ActKind.RELEASE.value)
FEW = 50  # an undo of so few gives the cases back to whoever takes it back
_MOVING = (ActKind.DECIDE.value, ActKind.BULK.value, ActKind.IMPORT.value, ActKind.OPINION.value)
_ENDED = {"lease_by", "lease_until_ns", "edition", "tags"}  # not put back: leases end, editions only count up


def undo_act(act: Act, act_id: int, only_of: str | None = None) -> tuple[int, dict[str, int]]:
    """Put the cases of an act back to where they were before it.

    Left are cases that are gone, and those that somebody has changed since.

    Returns:
        How many were changed; how many were left, by why.

    Raises:
        Forbidden: only acts of `only_of` may be undone, and this is another's.
        NotFound: there is no such act.
        Conflict: it is undone already, or is a lease.
    """
    connection = act.connection
    a, d = t.acts.c, t.decisions.c
    known = connection.execute(sa.select(t.acts).where(a.id == act_id).with_for_update()).mappings().one_or_none()
    past = {} if known is None else dict(known)
    if not past or past["id"] == act.id:
        raise NotFound("there is no act with this number")
    if only_of is not None and past["actor"] != only_of:
        raise Forbidden(f"this was done by {past['actor']}: to undo what others did needs the role 'operator'")
    if past["kind"] in LASTING:
        raise Conflict("a lease is not undone: release the case, or let the lease end")
    if past["undone_by"] is not None:
        raise Conflict("this act is undone already: undo the undo to have it back")
    found = connection.execute(sa.select(t.decisions).where(d.act_id == act_id).order_by(d.id))
    rows = [dict(row) for row in found.mappings()]
    lines = read_lines(connection, [row["case_id"] for row in rows], lock=True)
    newest = _newest(connection, rows)
    skipped: Counter[str] = Counter()
    changes: list[Change] = []
    for row in rows:
        line = lines.get(row["case_id"])
        if line is None:
            skipped["gone"] += 1
        elif not _unchanged(line.standing, row, newest.get(line.id, 0)):
            skipped["changed since"] += 1
        else:
            changes.append(_back(act, line, row, len(rows)))
    act.apply(changes)
    set_tags(connection, [(x.case.id, x.tags_before, x.tags_after) for x in changes])
    act.undoes = act_id
    done = [x.case.id for x in changes]
    _withdraw(connection, past, done)
    connection.execute(t.acts.update().where(a.id == act_id).values(undone_by=act.id))
    if past["kind"] == ActKind.UNDO.value:  # what it had taken back stands again, and can be undone anew
        connection.execute(t.acts.update().where(a.id == past["undoes"]).values(undone_by=None))
    return len(changes), dict(skipped)


def _unchanged(standing: Standing, row: Mapping[str, Any], newest: int) -> bool:
    """Whether a case still stands as the act left it, as far as the act moved it: by what it says, and by the trail."""
    after = row["after"]
    moved = {name for name in after if name in NAMES and name not in _ENDED}
    return newest <= row["id"] and all(getattr(standing, name) == after[name] for name in moved)


def _newest(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The newest living row of the trail by which each case's edition moved, other than by undoing."""
    if not any("edition" in row["after"] for row in rows):
        return {}
    a, d = t.acts.c, t.decisions.c
    found: dict[str, int] = {}
    for chunk in chunks([row["case_id"] for row in rows]):
        query = (
            sa.select(d.case_id, sa.func.max(d.id))
            .join(t.acts, a.id == d.act_id)
            .where(d.case_id.in_(chunk), d.withdrawn.is_(False), a.kind.in_(_MOVING))
            .group_by(d.case_id)
        )
        found.update((identity, int(newest)) for identity, newest in connection.execute(query))
    return found


def _back(act: Act, line: CaseLine, row: Mapping[str, Any], of: int) -> Change:
    before, after = row["before"], row["after"]
    values: dict[str, Any] = {name: value for name, value in before.items() if name not in _ENDED}
    if "state" in values:
        values["state"] = CaseState(values["state"])
    if "edition" in after:
        values["edition"] = line.standing.edition + 1
        opened = values.get("state", line.standing.state) in WAITING and line.standing.state not in WAITING
        if opened and of <= FEW:
            values |= {"lease_by": act.actor, "lease_until_ns": act.now_ns + LEASE_S * 10**9}
    standing = replace(line.standing, **values)
    tags = ("tags" in before, tuple(after.get("tags", ())), tuple(before.get("tags", ())))
    return Change(
        case=line, after=standing, tags_before=tags[1] if tags[0] else None, tags_after=tags[2] if tags[0] else None
    )


def _withdraw(connection: sa.Connection, past: Mapping[str, Any], cases: list[str]) -> None:
    """Decisions of an act count no more, or, when it was an undo, those of the act behind it count again."""
    a, d = t.acts.c, t.decisions.c
    root, withdrawn = past, True
    while root["kind"] == ActKind.UNDO.value:
        root = dict(connection.execute(sa.select(t.acts).where(a.id == root["undoes"])).mappings().one())
        withdrawn = not withdrawn
    for chunk in chunks(cases):
        where = sa.and_(d.act_id == root["id"], d.case_id.in_(chunk))
        connection.execute(t.decisions.update().where(where).values(withdrawn=withdrawn))
