"""Splits, quotas and weights: whatever the rows are."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts.dataset import Source, Split
from export.dataset import DatasetRow
from monitoring.datasets.quotas import choose, weigh
from monitoring.datasets.recipes import Balance, Recipe, SplitBy
from monitoring.datasets.splits import Candidate, components, with_splits

NAMES = st.sampled_from([f"{kind}:{i}" for kind in "gi" for i in range(8)])


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Rows with keys that hang together in any way, some of them settled in any split."""
    made = []
    for i in range(draw(st.integers(0, 40))):
        settled = draw(st.booleans())
        row = DatasetRow(
            row_id=f"r{i:03d}",
            inputs={"x": np.zeros(1)},
            label="a",
            split=draw(st.sampled_from(list(Split))) if settled else Split.TRAIN,
            source=Source.BASE if settled else Source.CASE,
            time_ns=draw(st.integers(0, 50)),
            slices=tuple(draw(st.sets(st.sampled_from("pqr")))),
        )
        keys = (*tuple(draw(st.lists(NAMES, max_size=3))), f"r:{i}")
        made.append(Candidate(row=row, keys=keys, settled=settled, fresh=not settled, cls=draw(st.sampled_from("ab"))))
    return made


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    validation = draw(st.floats(0.0, 0.5))
    return Recipe(
        validation=validation,
        test=draw(st.floats(0.0, 0.45)),
        split_by=draw(st.sampled_from(list(SplitBy))),
        seed=draw(st.integers(0, 5)),
    )


@settings(max_examples=150, deadline=None)
@given(rows=candidates(), recipe=recipes(), order=st.randoms(use_true_random=False))
def test_nothing_that_hangs_together_is_torn_apart_and_the_order_leaves_no_trace(rows, recipe, order):
    made = with_splits(rows, recipe)
    split_of: dict[str, set[Split]] = {}
    for candidate, row in zip(rows, made, strict=True):
        for key in candidate.keys:
            split_of.setdefault(key, set()).add(row.split)
    assert all(len(found) == 1 for found in split_of.values())
    shuffled = list(rows)
    order.shuffle(shuffled)
    again = {row.row_id: row for row in with_splits(shuffled, recipe)}
    assert again == {row.row_id: row for row in made}


@settings(max_examples=100, deadline=None)
@given(rows=candidates(), recipe=recipes())
def test_what_was_tested_on_is_never_trained_on(rows, recipe):
    made = {row.row_id: row.split for row in with_splits(rows, recipe)}
    strict = [Split.TRAIN, Split.VALIDATION, Split.TEST]
    for candidate in rows:
        if candidate.settled:
            assert strict.index(made[candidate.row.row_id]) >= strict.index(candidate.row.split)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=30))
def test_components_are_those_of_the_graph(keys):
    names = components(keys)
    groups = [(name, set(own)) for name, own in zip(names, keys, strict=True)]
    for name, own in groups:
        for other, its in groups:
            if own & its:
                assert name == other
    for name in set(names):  # a component hangs together: growing from its first row reaches all of it
        members = [own for n, own in groups if n == name]
        reached, rest = set(members[0]), members[1:]
        while any(m & reached for m in rest):
            reached |= next(m for m in rest if m & reached)
            rest = [m for m in rest if not m <= reached]
        assert not rest
        assert name == min(reached)


@settings(max_examples=100, deadline=None)
@given(rows=candidates(), limit=st.integers(1, 12), per_slice=st.integers(0, 4), per_class=st.integers(0, 6))
def test_quotas_hold_and_nothing_settled_is_lost(rows, limit, per_slice, per_class):
    recipe = Recipe(max_rows=limit, slice_rows=per_slice, class_rows=per_class)
    taken, left_out = choose(rows, recipe)
    fresh = [c for c in taken if c.fresh]
    assert {c.row.row_id for c in taken} >= {c.row.row_id for c in rows if c.settled}
    assert len(fresh) <= limit
    assert len(taken) + left_out.total() == len(rows)
    slices = Counter(s for c in fresh for s in c.row.slices)
    assert not per_slice or all(n <= per_slice for n in slices.values())
    assert not per_class or all(n <= per_class for n in Counter(c.cls for c in fresh).values())
    again, _ = choose(rows[::-1], recipe)
    assert {c.row.row_id for c in again} == {c.row.row_id for c in taken}


@settings(max_examples=100, deadline=None)
@given(rows=candidates(), share=st.floats(0.05, 0.95), balance=st.sampled_from(list(Balance)))
def test_weights_have_the_mean_of_one_and_the_shares_that_were_asked_for(rows, share, balance):
    made = with_splits(rows, Recipe())
    fresh = frozenset(c.row.row_id for c in rows if c.fresh)
    classes = [c.cls for c in rows]
    weighed = weigh(made, fresh, classes, Recipe(new_share=share, balance=balance))
    train = [(row, cls) for row, cls in zip(weighed, classes, strict=True) if row.split is Split.TRAIN]
    total = sum(row.weight for row, _ in train)
    assert math.isclose(total, len(train), rel_tol=1e-6, abs_tol=1e-6)
    new = sum(row.weight for row, _ in train if row.row_id in fresh)
    if balance is Balance.WEIGHTS:
        sums: Counter[str] = Counter()
        for row, cls in train:
            sums[cls] += row.weight  # type: ignore[assignment]
        assert max(sums.values(), default=0) == pytest.approx(min(sums.values(), default=0))
    elif 0 < sum(row.row_id in fresh for row, _ in train) < len(train):
        assert new == pytest.approx(share * len(train), rel=1e-6)
    assert all(row.weight == 1.0 for row in weighed if row.split is not Split.TRAIN)


def test_shares_hold_for_every_class():
    rows = [
        Candidate(row=DatasetRow(row_id=f"{i:04d}", inputs={}, label=cls), keys=(f"r:{i}",), cls=cls)
        for i, cls in enumerate("a" * 500 + "b" * 50 + "c" * 450)
    ]
    made = with_splits(rows, Recipe(validation=0.2, test=0.1))
    for cls, count in (("a", 500), ("b", 50), ("c", 450)):
        splits = Counter(row.split for row in made if row.label == cls)
        assert abs(splits[Split.VALIDATION] - 0.2 * count) <= 2
        assert abs(splits[Split.TEST] - 0.1 * count) <= 2


def test_by_time_the_newest_are_tested_on():
    rows = [
        Candidate(row=DatasetRow(row_id=f"{i:04d}", inputs={}, label="a", time_ns=i), keys=(f"r:{i}",))
        for i in range(100)
    ]
    made = with_splits(rows, Recipe(validation=0.2, test=0.1, split_by=SplitBy.TIME))
    assert [row.split for row in made] == [Split.TRAIN] * 70 + [Split.VALIDATION] * 20 + [Split.TEST] * 10
