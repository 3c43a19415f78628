"""A trainer's run: request, data, words, signals, package; and that the same request makes the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from export.contracts.errors import PackageError
from export.contracts.manifest import RuntimeKind
from export.contracts.training import EventKind, TrainingEvent
from export.package import read_package
from export.training.compare import compare_packages
from export.training.lines import parse_event
from export.training.run import RequestRefused, TrainingRun, TrainingStopped
from export.training.torch_loop import LoopOptions, fit
from tests.support.training import Linear, make_request, make_snapshot

GUIDE = Path(__file__).resolve().parents[3] / "docs/guides/training.md"


def trainer() -> str:
    """The guide's trainer, as it stands there."""
    return GUIDE.read_text().split("```python\n")[1].split("```")[0]


def train(request: Path) -> tuple[list[TrainingEvent], str]:
    """Run the guide's trainer as a process; what it said, and its log."""
    done = subprocess.run(
        [sys.executable, "-c", trainer(), str(request)], capture_output=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    events = [parse_event(line) for line in done.stdout.splitlines()]
    assert None not in events, "standard output belongs to the events"
    return [event for event in events if event], done.stderr.decode()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trainer_makes_the_package_that_was_asked_for_and_a_repetition_makes_the_same_bytes(tmp_path):
    snapshot = make_snapshot(tmp_path / "data")
    made = {}
    for name, more in {"one": {}, "again": {}, "other": {"seed": 4, "parameters": {"epochs": 2, "typo": 1}}}.items():
        request = make_request(tmp_path, snapshot, name, **more)
        events, log = train(request)
        assert "Traceback" not in log
        made[name] = (read_package(tmp_path / name / "package"), events)
    package, events = made["one"]
    provenance = package.manifest.provenance
    assert (package.manifest.name, package.manifest.version) == ("clouds", "2")
    assert (provenance.dataset_snapshot, provenance.created_at) == (snapshot.digest, "2026-01-02T03:04:05Z")
    assert provenance.metrics["val_accuracy"] > 0.6
    assert package.manifest.task.class_names == ("ant", "bee", "cat")
    assert package.manifest.reference is not None
    steps = [e.step for e in events if e.kind is EventKind.PROGRESS]
    assert steps == [*range(1, len(steps) + 1)]
    assert events[-1].kind is EventKind.DONE
    assert events[-1].metrics == provenance.metrics

    assert made["again"][0].digest == package.digest
    assert compare_packages(tmp_path / "one" / "package", tmp_path / "again" / "package").text() == "the same bytes"
    differs = compare_packages(tmp_path / "one" / "package", tmp_path / "other" / "package")
    assert not differs.same
    assert not differs.weights_same
    assert {"model.onnx", "model.pt"} <= set(differs.files)
    notes = [e.text for e in made["other"][1] if e.kind is EventKind.NOTE]
    assert "parameter 'typo' was given, and nobody asked for it" in notes


def test_the_same_request_and_seed_give_the_same_digest(tmp_path, capfd):
    """The short form of the test above, in one process."""
    snapshot = make_snapshot(tmp_path / "data", rows=60)
    for name in ("one", "again"):
        with opened(make_request(tmp_path, snapshot, name)) as run:
            module = Linear(run.request.seed)
            fitted = fit(run, module, options=LoopOptions(epochs=2, new_share=0.5, ema=0.5))
            run.export(module, metrics=fitted.metrics, runtimes=(RuntimeKind.ONNX,), batch_sizes=(1, 8))
            run.done()
    packages = [read_package(tmp_path / name / "package") for name in ("one", "again")]
    assert packages[0].digest == packages[1].digest
    assert packages[0].manifest.provenance.dataset_snapshot == snapshot.digest
    assert compare_packages(packages[0].dir, packages[1].dir).text() == "the same bytes"
    assert capfd.readouterr().out.count('"done"') == 2


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    return make_request(tmp_path, make_snapshot(tmp_path / "data", rows=12))


def opened(path: Path) -> TrainingRun:
    return TrainingRun.open(["trainer", str(path)], seeds=("random", "numpy"))


def test_a_run_of_other_data_than_the_request_names_is_refused(tmp_path):
    snapshot = make_snapshot(tmp_path / "data", rows=12)
    other = make_snapshot(tmp_path / "data", rows=12, seed=2)
    with pytest.raises(RequestRefused, match="another one"):
        opened(make_request(tmp_path, snapshot, snapshot_digest=other.digest))
    gone = make_request(tmp_path, snapshot, "two")
    gone.write_text(gone.read_text().replace(snapshot.folder.name, "nowhere"))
    with pytest.raises(RequestRefused, match="cannot be read"):
        opened(gone)
    broken = tmp_path / "broken.json"
    broken.write_text('{"more": 1}')
    with pytest.raises(RequestRefused, match="unknown field 'more'"):
        opened(broken)
    with pytest.raises(RequestRefused, match="last argument"):
        TrainingRun.open(["trainer"])


def test_what_a_run_says_reaches_standard_output_and_prints_do_not(request_file, capfd):
    with closing(opened(request_file)) as run:
        os.write(1, b"printed\n")
        os.system("echo from below")  # what a library's C code would do
        run.progress(1, 2, "half")
        run.metric("loss", float("nan"), 1)
        run.metric("loss", np.float32(0.5), 1)
        assert run.artefact("curves.png") == run.output / "curves.png"
        with pytest.raises(ValueError, match="not one of the contract"):
            run.metric("a name with \n in it", 1.0)
        with pytest.raises(ValueError, match="subpath"):
            run.artefact("/etc/passwd")
        assert run.metrics == {"loss": 0.5}
        with pytest.raises(PackageError):
            run.done()  # there is none
    out, err = capfd.readouterr()
    assert [parse_event(line.encode()).kind for line in out.splitlines()] == ["progress", "note", "metric", "artefact"]
    assert "printed" in err
    assert "from below" in err


def test_sigterm_is_told_with_the_next_word(request_file):
    with closing(opened(request_file)) as run:
        os.kill(os.getpid(), signal.SIGTERM)
        assert run.stopping
        with pytest.raises(TrainingStopped) as stopped:
            run.progress(1)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_parameters_have_the_type_of_their_default(tmp_path):
    path = make_request(tmp_path, make_snapshot(tmp_path / "data", rows=12), parameters={"rate": 1, "name": "x"})
    with closing(opened(path)) as run:
        assert run.parameter("rate", 0.5) == 1.0
        assert run.parameter("other", 7) == 7
        with pytest.raises(RequestRefused, match="'name' must be of type int"):
            run.parameter("name", 3)


def test_without_a_validation_split_the_last_weights_are_taken(tmp_path, capfd):
    path = make_request(tmp_path, make_snapshot(tmp_path / "data", rows=30, validation=False))
    with closing(opened(path)) as run:
        fitted = fit(run, Linear(), options=LoopOptions(epochs=3, patience=1))
        assert fitted.epochs == 3
    assert "there is no validation split" in capfd.readouterr().out


def test_a_trainer_that_ends_without_done_has_failed(request_file):
    with pytest.raises(SystemExit, match="without calling done"), opened(request_file):
        pass
