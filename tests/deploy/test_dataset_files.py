"""Labelled data from files into snapshots, and snapshots into files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deploy.cli.main import main
from deploy.dataset_export import export_snapshot
from deploy.dataset_import import import_dataset
from deploy.errors import CommandError
from export.contracts.manifest import Manifest
from export.contracts.signature import InputDisplay, InputKind
from export.dataset import Snapshot
from tests.support.console_store import CLASSES, manifest
from tests.support.dataset_world import base_rows, parts

ROWS = 40


@pytest.fixture
def images() -> np.ndarray:
    return (np.random.default_rng(3).integers(0, 256, (ROWS, 1, 8, 8)) / 255.0 * 16.0).astype(np.float32)


def labels() -> list[str]:
    return [CLASSES[i % 10] for i in range(ROWS)]


def table_manifest() -> Manifest:
    """A model of four numbers."""
    from dataclasses import replace

    made = manifest()
    (x,) = made.signature.inputs
    display = InputDisplay(kind=InputKind.TABULAR, feature_names=("a", "b", "c", "d"))
    x = replace(x, shape=(-1, 4), display=display, axes=())
    return replace(made, signature=replace(made.signature, inputs=(x,)))


def test_arrays_come_in_and_go_out_again(tmp_path: Path, images: np.ndarray):
    np.savez(tmp_path / "a.npz", x=images, labels=np.array([i % 10 for i in range(ROWS)]))
    made = import_dataset(tmp_path / "a.npz", manifest(), tmp_path / "sets")
    assert made.manifest.rows == ROWS
    assert made.manifest.splits == {"train": 32, "validation": 8}
    assert export_snapshot(made, "npz", tmp_path / "b.npz") == ROWS
    with np.load(tmp_path / "b.npz") as again:
        order = [int(np.flatnonzero((images == x).all(axis=(1, 2, 3)))[0]) for x in again["x"]]
        assert sorted(order) == list(range(ROWS))
        assert again["labels"].tolist() == [i % 10 for i in order]
    assert import_dataset(tmp_path / "b.npz", manifest(), tmp_path / "sets", name="a").digest == made.digest


def test_the_order_of_the_rows_leaves_no_trace(tmp_path: Path, images: np.ndarray):
    order = np.random.default_rng(1).permutation(ROWS)
    twice = np.concatenate([images, images[:5]])  # some inputs are there twice
    said = labels() + labels()[:5]
    np.savez(tmp_path / "a.npz", x=twice, labels=said)
    np.savez(
        tmp_path / "b.npz", x=np.concatenate([images[order], images[:5]]), labels=[said[i] for i in order] + said[:5]
    )
    first, second = (import_dataset(tmp_path / n, manifest(), tmp_path / "s", name="n") for n in ("a.npz", "b.npz"))
    assert first.digest == second.digest
    assert first.manifest.rows == ROWS + 5


def test_a_table_of_features_comes_in_from_csv_and_parquet(tmp_path: Path):
    values = np.random.default_rng(2).normal(size=(ROWS, 4)).astype(np.float32)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["d", "c", "b", "a", "label", "group"])
        writer.writerows(
            [*map(repr, map(float, row[::-1])), label, i // 4]
            for i, (row, label) in enumerate(zip(values, labels(), strict=True))
        )
    columns = {n: values[:, i].astype(np.float64) for i, n in enumerate("abcd")}
    pq.write_table(
        pa.table(columns | {"label": labels(), "group": [i // 4 for i in range(ROWS)]}), tmp_path / "t.parquet"
    )
    made = [import_dataset(tmp_path / f"t.{kind}", table_manifest(), tmp_path / "s") for kind in ("csv", "parquet")]
    assert made[0].digest == made[1].digest
    assert {tuple(r.inputs["x"]) for r in made[0].items()} == {tuple(v) for v in values}
    splits: dict[str, set[str]] = {}
    for row in made[0].items():
        splits.setdefault(row.group, set()).add(row.split)
    assert len(splits) == ROWS // 4
    assert all(len(found) == 1 for found in splits.values())


def test_a_folder_of_images_comes_in_and_goes_out(tmp_path: Path, images: np.ndarray):
    for i, (image, label) in enumerate(zip(images, labels(), strict=True)):
        folder = tmp_path / "in" / ("val" if i % 4 == 0 else "train") / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(image[0] / 16 * 255).astype(np.uint8)).save(folder / f"{i}.png")
    made = import_dataset(tmp_path / "in", manifest(), tmp_path / "s")
    assert made.manifest.splits == {"train": 30, "validation": 10}
    found = made.arrays()
    assert {x.tobytes() for x in np.rint(found.inputs["x"] * 255 / 16)} == {
        x.tobytes() for x in np.rint(images * 255 / 16)
    }
    export_snapshot(made, "images", tmp_path / "out")
    again = import_dataset(tmp_path / "out", manifest(), tmp_path / "s", name="in")
    assert again.digest == made.digest


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": np.zeros((3, 1, 8, 8)), "labels": ["zero", "cat", "one"]}, "row 1.*'cat' is no class"),
        ({"x": np.zeros((3, 1, 8, 8))}, "no labels"),
        ({"x": np.zeros((2, 1, 8, 8)), "labels": ["zero"] * 3}, "2 rows for 3 labels"),
        ({"x": np.zeros((3, 1, 9, 8)), "labels": ["zero"] * 3}, r"the model takes \[-1, 1, 8, 8\]"),
        ({"x": np.zeros((2, 1, 8, 8)), "labels": ["one"] * 2, "split": ["train", "dev"]}, "'dev' is no split"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, given: dict[str, object], says: str):
    np.savez(tmp_path / "a.npz", **given)
    with pytest.raises(CommandError, match=says):
        import_dataset(tmp_path / "a.npz", manifest(), tmp_path / "s")
    assert not list((tmp_path / "s").glob("*")) if (tmp_path / "s").exists() else True


def test_a_snapshot_from_elsewhere_keeps_its_digest(tmp_path: Path):
    from export.dataset import write_snapshot

    there = write_snapshot(tmp_path / "there", parts(), base_rows())
    here = import_dataset(there.folder, manifest(), tmp_path / "here")
    assert here.digest == there.digest
    with pytest.raises(CommandError, match="of model digits"):
        import_dataset(there.folder, manifest("letters"), tmp_path / "here")


def test_the_command_finds_the_snapshot_that_was_changed(tmp_path: Path, capsys, monkeypatch):
    from export.dataset import write_snapshot

    monkeypatch.chdir(tmp_path)
    root = tmp_path / ".hardcase" / "datasets"
    good, bad = (write_snapshot(root, parts(), base_rows(seed=seed)) for seed in (1, 2))
    assert main(["dataset", "verify"]) == 0
    data = bytearray((bad.folder / "data.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (bad.folder / "data.parquet").write_bytes(data)
    capsys.readouterr()
    assert main(["dataset", "verify", "--json"]) == 4
    found = {f["id"]: f for f in json.loads(capsys.readouterr().out)["datasets"]}
    assert found[good.id]["whole"] is True
    assert "data.parquet" in found[bad.id]["problem"]
    assert main(["dataset", "export", good.id, "--out", str(tmp_path / "x.parquet")]) == 0
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 60
    assert Snapshot.open(good.folder).id == good.id
