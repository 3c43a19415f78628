"""Cases as the ledger reads and writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.review.contracts import Standing, Verdict
from monitoring.review.machine import NAMES, Opinion, standing_of

CHUNK = 500
_all = attrgetter(*NAMES)
_COLUMN = {"label": "decided_label"}
COLUMNS: tuple[sa.Column[Any], ...] = tuple(t.cases.c[_COLUMN.get(name, name)].label(name) for name in NAMES)  # type: ignore[misc]  # a label reads like its column


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseLine:
    """What the ledger knows of a case.

    Attributes:
        standing: Where it stands with its reviewers.
        predicted: Class index, where the answer is a class; `answer`: as in the case, where it is more.
    """

    id: str
    id_hash: int
    record_id: str
    model: str
    version: str
    time_ns: int
    rows: int
    row: int
    predicted: int | None
    predicted_label: str | None
    answer: Any
    standing: Standing


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A case that an act changes."""

    case: CaseLine
    after: Standing
    verdict: str | None = None
    label: str | None = None
    comment: str | None = None
    tags_before: tuple[str, ...] | None = None
    tags_after: tuple[str, ...] | None = None


_FACTS = ("id", "id_hash", "record_id", "model", "version", "time_ns", "rows", "row", "predicted", "predicted_label",
          "answer")  # fmt: skip


def read_lines(connection: sa.Connection, ids: Sequence[str], *, lock: bool = False) -> dict[str, CaseLine]:
    """Those of the cases that there are; with `lock`, nobody else changes them until the transaction ends."""
    c = t.cases.c
    found: dict[str, CaseLine] = {}
    for chunk in chunks(sorted(set(ids))):
        query = sa.select(*(c[name] for name in _FACTS), *COLUMNS).where(c.id.in_(chunk)).order_by(c.id)
        for row in connection.execute(query.with_for_update() if lock else query):
            standing = standing_of(dict(zip(NAMES, row[len(_FACTS) :], strict=True)))
            found[row[0]] = CaseLine(**dict(zip(_FACTS, row, strict=False)), standing=standing)
    return found


def read_opinions(connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[Opinion]]:
    """What holds of what people said about these cases: the newest of each person, in the order in which they spoke."""
    d, a = t.decisions.c, t.acts.c
    found: dict[str, dict[str, Opinion]] = {}
    for chunk in chunks(sorted(set(ids))):
        query = (
            sa.select(d.case_id, d.verdict, d.label, a.actor)
            .join(t.acts, a.id == d.act_id)
            .where(d.case_id.in_(chunk), d.verdict.is_not(None), d.withdrawn.is_(False))
            .order_by(d.id)
        )
        for row in connection.execute(query):
            said = found.setdefault(row.case_id, {})
            said.pop(row.actor, None)
            said[row.actor] = Opinion(actor=row.actor, verdict=Verdict(row.verdict), label=row.label or "")
    return {identity: list(said.values()) for identity, said in found.items()}


def write_standings(connection: sa.Connection, changes: Iterable[tuple[CaseLine, Standing]]) -> None:
    """Move the columns of `cases`: those that change alike with one statement."""
    alike: dict[tuple[tuple[str, Any], ...], list[str]] = {}
    for case, after in changes:
        old, new = _values(case.standing), _values(after)
        values = tuple((n, y) for n, x, y in zip(NAMES, old, new, strict=True) if x != y and n != "edition")
        step = (("edition", after.edition - case.standing.edition),)
        alike.setdefault(values + step, []).append(case.id)
    c = t.cases.c
    for values, ids in alike.items():
        moved: dict[str, Any] = {_COLUMN.get(name, name): value for name, value in values}
        step_by = moved.pop("edition")
        if step_by:
            moved["edition"] = c.edition + step_by
        if moved:
            for chunk in chunks(sorted(ids)):
                connection.execute(t.cases.update().where(c.id.in_(chunk)).values(**moved))


def plain(standing: Standing) -> dict[str, Any]:
    """A standing as JSON holds it."""
    return dict(zip(NAMES, _values(standing), strict=True))


def difference(before: Standing, after: Standing) -> tuple[dict[str, Any], dict[str, Any]]:
    """What changed: the old values, and the new ones."""
    moved = [(n, x, y) for n, x, y in zip(NAMES, _values(before), _values(after), strict=True) if x != y]
    return {n: x for n, x, _ in moved}, {n: y for n, _, y in moved}


def _values(standing: Standing) -> tuple[Any, ...]:
    """In the order of `NAMES`, the state as text. A bulk decision asks ten thousand times: `asdict` is slow."""
    state, *rest = _all(standing)
    return (state.value, *rest)


def chunks(items: Sequence[str], size: int = CHUNK) -> list[Sequence[str]]:
    """Pieces that a statement can name."""
    return [items[i : i + size] for i in range(0, len(items), size)]
