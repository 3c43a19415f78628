"""Cases by id, in a given order, with what people added to them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.rows import CaseRow, TensorRow
from monitoring.store import Store
from monitoring.store_rows import pick, to_case

CHUNK = 500
MOST_BYTES = 1 << 20  # of an input that a list looks into


def read_cases(store: Store, ids: Sequence[str]) -> tuple[CaseRow, ...]:
    """The cases in the order of their ids; one that is gone is left out."""
    found: dict[str, CaseRow] = {}
    with store.read() as connection:
        for chunk in (ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK)):
            rows = connection.execute(sa.select(t.cases).where(t.cases.c.id.in_(chunk))).mappings()
            found |= {row["id"]: to_case(dict(row)) for row in rows}
    return tuple(found[identity] for identity in ids if identity in found)


def read_tags(store: Store, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Tags that reviewers gave, by case, in the order of the alphabet."""
    g = t.case_tags.c
    made: dict[str, tuple[str, ...]] = {}
    with store.read() as connection:
        for chunk in (ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK)):
            query = sa.select(g.case_id, g.tag).where(g.case_id.in_(chunk)).order_by(g.case_id, g.tag)
            for identity, tag in connection.execute(query):
                made[identity] = (*made.get(identity, ()), tag)
    return made


def read_inputs(store: Store, ids: Sequence[str]) -> dict[str, tuple[TensorRow, ...]]:
    """Kept inputs of cases, in the signature's order; larger ones than a list can show are left out."""
    x = t.case_tensors.c
    made: dict[str, tuple[TensorRow, ...]] = {}
    with store.read() as connection:
        for chunk in (ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK)):
            query = sa.select(t.case_tensors).where(x.case_id.in_(chunk), x.direction == "in")
            query = query.where(sa.func.length(x.data) <= MOST_BYTES).order_by(x.case_id, x.position)
            for row in connection.execute(query).mappings():
                one = pick(TensorRow, {**row, "shape": tuple(row["shape"])})
                made[row["case_id"]] = (*made.get(row["case_id"], ()), one)
    return made
