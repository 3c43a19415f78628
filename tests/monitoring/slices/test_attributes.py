"""Slices by attributes: planted ones are found with exactly their conditions, noise is not, echoes are left out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from monitoring.slices.attributes import AttributeSlice, SliceOptions, find_slices

Columns = dict[str, "np.ndarray[tuple[int], np.dtype[np.str_]]"]


def columns(rng: np.random.Generator, rows: int, attributes: int = 6, values: int = 5) -> Columns:
    return {f"a{i}": rng.integers(0, values, rows).astype(str) for i in range(attributes)}


def conditions(found: list[AttributeSlice]) -> list[tuple[tuple[str, str], ...]]:
    return [s.conditions for s in found]


def test_planted_slices_are_found_with_their_own_conditions_and_without_echoes() -> None:
    rng = np.random.default_rng(1)
    a = columns(rng, 12_000)
    pair, triple = (a["a1"] == "3") & (a["a4"] == "2"), (a["a0"] == "1") & (a["a2"] == "1") & (a["a3"] == "0")
    broad = a["a5"] == "4"
    chance = np.select([pair, triple, broad], [0.45, 0.6, 0.12], 0.04)
    found = find_slices(a, rng.random(12_000) < chance)
    assert sorted(conditions(found)) == sorted(
        [(("a1", "3"), ("a4", "2")), (("a0", "1"), ("a2", "1"), ("a3", "0")), (("a5", "4"),)]
    )
    best = next(s for s in found if s.conditions == (("a1", "3"), ("a4", "2")))
    np.testing.assert_array_equal(best.rows, np.flatnonzero(pair))
    assert best.failure_rate == pytest.approx(0.45, abs=0.06)
    assert best.sentence.startswith("a1 is 3 and a4 is 2: ")


def test_failures_at_random_make_no_slice() -> None:
    rng = np.random.default_rng(2)
    reported = sum(len(find_slices(columns(rng, 3_000), rng.random(3_000) < 0.1)) for _ in range(20))
    assert reported <= 1, "1 % of worlds may have one"


def test_the_search_agrees_with_trying_every_conjunction() -> None:
    """Nothing that the bound cuts off would have been the best slice."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        a = columns(rng, 800, attributes=4, values=3)
        failed = (rng.random(800) < np.where((a["a0"] == "1") & (a["a2"] == "0"), 0.6, 0.1)).astype(float)
        options = SliceOptions(min_rows=20)
        best, where = -np.inf, ()
        single = [(name, value) for name in a for value in np.unique(a[name])]
        for depth in (1, 2, 3):
            for chosen in combinations(single, depth):
                if len({name for name, _ in chosen}) < depth:
                    continue
                inside = np.all([a[name] == value for name, value in chosen], axis=0)
                if inside.sum() >= options.min_rows:
                    lift = failed[inside].mean() / failed.mean() - 1
                    score = options.alpha * lift - (1 - options.alpha) * (800 / inside.sum() - 1)
                    if score > best:
                        best, where = score, tuple(sorted((str(n), str(v)) for n, v in chosen))
        found = find_slices(a, failed, options)
        assert found[0].score == pytest.approx(best) or set(found[0].conditions) < set(where), (
            "a simpler parent says it"
        )


def test_probabilities_serve_as_failures_too_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    a = columns(rng, 4_000)
    p = np.where(a["a3"] == "2", rng.beta(4, 4, 4_000), rng.beta(1, 20, 4_000))
    order = rng.permutation(4_000)
    first = find_slices(a, p)
    second = find_slices({name: column[order] for name, column in a.items()}, p[order])
    assert conditions(first) == conditions(second) == [(("a3", "2"),)]


def test_unknown_values_and_too_little_data_make_nothing() -> None:
    rng = np.random.default_rng(5)
    a = columns(rng, 1_000)
    a["a0"] = np.where(a["a0"] == "1", "", a["a0"])
    found = find_slices(a, rng.random(1_000) < np.where(a["a0"] == "", 0.9, 0.05))
    assert all(value for s in found for _, value in s.conditions)
    assert find_slices(columns(rng, 30), np.ones(30)) == []
    assert find_slices({}, rng.random(100) < 0.5) == []
    assert find_slices(columns(rng, 100), np.zeros(100)) == []
    with pytest.raises(ValueError, match="one value for each of 10"):
        find_slices({"a": ["x"]}, np.zeros(10))
    with pytest.raises(ValueError, match="lie in"):
        find_slices({"a": ["x"] * 100}, np.full(100, 2.0))
