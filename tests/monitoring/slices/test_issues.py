"""Slices as issues: what people do, what the searches do by themselves, and that nothing of it gets lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.errors import Conflict
from monitoring import schema as t
from monitoring.options import MonitorOptions, RetentionOptions
from monitoring.retention import apply_retention
from monitoring.review.test_sets import all_sets, items_of
from monitoring.slice_queries import cases_of_slice, slices
from monitoring.slices.acts import Acts, Doing
from monitoring.slices.found import Found, Span, members, search
from monitoring.slices.issues import SliceAct, SliceState, state_after
from monitoring.slices.rows import Searched, keep
from monitoring.slices.turn import came_back, regressed
from monitoring.store import Store
from tests.support.slice_world import DARK, EIGHTS, SliceWorld, slice_world

ANN = Doing(actor="ann", now_ns=1)
OPTIONS = MonitorOptions(records_root=Path("log"), state_dir=Path("state"), database_url="sqlite://")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path}/monitor.db")
    with made.write() as connection:
        for number, first in (("1", 1), ("2", 500), ("3", 900)):
            about = {"model": "m", "version": number, "digest": "", "first_ns": first, "last_ns": 2_000}
            connection.execute(t.versions.insert().values(**about))
    yield made
    made.close()


def span(seed: int, bad: dict[str, float], n: int = 3000) -> Span:
    """Records of two versions of which those of the north camera fail; `bad` says how often, by version."""
    rng = np.random.default_rng(seed)
    camera, versions = rng.choice(["north", "south", "east"], n), rng.choice(sorted(bad), n)
    chance = np.where(camera == "north", [bad[v] for v in versions], 0.03)
    return Span(
        attributes={"camera": camera, "hour": rng.choice(["day", "night"], n)},
        failure=(rng.random(n) < chance).astype(float),
        labelled=np.ones(n, dtype=bool),
        versions=versions.astype(str),
        vectors={},
    )


def searched(store: Store, one: Span, end_s: int) -> list[Found]:
    """One search of the span, written."""
    found = search("m", one, {}, 20)
    with store.read() as connection:
        known = connection.execute(sa.select(t.slices)).mappings().all()
        back = regressed(connection, "m", one, known, {f.id: f.rows for f in found})
    keys = [(i, i) for i in range(len(one.failure))]
    overall = float(one.failure.mean())
    result = Searched(
        model="m", end_s=end_s, records=len(keys), overall=overall, found=found, measured={}, keys=keys, back=back
    )
    with store.write() as connection:
        keep(connection, result, OPTIONS)
    return found


def state(store: Store, identity: str) -> str:
    return slices(store, identity=identity)[0].state


def test_a_fixed_slice_comes_back_on_the_version_that_fixed_it_and_not_on_an_older_one(store: Store) -> None:
    acts = Acts(store)
    identity = searched(store, span(1, {"1": 0.5}), 600)[0].id
    acts.fix(identity, ANN, "2")
    searched(store, span(2, {"1": 0.5}), 900)  # still wrong on the old version alone
    assert state(store, identity) == "fixed"
    searched(store, span(3, {"1": 0.5, "2": 0.03}), 1200)  # the new one has fixed it
    assert state(store, identity) == "fixed"
    searched(store, span(4, {"1": 0.5, "3": 0.4}), 1500)  # back on a later one
    assert state(store, identity) == "regressed"
    newest = acts.history(identity)[0]
    assert (newest.kind, newest.actor, newest.time_ns) == ("regress", "hardcase", 1500 * 10**9)
    assert newest.detail["failure_rate"] == pytest.approx(0.4, abs=0.08)
    searched(store, span(5, {"1": 0.5, "3": 0.4}), 1800)
    assert sum(event.kind == "regress" for event in acts.history(identity)) == 1


def test_a_version_that_was_never_seen_brings_nothing_back(store: Store) -> None:
    identity = searched(store, span(1, {"1": 0.5}), 600)[0].id
    Acts(store).fix(identity, ANN, "9")
    searched(store, span(4, {"1": 0.5, "3": 0.5}), 900)
    assert state(store, identity) == "fixed"


def test_by_chance_alone_hardly_any_fixed_slice_comes_back() -> None:
    false = 0
    for seed in range(200):
        one = span(1000 + seed, {"1": 0.5, "2": 0.03}, 1500)
        false += came_back(one, members(one, (("camera", "north"),)), ["2"]) is not None
    assert false <= 4  # at most 1 % a search


def test_a_merged_slice_counts_for_the_one_that_it_is_part_of(store: Store) -> None:
    acts = Acts(store)
    part = searched(store, span(1, {"1": 0.5}), 600)[0].id
    host = "f" * 12
    with store.write() as connection:
        row = dict(connection.execute(sa.select(t.slices).where(t.slices.c.id == part)).mappings().one())
        connection.execute(t.slices.insert().values(**row | {"id": host, "words": "the north", "last_s": 300}))
    acts.merge(part, ANN, host)
    with pytest.raises(Conflict):
        acts.merge(part, ANN, host)
    acts.fix(host, ANN, "2")
    searched(store, span(4, {"1": 0.5, "3": 0.5}), 900)
    assert state(store, host) == "regressed"
    assert state(store, part) == "merged"
    assert slices(store, identity=host)[0].last_s == 900
    assert acts.parts_of(host) == [(part, "camera is north", "merged")]
    acts.unmerge(part, ANN)
    assert state(store, part) == "new"


def test_an_ignored_slice_wakes_when_it_has_grown(store: Store) -> None:
    acts = Acts(store)
    identity = searched(store, span(1, {"1": 0.3}), 600)[0].id
    acts.ignore(identity, ANN, grows=2.0)
    searched(store, span(2, {"1": 0.35}), 900)
    assert state(store, identity) == "ignored"
    searched(store, span(3, {"1": 0.9}), 1200)
    assert state(store, identity) == "new"
    assert acts.history(identity)[0].kind == "wake"


def test_a_watch_fires_once_and_calms_with_an_event_each(store: Store) -> None:
    acts = Acts(store)
    identity = searched(store, span(1, {"1": 0.3}), 600)[0].id
    acts.watch(identity, ANN, 0.5)
    searched(store, span(2, {"1": 0.3}), 900)
    assert acts.watch_of(identity) == (0.5, "quiet")
    for end_s in (1200, 1500):
        searched(store, span(3, {"1": 0.8}), end_s)
    assert slices(store, identity=identity)[0].watch_firing
    searched(store, span(4, {"1": 0.3}), 1800)
    assert not slices(store, identity=identity)[0].watch_firing
    assert [event.kind for event in store.events()] == ["slice_watch_calmed", "slice_watch_fired"]
    assert [event.kind for event in acts.history(identity)][:3] == ["calm", "fire", "watch"]


def test_what_people_touched_is_not_forgotten(store: Store) -> None:
    found = searched(store, span(1, {"1": 0.5}), 600)
    touched = found[0].id
    Acts(store).own(touched, ANN, "bea")
    with store.write() as connection:
        row = dict(connection.execute(sa.select(t.slices).where(t.slices.c.id == touched)).mappings().one())
        connection.execute(t.slices.insert().values(**row | {"id": "0" * 12, "edition": 0, "owner": ""}))
    calm = replace(span(1, {"1": 0.03}), failure=np.zeros(3000))
    searched(store, calm, 600 + 31 * 86_400)
    assert [(s.id, s.owner) for s in slices(store)] == [(touched, "bea")]


def test_every_act_says_where_it_leads() -> None:
    for act in SliceAct:
        for before in SliceState:
            try:
                after = state_after(before, act)
            except Conflict:
                continue
            assert after is before or before not in (SliceState.MERGED, SliceState.SPLIT) or act is SliceAct.UNMERGE


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SliceWorld]:
    with slice_world(tmp_path) as made:
        yield made


def test_two_people_at_one_slice_see_each_other(world: SliceWorld) -> None:
    before = world.get(f"/api/slices/{EIGHTS}")
    first = world.post(f"/api/slices/{EIGHTS}/acts", {"act": "acknowledge", "edition": before["edition"], "key": "1"})
    assert (first["state"], first["edition"]) == ("acknowledged", before["edition"] + 1)
    again = {"act": "acknowledge", "edition": before["edition"], "key": "1"}
    assert world.post(f"/api/slices/{EIGHTS}/acts", again)["edition"] == first["edition"]
    other = {"act": "ignore", "edition": before["edition"]}
    assert "local has changed this slice" in world.post(f"/api/slices/{EIGHTS}/acts", other, 409)["error"]
    owned = world.post(f"/api/slices/{EIGHTS}/acts", {"act": "own", "owner": "bea"})
    assert owned["owner"] == "bea"
    assert [s["id"] for s in world.get("/api/slices", owner="bea")["slices"]] == [EIGHTS]
    world.post(f"/api/slices/{EIGHTS}/acts", {"act": "comment", "text": "the loops are broken"})
    events = world.get(f"/api/slices/{EIGHTS}/history")["events"]
    assert [e["kind"] for e in events] == ["comment", "own", "acknowledge"]
    assert world.post(f"/api/slices/{EIGHTS}/acts", {"act": "comment", "text": " "}, 400)
    assert "version" in world.post(f"/api/slices/{EIGHTS}/acts", {"act": "fix"}, 400)["error"]
    assert world.post(f"/api/slices/{EIGHTS}/acts", {"act": "split", "by": "x"}, 400)["error"]


def test_a_merged_slice_leaves_the_list_and_brings_its_cases_along(world: SliceWorld) -> None:
    apart = set(cases_of_slice(world.store, EIGHTS, 500)), set(cases_of_slice(world.store, DARK, 500))
    world.post(f"/api/slices/{DARK}/acts", {"act": "merge", "into": EIGHTS})
    assert DARK not in {s["id"] for s in world.get("/api/slices")["slices"]}
    assert [s["id"] for s in world.get("/api/slices", state="merged")["slices"]] == [DARK]
    assert set(cases_of_slice(world.store, EIGHTS, 500)) == apart[0] | apart[1]
    world.post(f"/api/slices/{EIGHTS}/acts", {"act": "merge", "into": DARK}, 400)


def test_fix_this_makes_a_batch_and_a_test_set_that_retention_leaves(world: SliceWorld) -> None:
    batch = world.post(f"/api/slices/{EIGHTS}/batch", {"key": "k"}, 201)
    assert batch == world.post(f"/api/slices/{EIGHTS}/batch", {"key": "k"}, 201)
    assert (batch["name"], batch["slice"]) == ("Predicted is eight", EIGHTS)
    assert world.get(f"/api/slices/{EIGHTS}")["state"] == "batched"
    made = world.post(f"/api/slices/{EIGHTS}/test-set", {"name": "eights of May"}, 201)
    items = world.get(f"/api/test-sets/{made['id']}/items")["items"]
    assert len(items) == made["items"] == made["kept"] > 3
    assert all(item["label"] is not None for item in items)
    world.post(f"/api/slices/{DARK}/test-set", {"name": "eights of May"}, 409)
    assert [s["id"] for s in world.get("/api/test-sets", slice=EIGHTS)["test_sets"]] == [made["id"]]
    with world.store.write() as connection:
        apply_retention(connection, 2e9, RetentionOptions(case_rows=10, tensor_bytes=1))
    left = {case.id for case in world.store.cases(limit=500).cases}
    assert {item["case"] for item in items} <= left
    assert len(left) == max(10, len(items))
    assert all(world.store.case_tensors(item["case"]) for item in items[:3])
    assert all_sets(world.store)[0].digest.startswith("sha256:")
    assert items_of(world.store, made["id"], after=0)[0].position == 1


def test_a_slice_that_was_fixed_can_be_opened_again(world: SliceWorld) -> None:
    world.post(f"/api/slices/{EIGHTS}/acts", {"act": "fix", "version": "2"})
    assert world.get(f"/api/slices/{EIGHTS}")["fixed_in"] == "2"
    assert world.post(f"/api/slices/{EIGHTS}/acts", {"act": "reopen"})["fixed_in"] is None
