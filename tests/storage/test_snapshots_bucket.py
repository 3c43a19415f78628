"""Snapshots of data sets through the bucket: whole and checked, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.contracts.errors import SnapshotError
from export.dataset.write import write_snapshot
from export.storage.objects import MemoryStore
from export.storage.snapshots import download_snapshot, upload_new, upload_snapshot
from tests.support.dataset_world import base_rows, parts


def test_a_snapshot_comes_to_another_machine(tmp_path: Path):
    made, known = MemoryStore(), set[str]()
    snapshot = write_snapshot(tmp_path / "here", parts(), base_rows())
    assert upload_new(made, tmp_path / "here", known) == 1
    assert upload_new(made, tmp_path / "here", known) == 0
    assert not upload_snapshot(made, snapshot)
    found = download_snapshot(made, snapshot.digest, tmp_path / "there")
    assert found.digest == snapshot.digest
    assert found.folder == tmp_path / "there" / snapshot.id
    assert [row.row_id for row in found.items()] == [row.row_id for row in snapshot.items()]
    made.objects.clear()
    assert download_snapshot(made, snapshot.digest, tmp_path / "there").digest == snapshot.digest


def test_a_snapshot_whose_data_had_to_go_leaves_the_bucket_and_does_not_hold_up_the_next(tmp_path: Path):
    made, known, root = MemoryStore(), set[str](), tmp_path / "here"
    snapshot = write_snapshot(root, parts(), base_rows())
    blob = f"blobs/sha256/{snapshot.manifest.data_sha256}"
    assert upload_new(made, root, known) == 1
    assert blob in made.objects, "control"
    (snapshot.folder / "data.parquet").unlink()
    (root / "0123456789abcdef").mkdir()
    (root / "0123456789abcdef" / "snapshot.json").write_bytes(b"{}")  # not what its name says: left alone
    successor = write_snapshot(root, parts(), base_rows()[1:])
    for restarted in (known, set[str]()):  # what is known is known until the monitor is started again
        upload_new(made, root, restarted)
        assert set(made.objects) == {
            f"blobs/sha256/{successor.manifest.data_sha256}",
            "snapshots/" + successor.digest.removeprefix("sha256:"),
        }


def test_what_is_not_the_snapshot_is_refused_and_leaves_nothing(tmp_path: Path):
    made = MemoryStore()
    snapshot = write_snapshot(tmp_path / "here", parts(), base_rows())
    upload_snapshot(made, snapshot)
    blob = f"blobs/sha256/{snapshot.manifest.data_sha256}"
    made.objects[blob] = made.objects[blob][:-1] + b"x"
    with pytest.raises(SnapshotError):
        download_snapshot(made, snapshot.digest, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []
    with pytest.raises(SnapshotError, match="no snapshot"):
        download_snapshot(made, "sha256:" + "0" * 64, tmp_path / "there")
