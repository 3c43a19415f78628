"""A recorded training run again: the same bytes, or what differs and by how much."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.cli.main import main
from deploy.errors import CommandError, Missing
from deploy.jobs.folder import JobFolder
from deploy.jobs.local import SupervisedJobs
from deploy.jobs.programs import Program
from deploy.jobs.reproduce import newest, recorded, reproduce
from deploy.paths import StatePaths
from export.contracts import codec
from export.contracts.training import REQUEST_FILE, EventKind, TrainingEvent, TrainingRequest
from export.package import Package, copy_package
from export.registry import Registry
from export.training.compare import compare_packages
from monitoring.loop.contracts import Job, JobKind, JobState
from tests.deploy.jobs.trainers import HEAD, until
from tests.support.packages import DIGITS_SIGNATURE, DIGITS_TASK, digits_like_model, golden_from_onnx, package_model
from tests.support.training import make_snapshot

TRAINING = "0123456789ab"
GUIDE = Path(__file__).resolve().parents[3] / "docs/guides/training.md"
# "Trains" by taking the package that lies in the parent's folder.
COPY = HEAD + "import shutil\nsay(event='progress', step=1, of=1, text='epoch')\n" + (
    "shutil.copytree(request['parent'], request['output'] + '/package')\nsay(event='done', metrics={})\n"
)  # fmt: skip


def made(folder: Path, seed: int) -> Package:
    """Version 2 of digits with weights of its own; the golden inputs are always the same."""
    model = digits_like_model(seed)
    x = np.random.default_rng(7).random((4, 1, 8, 8), dtype=np.float32)
    golden = golden_from_onnx(model, {"x": x}, DIGITS_SIGNATURE)
    return package_model(folder, model, DIGITS_SIGNATURE, name="digits", version="2", task=DIGITS_TASK, golden=golden)


def trained(root: Path, code: str, *, name: str = "digits", parent: Path | None = None) -> StatePaths:
    """A state folder in which a training of this code has ended."""
    paths = StatePaths(root / "state").make()
    snapshot = make_snapshot(paths.datasets, rows=60)
    folder = paths.loop / "trainings" / TRAINING
    request = TrainingRequest(
        id=TRAINING, model=name, version="2", snapshot=str(snapshot.folder), snapshot_digest=snapshot.digest,
        output=str(folder / "output"), seed=3, budget_s=120.0, asked_at="2026-01-02T03:04:05Z",
        parent=None if parent is None else str(parent), parent_version=None if parent is None else "1",
    )  # fmt: skip
    (folder / "output").mkdir(parents=True)
    (folder / REQUEST_FILE).write_bytes(codec.dumps(request))
    program = Program(argv=(sys.executable, "-c", code))
    jobs = SupervisedJobs(paths.jobs, {"t": program})
    job = Job(id=TRAINING, kind=JobKind.TRAIN, model=name, request=folder / REQUEST_FILE, output=folder / "output",
              budget_s=120.0, silence_s=60.0, program="t")  # fmt: skip
    jobs.start(job)
    report = until(jobs, TRAINING, lambda r: r.state is not JobState.RUNNING, within_s=300.0)
    assert report.state is JobState.SUCCEEDED, report.reason
    return paths


def test_the_same_request_makes_the_same_package_or_says_what_differs(tmp_path: Path, capfd, monkeypatch):
    parent = tmp_path / "parent"
    copy_package(made(tmp_path / "one", 1), parent)
    paths = trained(tmp_path, COPY, parent=parent)
    registry = Registry(paths.registry)
    registry.add(paths.loop / "trainings" / TRAINING / "output" / "package")

    (tmp_path / "hardcase.yaml").write_text(f"state_dir: {paths.root}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["retrain", "reproduce", "digits", "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["same"], said["within"], said["before"]) == (True, True, said["after"])
    assert not any((paths.loop / "reproductions").iterdir()), "what is the same need not be kept"

    # The machine has changed: other numbers come out of the same request.
    shutil.rmtree(parent)
    copy_package(made(tmp_path / "two", 2), parent)
    assert main(["retrain", "reproduce", TRAINING, "--output", "again"]) == 4
    out = " ".join(capfd.readouterr().out.split())
    assert "made another package of digits 2" in out
    assert "model.onnx" in out
    assert "parameters differ" in out
    assert (tmp_path / "again" / "output" / "package" / "manifest.json").exists()
    assert main(["retrain", "reproduce", TRAINING, "--output", "again"]) == 2, "nothing is written over"

    heard: list[TrainingEvent] = []
    near = reproduce(recorded(paths, registry, TRAINING), tmp_path / "near", tolerance=1e9, heard=heard.append)
    assert (near.same, near.within) == (False, True)
    assert near.difference.golden is not None
    assert near.difference.golden > 0
    assert heard[0].kind is EventKind.PROGRESS
    assert list(registry.versions("digits")) == ["2"], "nothing is registered"


def test_a_difference_is_named_number_by_number(tmp_path: Path):
    one = made(tmp_path / "a", 1)
    other = made(tmp_path / "b", 2)
    manifest = replace(
        other.manifest, provenance=replace(other.manifest.provenance, environment={"torch": "9", "numpy": "1"})
    )
    (other.dir / "manifest.json").write_bytes(codec.dumps(manifest))
    found = compare_packages(one.dir, other.dir)
    assert found.weights is not None
    assert 0 < found.weights.differ <= found.weights.tensors
    assert found.weights.largest > 0.01
    assert found.weights.where
    assert found.environment["torch"][1] == "9"
    assert "torch was" in found.text()
    assert compare_packages(one.dir, one.dir).weights is None


def test_what_cannot_be_run_again_says_why(tmp_path: Path):
    parent = tmp_path / "parent"
    copy_package(made(tmp_path / "one", 1), parent)
    paths = trained(tmp_path, COPY, parent=parent)
    registry = Registry(paths.registry)
    assert newest(paths, "digits") == TRAINING
    known = recorded(paths, registry, TRAINING)
    with pytest.raises(Missing, match="no training of 'cats'"):
        newest(paths, "cats")
    with pytest.raises(Missing, match="no request of a training 'ffffffffffff'"):
        recorded(paths, registry, "ffffffffffff")
    broken = replace(known, spec=replace(known.spec, argv=(sys.executable, "-c", "raise SystemExit('no such column')")))
    with pytest.raises(CommandError, match="the repetition failed: it ended with status 1: no such column"):
        reproduce(broken, tmp_path / "broken")
    elsewhere = replace(known.spec, argv=("python", "-m", "deploy.jobs.webhook_driver"))
    (JobFolder(paths.jobs, TRAINING).dir / "job.json").write_bytes(codec.dumps(elsewhere))
    with pytest.raises(CommandError, match="by webhook"):
        recorded(paths, registry, TRAINING)
    (JobFolder(paths.jobs, TRAINING).dir / "job.json").write_bytes(codec.dumps(known.spec))
    shutil.rmtree(parent)
    with pytest.raises(Missing, match="the parent's package of training 0123456789ab is gone"):
        recorded(paths, registry, TRAINING)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_guides_trainer_is_reproduced_to_the_byte_and_another_seed_is_not(tmp_path: Path):
    """PyTorch itself: about 15 s on two quiet cores."""
    code = GUIDE.read_text().split("```python\n")[1].split("```")[0]
    paths = trained(tmp_path, code, name="clouds")
    known = recorded(paths, Registry(paths.registry), TRAINING)
    found = reproduce(known, tmp_path / "again", keep=True)
    assert found.same, found.words
    assert found.after == known.package.digest
    other = reproduce(replace(known, request=replace(known.request, seed=4)), tmp_path / "other")
    assert not other.same
    assert other.difference.weights is not None
    assert other.difference.weights.differ
    assert {"model.onnx", "model.pt"} <= set(other.difference.files)
