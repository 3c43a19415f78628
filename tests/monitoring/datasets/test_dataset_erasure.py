"""An erased record leaves every snapshot: each is replaced by one without it."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from export.contracts.errors import SnapshotError
from export.dataset import Snapshot
from monitoring.datasets.erasing import replace_marked
from monitoring.datasets.rows import SnapshotRow, SnapshotState, items, latest_of, look
from monitoring.erasure.rows import erase_rows
from tests.support.dataset_world import DatasetWorld, dataset_world


@pytest.fixture
def world(tmp_path):
    made = dataset_world(tmp_path, cases=40)
    yield made
    made.store.close()


def erase(world: DatasetWorld, record_id: str) -> int:
    with world.store.write() as connection:
        erase_rows(connection, [record_id], "digits")
    return replace_marked(world.store, world.root, 5)


def now(world: DatasetWorld, identity: str) -> SnapshotRow:
    with world.store.read() as connection:
        return look(connection, world.root, identity)


def test_a_snapshot_is_replaced_by_one_without_the_record(world: DatasetWorld):
    first = world.build(holdout_audit=0.0)
    second = world.build(holdout_audit=0.0, validation=0.4)
    with world.store.read() as connection:
        gone = items(connection, snapshot=first.id)[0].record_id
    assert gone in pq.read_table(first.folder / "data.parquet")["record_id"].to_pylist()  # control
    assert erase(world, gone) == 2
    for row in (first, second):
        assert now(world, row.id).state is SnapshotState.ERASED
        assert now(world, row.id).erased == 1
        with pytest.raises(SnapshotError, match=r"data\.parquet"):
            Snapshot.open(row.folder)
        with world.store.read() as connection:
            new = latest_of(connection, world.root, row.digest)
            assert gone not in {i.record_id for i in items(connection, snapshot=new.id)}
        assert new.rows == row.rows - 1
        assert gone not in new.open().table()["record_id"].to_pylist()
    held = [p for p in world.root.glob("*/data.parquet") if gone in pq.read_table(p)["record_id"].to_pylist()]
    assert held == []


def test_snapshots_without_the_record_stay_as_they_are(world: DatasetWorld):
    made = world.build(holdout_audit=0.0)
    assert erase(world, "somebody else") == 0
    assert now(world, made.id).state is SnapshotState.WHOLE
    assert made.open().digest == made.digest


def test_a_crash_before_the_file_went_is_made_good(world: DatasetWorld):
    made = world.build(holdout_audit=0.0)
    kept = (made.folder / "data.parquet").read_bytes()
    with world.store.read() as connection:
        gone = items(connection, snapshot=made.id)[0].record_id
    erase(world, gone)
    (made.folder / "data.parquet").write_bytes(kept)
    assert replace_marked(world.store, world.root, 6) == 0
    assert not (made.folder / "data.parquet").exists()


def test_what_is_built_next_carries_on_the_successor(world: DatasetWorld):
    made = world.build(holdout_audit=0.0)
    world.trained_on("3", made.digest)
    with world.store.read() as connection:
        gone = items(connection, snapshot=made.id)[0]
    erase(world, gone.record_id)
    after = world.build(holdout_audit=0.0)
    assert after.base == now(world, now(world, made.id).successor).digest
    assert gone.row_id not in {row.row_id for row in after.open().items()}
