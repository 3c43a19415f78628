"""Building snapshots from what was reviewed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from export.contracts.dataset import Source, Split
from export.contracts.errors import InvalidRequest, SnapshotError
from monitoring import schema as t
from monitoring.datasets.diff import Change, diff
from monitoring.datasets.gather import Gatherer
from monitoring.datasets.noise import find_suspects
from monitoring.datasets.recipes import Labels, Noise, Recipe
from monitoring.gate.holdout import held_out
from monitoring.keys import record_hash
from monitoring.review.test_sets import insert_test_set
from tests.support.console_store import manifest
from tests.support.dataset_world import DatasetWorld, dataset_world


@pytest.fixture
def world(tmp_path) -> Iterator[DatasetWorld]:
    made = dataset_world(tmp_path, cases=60)
    yield made
    made.store.close()


def test_what_was_labelled_joins_the_rows_of_the_parent(world: DatasetWorld):
    made = world.build(holdout_audit=0.0)
    rows = made.open().items()
    assert made.base == world.base.digest
    assert {r.row_id: r.split for r in rows if r.source is Source.BASE} == {
        r.row_id: r.split for r in world.base.items()
    }
    fresh = [r for r in rows if r.source is not Source.BASE]
    assert {r.case_id for r in fresh} <= set(world.labelled())
    assert len(fresh) > 10
    assert all(r.record_id and r.version == "2" and r.predicted is not None and r.author for r in fresh)
    tensors = {row.case_id: world.store.case_tensors(row.case_id, "in")[0] for row in fresh}
    for row in fresh:
        assert row.inputs["x"].tobytes() == tensors[row.case_id].data


def test_the_clock_and_a_second_time_leave_no_trace(world: DatasetWorld):
    first, second = world.build(holdout_audit=0.0, now_ns=1), world.build(holdout_audit=0.0, now_ns=10**18)
    assert first == second  # also when it was made: it is the one that was there
    assert len(list(world.root.iterdir())) == 2


def test_audited_groups_of_the_gate_are_left_out(world: DatasetWorld):
    with_all, without = world.build(holdout_audit=0.0), world.build()
    removed = [r for r in diff(with_all.open(), without.open()).rows if r.change is Change.REMOVED]
    held = {r.case_id for r in with_all.open().items() if r.source is Source.AUDIT and held_out(r.case_id)}
    assert held
    assert {row.case_id for row in removed} == held
    assert world.build(holdout_audit=1.0).sources.get("audit", 0) == 0


def test_rows_of_protected_test_sets_and_what_is_like_them_are_left_out(world: DatasetWorld):
    first, second, third = world.labelled()[:3]
    world.set_case(first, group_id=first)
    world.set_case(second, group_id=first)  # like the first one
    with world.store.write() as connection:
        insert_test_set(connection, actor="ann", name="never again", cases=[first], now_ns=1)
    kept = {r.case_id for r in world.build(holdout_audit=0.0).open().items()}
    assert not kept & {first, second}
    assert third in kept
    assert {first, second} <= {
        r.case_id for r in world.build(holdout_audit=0.0, holdout_test_sets=False).open().items()
    }


def test_near_duplicates_are_in_one_split(world: DatasetWorld):
    cases = world.labelled()
    for i, case in enumerate(cases):
        world.set_case(case, group_id=cases[i - i % 3])
    rows = {r.case_id: r for r in world.build(holdout_audit=0.0, validation=0.4).open().items() if r.case_id}
    for i, case in enumerate(cases):
        leader = cases[i - i % 3]
        if case in rows and leader in rows:
            assert rows[case].split == rows[leader].split
            assert rows[case].group == rows[leader].group
    assert {r.split for r in rows.values()} == {Split.TRAIN, Split.VALIDATION}


def test_a_label_that_changes_changes_the_row_and_keeps_its_split(world: DatasetWorld):
    before = world.build(holdout_audit=0.0)
    world.trained_on("3", before.digest)
    changed, gone = world.labelled()[:2]
    world.set_case(changed, label='"nine"', decided_by="ann")
    world.set_case(gone, label=None)
    found = diff(before.open(), world.build(holdout_audit=0.0).open())
    assert found.counts[Change.MOVED] == found.counts[Change.ADDED] == 0
    assert {row.case_id for row in found.rows if row.change is Change.REMOVED} == {gone}
    assert {row.case_id for row in found.rows if row.change is Change.RELABELLED} <= {changed}


def test_only_labels_that_people_confirmed_where_that_is_asked_for(world: DatasetWorld):
    reviewed = world.labelled()[0]
    world.set_case(reviewed, decided_by="ann")
    made = world.build(holdout_audit=0.0, labels=Labels.REVIEWED, base="none")
    assert {r.case_id for r in made.open().items()} == {reviewed}
    with pytest.raises(InvalidRequest, match="not confirmed by people"):
        world.build(holdout_audit=0.0, labels=Labels.AGREED, base="none")


def test_an_input_of_the_base_that_people_labelled_otherwise_takes_its_place(world: DatasetWorld):
    case = world.labelled()[0]
    base = world.base.items()[0]
    world.set_case(case, decided_by="ann", label='"eight"')
    update = t.case_tensors.update().where(t.case_tensors.c.case_id == case, t.case_tensors.c.direction == "in")
    world.sql(update.values(data=base.inputs["x"].tobytes()))
    rows = {r.row_id: r for r in world.build(holdout_audit=0.0).open().items()}
    assert base.row_id not in rows
    assert rows[f"{case}.0"].label == "eight"


def test_a_base_that_is_not_here_or_is_another_models_stops_it(world: DatasetWorld):
    (world.base.folder / "data.parquet").unlink()
    with pytest.raises(SnapshotError, match=r"data\.parquet"):
        world.build()


def test_several_rows_of_a_record_become_rows_of_their_own(world: DatasetWorld):
    case = world.labelled()[0]
    images = np.arange(128, dtype="<f4").reshape(2, 1, 8, 8)
    world.set_case(case, rows=2, row=1, label='{"rows": ["one", "two"]}')
    update = t.case_tensors.update().where(t.case_tensors.c.case_id == case, t.case_tensors.c.direction == "in")
    world.sql(update.values(data=images.tobytes(), shape=[2, 1, 8, 8]))
    rows = {r.row_id: r for r in world.build(holdout_audit=0.0).open().items() if r.case_id == case}
    assert {name: r.label for name, r in rows.items()} == {f"{case}.0": "one", f"{case}.1": "two"}
    assert (rows[f"{case}.1"].inputs["x"] == images[1]).all()
    assert rows[f"{case}.0"].predicted is None  # the case keeps the answer of its worst row


def test_slices_limit_and_quota(world: DatasetWorld):
    cases = world.labelled()
    about = {"id": "a" * 12, "model": "digits", "version": "2"}
    from tests.support.console_store import complete

    world.sql(t.slices.insert().values(**complete(t.slices, about)))
    for i, case in enumerate(cases[:6]):
        row = world.store.case(case)
        assert row is not None
        values = {"slice_id": "a" * 12, "id_hash": record_hash("digits", row.record_id), "time_ns": row.time_ns}
        world.sql(t.slice_members.insert().values(**values, position=i))
    made = world.build(holdout_audit=0.0, base="none", slices=("a" * 12,))
    assert {r.case_id for r in made.open().items()} <= set(cases[:6])
    assert all(r.slices == ("a" * 12,) for r in made.open().items())
    assert world.build(holdout_audit=0.0, base="none", slices=("a" * 12,), slice_rows=2).rows == 2


def test_a_slip_of_the_hand_is_suspect_and_a_turned_camera_is_not():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 60)
    units = np.eye(8, dtype=np.float32)[truth] + rng.normal(0, 0.15, (240, 8)).astype(np.float32)
    shifted = truth == 3  # the model takes all of these for class 0, surely
    p = np.full((240, 4), 0.02)
    p[np.arange(240), np.where(shifted, 0, truth)] = 0.94
    given = truth.copy()
    slips = rng.choice(240, 12, replace=False)
    given[slips] = (given[slips] + 1) % 4
    ids = [f"{i:03d}" for i in range(240)]
    found = {int(s.row_id) for s in find_suspects(ids, given, p, units / np.linalg.norm(units, axis=1, keepdims=True))}
    assert found <= set(slips.tolist())
    assert len(found) >= 8  # of class 3 a slip to class 0 is what the model says, too
    blind = find_suspects(ids, given, p, np.zeros_like(units))
    assert blind == []


def test_suspects_are_counted_or_left_out(world: DatasetWorld, monkeypatch):
    with world.store.read() as connection:
        found = Gatherer(connection, "digits", manifest(), Recipe()).all().rows
    from monitoring.datasets import build
    from monitoring.datasets.noise import Suspect

    first = found[0].row.row_id
    suspect = Suspect(row_id=first, given=1, suggested=2, probability=0.9, agreeing=0, asked=5)
    monkeypatch.setattr(build, "suspects_among", lambda rows, classes: [suspect])
    kept = world.build(holdout_audit=0.0)
    assert "1 labels look wrong and are kept." in kept.notes
    dropped = world.build(holdout_audit=0.0, noise=Noise.DROP)
    assert first not in {r.row_id for r in dropped.open().items()}
    assert dropped.rows == kept.rows - 1
