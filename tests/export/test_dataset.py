"""Snapshots as folders: written, checked, read."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.contracts.dataset import DATA_FILE, SNAPSHOT_FILE, Split
from export.contracts.datatypes import Datatype
from export.contracts.errors import SnapshotError
from export.contracts.signature import InputSpec
from export.contracts.task import Task, TaskKind
from export.dataset import DatasetRow, Snapshot, write_snapshot
from monitoring.datasets.diff import diff
from tests.support.dataset_world import base_rows, parts


def test_what_was_written_is_read(tmp_path: Path):
    rows = base_rows()
    made = write_snapshot(tmp_path, parts(), rows)
    assert made.folder == tmp_path / made.id
    assert [path.name for path in tmp_path.iterdir()] == [made.id]
    again = Snapshot.open(made.folder, digest=made.digest)
    read = again.items()
    assert [r.row_id for r in read] == sorted(r.row_id for r in rows)
    by_id = {r.row_id: r for r in rows}
    for row in read:
        assert (row.inputs["x"] == by_id[row.row_id].inputs["x"]).all()
        assert len(row.content) == 16
        same = replace(row, inputs={}, content="")
        assert same == replace(by_id[row.row_id], inputs={})
    arrays = again.arrays(Split.TRAIN)
    assert arrays.inputs["x"].shape == (45, 1, 8, 8)
    assert arrays.labels.dtype == np.int64
    assert len(again.arrays("test")) == 0
    as_dicts = list(again.rows("validation"))
    assert len(as_dicts) == 15
    assert as_dicts[0]["x"].shape == (1, 8, 8)


def test_torch_reads_it_in_batches(tmp_path: Path):
    torch = pytest.importorskip("torch")
    made = write_snapshot(tmp_path, parts(), base_rows())
    inputs, labels, weights = next(iter(torch.utils.data.DataLoader(made.torch("train"), batch_size=16)))
    assert inputs["x"].shape == (16, 1, 8, 8)
    assert labels.dtype == torch.int64
    assert weights.tolist() == [1.0] * 16


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), count=st.integers(1, 30))
def test_the_order_of_rows_leaves_no_trace_and_differences_are_inverse(tmp_path: Path, seed: int, count: int):
    rng = random.Random(seed)
    rows = base_rows(count)
    shuffled = rng.sample(rows, count)
    first, second = write_snapshot(tmp_path, parts(), rows), write_snapshot(tmp_path, parts(), shuffled)
    assert first.digest == second.digest
    changed = [
        replace(row, label=rng.choice(["zero", "one"])) if rng.random() < 0.3 else row
        for row in rng.sample(rows, rng.randint(1, count))
    ]
    changed = [replace(row, split=Split.TEST) if rng.random() < 0.2 else row for row in changed]
    other = write_snapshot(tmp_path, parts(), changed)
    there, back = diff(first, other), diff(other, first)
    assert there.inverse == back
    assert back.inverse == there
    assert diff(first, first).rows == []
    assert there.same + len({row.row_id for row in there.rows}) == len({r.row_id for r in rows})


@pytest.mark.parametrize("name", [DATA_FILE, SNAPSHOT_FILE])
@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_folder_is_refused_and_the_file_named(tmp_path: Path, name: str, harm: str):
    made = write_snapshot(tmp_path, parts(), base_rows())
    Snapshot.open(made.folder)  # control
    path = made.folder / name
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
    elif harm == "cut":
        del data[-7:]
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(data)
    with pytest.raises(SnapshotError, match=name.replace(".", r"\.")):
        Snapshot.open(made.folder, digest=made.digest)
    with pytest.raises(SnapshotError, match=name.replace(".", r"\.")):
        Snapshot.open(made.folder)


def test_a_damaged_folder_is_made_whole_by_writing_it_again(tmp_path: Path):
    made = write_snapshot(tmp_path, parts(), base_rows())
    (made.folder / DATA_FILE).write_bytes(b"")
    assert write_snapshot(tmp_path, parts(), base_rows()).digest == made.digest
    assert Snapshot.open(made.folder).manifest.rows == 60


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"row_id": "base-0001"}, "two rows have the id base-0001"),
        ({"group": "base-0001", "split": Split.TEST}, "group base-0001 is in"),
        ({"inputs": {"x": np.zeros((1, 8, 7), np.float32)}}, "row base-0002: input 'x'"),
        ({"inputs": {"x": np.zeros((1, 8, 8), np.float64)}}, "row base-0002: input 'x' is float64"),
        ({"inputs": {}}, "row base-0002|input 'x'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_left(tmp_path: Path, change: dict[str, object], says: str):
    rows = base_rows()
    rows[2] = replace(rows[2], **change)
    with pytest.raises(SnapshotError, match=says):
        write_snapshot(tmp_path, parts(), rows)
    assert list(tmp_path.iterdir()) == []


def test_texts_tensors_of_any_length_and_labels_of_every_task(tmp_path: Path):
    made = parts()
    word = InputSpec(name="text", datatype=Datatype.BYTES, shape=(-1, 1))
    wave = InputSpec(name="wave", datatype=Datatype.INT16, shape=(-1, -1))
    signature = replace(made.signature, inputs=(word, wave))
    labels = {
        Task(kind=TaskKind.MULTI_LABEL, class_names=("a", "b")): (["b"], []),
        Task(kind=TaskKind.REGRESSION): (1.5, -2.0),
        Task(kind=TaskKind.DETECTION, class_names=("bee",)): ([{"box": [0.0, 0.0, 1.0, 2.0], "class": "bee"}], []),
    }
    for task, (first, second) in labels.items():
        texts = [np.array([b"\xffhi"], dtype=object), np.array(["ü".encode()], dtype=object)]
        waves = [np.arange(n, dtype="<i2") for n in (3, 5)]
        rows = [
            DatasetRow(row_id=str(i), inputs={"text": texts[i], "wave": waves[i]}, label=label)
            for i, label in enumerate((first, second))
        ]
        snapshot = write_snapshot(tmp_path, replace(made, task=task, signature=signature), rows)
        read = snapshot.items()
        assert [r.label for r in read] == [first, second]
        assert [r.inputs["text"][0] for r in read] == [b"\xffhi", "ü".encode()]
        assert [r.inputs["wave"].tolist() for r in read] == [[0, 1, 2], [0, 1, 2, 3, 4]]
        arrays = snapshot.arrays()
        assert arrays.inputs["wave"].dtype == object
        if task.kind is TaskKind.MULTI_LABEL:
            assert arrays.labels.tolist() == [[False, True], [False, False]]
