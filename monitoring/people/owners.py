"""Of which model a thing is, by the kind of thing and its id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t

PART = 500

Models = Callable[[sa.Connection, list[str]], Iterable[tuple[str, str]]]  # (id, model) of those that there are


def _by(table: sa.Table, key: sa.ColumnElement[Any], number: bool = False) -> Models:
    def look(connection: sa.Connection, names: list[str]) -> Iterator[tuple[str, str]]:
        wanted = [int(n) for n in names if n.isdecimal() and len(n) < 19] if number else names
        for start in range(0, len(wanted), PART):
            query = sa.select(key, table.c.model).where(key.in_(wanted[start : start + PART]))
            yield from ((str(identity), str(model)) for identity, model in connection.execute(query))

    return look


def _record(connection: sa.Connection, names: list[str]) -> Iterator[tuple[str, str]]:
    r, v = t.records.c, t.versions.c
    wanted = [int(n) for n in names if n.isdecimal() and len(n) < 19]
    query = sa.select(r.seq, v.model).join(t.versions, v.id == r.version_id).where(r.seq.in_(wanted))
    yield from ((str(seq), str(model)) for seq, model in connection.execute(query))


def _act(connection: sa.Connection, names: list[str]) -> Iterator[tuple[str, str]]:
    """An act is of the models of all its cases; of one that is gone nothing is known, and it counts as another's."""
    d, c = t.decisions.c, t.cases.c
    wanted = [int(n) for n in names if n.isdecimal() and len(n) < 19]
    query = sa.select(d.act_id, sa.func.coalesce(c.model, "")).outerjoin(t.cases, c.id == d.case_id)
    yield from ((str(a), str(m)) for a, m in connection.execute(query.where(d.act_id.in_(wanted)).distinct()))


_case = _by(t.cases, t.cases.c.id)
_slice = _by(t.slices, t.slices.c.id)
_batch = _by(t.batches, t.batches.c.id)
KINDS: dict[str, Models] = {
    "case": _case,
    "cases": _case,
    "like": _case,
    "slice": _slice,
    "slice_id": _slice,
    "into": _slice,
    "batch": _batch,
    "alarm": _by(t.alarms, t.alarms.c.id),
    "silence": _by(t.silences, t.silences.c.id, number=True),
    "dataset": _by(t.snapshots, t.snapshots.c.id),
    "other_dataset": _by(t.snapshots, t.snapshots.c.id),
    "test_set": _by(t.test_sets, t.test_sets.c.id),
    "selection": _by(t.selections, t.selections.c.id),
    "selection_id": _by(t.selections, t.selections.c.id),
    "seq": _record,
    "act": _act,
}
