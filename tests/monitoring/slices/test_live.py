"""Slices of a running monitor: found in the records, known again, measured when they recover, shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.cycle import Loop, make_loop, run_cycle
from monitoring.neighbours import EXACT_BELOW, Held, Neighbours
from monitoring.options import SliceSearchOptions
from monitoring.slice_queries import cases_of_slice, slices
from monitoring.slices.found import Span, members, rate_of, search
from monitoring.slices.spans import span_of
from monitoring.store import Store
from monitoring.vectors import cosines, stack, to_units, to_vectors
from tests.support import monitor_world as w


def span(rng: np.random.Generator, bad: float, n: int = 4000) -> Span:
    """Records of which those of the north camera at night fail, and so does a corner of the embedding."""
    camera, hour = rng.choice(["north", "south", "east"], n), rng.choice(["day", "night"], n)
    points = rng.standard_normal((n, 16)).astype(np.float32)
    corner = rng.random(n) < 0.05
    points[corner] = points[corner] * 0.3 + 3.0
    chance = np.where((camera == "north") & (hour == "night"), bad, 0.03)
    chance = np.where(corner, 0.8, chance)
    units = to_units(to_vectors(points))
    return Span(
        attributes={"camera": camera, "hour": hour},
        failure=(rng.random(n) < chance).astype(float),
        labelled=np.ones(n, dtype=bool),
        versions=np.full(n, "1"),
        vectors={"1": (np.arange(n), units)},
    )


def test_planted_slices_are_found_in_words_and_by_looks():
    one = span(np.random.default_rng(1), 0.5)
    found = search("m", one, {}, 20)
    assert [f.words for f in found if not f.version] == ["camera is north and hour is night"]
    assert any(f.version == "1" and f.rate.rate > 0.6 for f in found)


def test_a_slice_keeps_its_identity_and_its_interval_holds_the_truth():
    first = next(f for f in search("m", span(np.random.default_rng(2), 0.5), {}, 20) if not f.version)
    again = next(f for f in search("m", span(np.random.default_rng(3), 0.6), {}, 20) if not f.version)
    assert first.id == again.id
    held = 0
    for seed in range(60):
        one = span(np.random.default_rng(100 + seed), 0.5, 1000)
        rate = rate_of(one, members(one, (("camera", "north"), ("hour", "night"))))
        held += rate.low <= 0.5 * 0.95 + 0.8 * 0.05 <= rate.high
    assert held >= 52


def test_a_slice_that_another_one_explains_is_named_with_it():
    rng = np.random.default_rng(5)
    n = 3000
    odd = rng.random(n) < 0.06
    points = rng.standard_normal((n, 12)).astype(np.float32)
    points[odd] = points[odd] * 0.2 + 3.0
    one = Span(
        attributes={"site": np.where(odd, "dock", "yard")},
        failure=(rng.random(n) < np.where(odd, 0.7, 0.02)).astype(float),
        labelled=np.ones(n, dtype=bool),
        versions=np.full(n, "1"),
        vectors={"1": (np.arange(n), to_units(to_vectors(points)))},
    )
    found = search("m", one, {}, 20)
    assert [f.words for f in found] == ["site is dock"]
    assert found[0].explains


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Loop]]:
    """A day with a shift, searched."""
    folder = tmp_path_factory.mktemp("slices")
    options = replace(w.options(folder, window_s=30), slices=SliceSearchOptions(every_windows=2))
    w.day(options.records_root, seconds=190, rate=20, shift_from=80)
    store = Store(options.database_url)
    loop = make_loop(options, store, w.catalogue(folder / "reference"))
    while run_cycle(loop):
        pass
    loop.roster.finish(loop)
    yield store, loop
    store.close()


def test_the_monitor_finds_slices_with_trend_and_cases(world: tuple[Store, Loop]):
    store, _ = world
    found = slices(store, "digits")
    assert any(s.current for s in found)
    for one in found:
        assert one.first_s <= one.last_s
        assert one.low <= one.failure_rate <= one.high
        assert [p.end_s for p in one.points] == sorted({p.end_s for p in one.points})
    assert any(cases_of_slice(store, one.id, 5) for one in found)


def test_searching_again_changes_nothing(world: tuple[Store, Loop]):
    store, loop = world
    with store.read() as c:
        before = [tuple(r) for table in (t.slices, t.slice_points) for r in c.execute(sa.select(table))]
    loop.roster.finish(loop)
    with store.read() as c:
        assert before == [tuple(r) for table in (t.slices, t.slice_points) for r in c.execute(sa.select(table))]


def test_spans_name_what_was_noted_at_ingest(world: tuple[Store, Loop]):
    store, loop = world
    with store.read() as c:
        query = sa.select(t.records).where(t.records.c.vector.is_not(None)).limit(50)
        rows = [dict(r) | {"version": "1"} for r in c.execute(query).mappings()]
    made = span_of(rows, lambda row: True, lambda version: loop.baselines.get("digits", version))
    assert set(made.attributes["predicted"]) <= set(w.NAMES)
    assert set(made.attributes["x:mean"]) <= {"far below usual", "low", "usual", "high", "far above usual"}


def test_neighbours_are_the_nearest_and_a_deleted_record_is_not_among_them(world: tuple[Store, Loop]):
    store, _ = world
    near = Neighbours(store)
    with store.read() as c:
        rows = c.execute(sa.select(t.records.c.seq, t.records.c.vector).where(t.records.c.vector.is_not(None))).all()
    vectors = stack([row.vector for row in rows])
    asked = rows[7].vector
    alike = cosines(vectors, stack([asked]))[:, 0]
    found = near.of_records("digits", "1", asked, 10)
    assert [n.likeness for n in found] == pytest.approx(np.sort(alike)[::-1][:10].tolist(), abs=1e-4)
    gone = found[0].seq
    with store.write() as c:
        kept = c.execute(sa.select(t.records).where(t.records.c.seq == gone)).mappings().one()
        c.execute(t.records.delete().where(t.records.c.seq == gone))
    try:
        assert gone not in {n.seq for n in near.of_records("digits", "1", asked, 10)}
        assert len(near.of_records("digits", "1", asked, 10)) == 10
    finally:
        with store.write() as c:
            c.execute(t.records.insert().values(**kept))


def test_two_steps_find_what_one_would():
    rng = np.random.default_rng(8)
    centres = rng.standard_normal((60, 32))
    n = EXACT_BELOW + 10_000
    vectors = to_vectors(centres[rng.integers(0, 60, n)] + 0.6 * rng.standard_normal((n, 32)))
    held = Held()
    held.add(np.arange(n), vectors)
    hits = []
    for i in rng.integers(0, n, 20).tolist():
        truth = np.argsort(-cosines(vectors, vectors[i : i + 1])[:, 0], kind="stable")[:10]
        hits.append(len(set(truth.tolist()) & set(held.nearest(vectors[i].tobytes(), 10)[0])) / 10)
    assert np.mean(hits) >= 0.95
