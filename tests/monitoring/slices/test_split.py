"""Splitting slices of a running monitor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from export.contracts.errors import Conflict, InvalidRequest
from monitoring import schema as t
from monitoring.cycle import Loop, make_loop, run_cycle
from monitoring.options import SliceSearchOptions
from monitoring.slice_queries import slices
from monitoring.slices.acts import Acts, Doing
from monitoring.slices.found import SliceKind
from monitoring.slices.rows import keep, look
from monitoring.slices.split import LOOKS, choices, split
from monitoring.store import Store
from tests.support import monitor_world as w

ANN = Doing(actor="ann", now_ns=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Loop]]:
    """A day with a shift, searched."""
    folder = tmp_path_factory.mktemp("split")
    options = replace(w.options(folder, window_s=30), slices=SliceSearchOptions(every_windows=2))
    w.day(options.records_root, seconds=190, rate=20, shift_from=80)
    store = Store(options.database_url)
    loop = make_loop(options, store, w.catalogue(folder / "reference"))
    while run_cycle(loop):
        pass
    loop.roster.finish(loop)
    yield store, loop
    store.close()


def test_a_slice_falls_into_parts_that_later_searches_know(world: tuple[Store, Loop]) -> None:
    store, loop = world
    whole = max((s for s in slices(store) if s.kind == SliceKind.ATTRIBUTES.value), key=lambda s: s.rows)
    found, _ = choices(store, loop.baselines, loop.options, whole.id)
    by = next(choice for choice in found if choice.by != LOOKS)
    ids = split(store, loop.baselines, loop.options, whole.id, by.by, ANN)
    assert len(ids) == by.parts
    assert slices(store, identity=whole.id)[0].state == "split"
    parts = [slices(store, identity=identity)[0] for identity in ids]
    assert all(part.split_from == whole.id for part in parts)
    assert sum(part.rows for part in parts) <= whole.rows
    assert max(p.failure_rate for p in parts) - min(p.failure_rate for p in parts) == pytest.approx(by.spread)
    assert all(sorted(part.conditions) == part.conditions for part in parts)
    assert Acts(store).history(ids[0])[0].detail == {"from": whole.id}
    with pytest.raises(Conflict):
        split(store, loop.baselines, loop.options, whole.id, by.by, ANN)

    end_s = max(s.last_s for s in slices(store))
    with store.read() as connection:
        result = look(connection, loop.baselines, "digits", end_s, loop.options)
    known = {one.id for one in result.found} | set(result.measured)
    assert set(ids) <= known  # every part is found or measured again
    with store.write() as connection:
        keep(connection, result, loop.options)
    assert all(slices(store, identity=i)[0].split_from == whole.id for i in ids)


def test_a_slice_splits_by_its_looks(world: tuple[Store, Loop]) -> None:
    store, loop = world
    left = [s for s in slices(store) if s.state == "new" and not s.split_from]
    options = {s.id: choices(store, loop.baselines, loop.options, s.id)[0] for s in left}
    one = next(s for s in left if any(choice.by == LOOKS for choice in options[s.id]))
    ids = split(store, loop.baselines, loop.options, one.id, LOOKS, ANN)
    assert len(ids) == 2
    with store.read() as connection:
        centres = connection.scalars(sa.select(t.slices.c.centre).where(t.slices.c.id.in_(ids))).all()
    assert all(centres)


def test_what_does_not_fall_apart_is_refused(world: tuple[Store, Loop]) -> None:
    store, loop = world
    one = slices(store)[0]
    with pytest.raises(InvalidRequest, match="two parts"):
        split(store, loop.baselines, loop.options, one.id, "no such attribute", ANN)
