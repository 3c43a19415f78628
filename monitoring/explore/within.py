"""A set of cases that a comparison stays within: a protected test set, with its own truth, or a selection."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import NotFound
from monitoring import schema as t
from monitoring.explore.pair import Pair
from monitoring.explore.selections import cases_of_selection, selection
from monitoring.review.test_sets import all_sets
from monitoring.store import Store

Place = tuple[int, int]
_CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Within:
    """Cases of one model.

    Attributes:
        name: For people.
        cases: Their ids, as far as they are still there.
        places: (id_hash, time_ns) of their records.
        truths: What the set itself says is right, by place; where it says nothing, the case's own truth counts.
    """

    name: str
    cases: tuple[str, ...]
    places: frozenset[Place]
    truths: Mapping[Place, Any]

    def keep(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The pairs that lie within, with the set's truth. Requests of several rows keep the truth of their record."""
        return [self._with_truth(pair) for pair in pairs if pair.place in self.places]

    def _with_truth(self, pair: Pair) -> Pair:
        if pair.place not in self.truths or pair.left.rows:
            return pair
        left, right = replace(pair.left, correct=None), replace(pair.right, correct=None)
        return replace(pair, label=self.truths[pair.place], left=left, right=right)


def within_test_set(store: Store, model: str, identity: str) -> Within:
    """A protected test set.

    Raises:
        NotFound: the model has none of this id.
    """
    row = next((one for one in all_sets(store, model, identity=identity)), None)
    if row is None:
        raise NotFound("this model has no test set with this id")
    i, c = t.test_set_items.c, t.cases.c
    query = sa.select(c.id, c.row, i.id_hash, i.time_ns, i.label).join(t.cases, c.id == i.case_id)
    with store.read() as connection:
        items = connection.execute(query.where(i.test_set_id == identity).order_by(i.position)).all()
    truths = {(item.id_hash, item.time_ns): row_of(json.loads(item.label), item.row) for item in items}
    return Within(name=row.name, cases=tuple(x.id for x in items), places=frozenset(truths), truths=truths)


def within_selection(store: Store, model: str, identity: str) -> Within:
    """A selection that somebody kept.

    Raises:
        NotFound: the model has none of this id.
    """
    found = selection(store, identity)
    if found.model != model:
        raise NotFound("this model has no selection with this id")
    ids = cases_of_selection(store, identity)
    return Within(name=found.title, cases=tuple(ids), places=_places(store, ids), truths={})


def row_of(label: Any, row: int) -> Any:
    """A case's own truth out of that of a request with several rows; None where it has none."""
    if not isinstance(label, dict):
        return label
    said = label.get("rows") or []
    return said[row] if row < len(said) else None


def _places(store: Store, ids: Sequence[str]) -> frozenset[Place]:
    c = t.cases.c
    found: set[Place] = set()
    with store.read() as connection:
        for start in range(0, len(ids), _CHUNK):
            query = sa.select(c.id_hash, c.time_ns).where(c.id.in_(ids[start : start + _CHUNK]))
            found.update((row.id_hash, row.time_ns) for row in connection.execute(query))
    return frozenset(found)
