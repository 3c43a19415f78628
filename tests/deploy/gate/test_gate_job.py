"""Whole gates over real packages and real digits: who passes, who is stopped, and in which words."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.gate.child import VersionProcess
from deploy.gate.errors import GateError
from deploy.gate.job import Start, run_gate
from export.package import Package
from monitoring.gate.contracts import GatePolicy, Outcome, SetKind
from monitoring.gate.job import GateBudgets, GateResult, read_result
from tests.support import gate_world as world

AUDITED = SetKind.AUDITED


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Trained on few rows: right in 84 of 100."""
    return world.package(tmp_path_factory.mktemp("champion"), "1", 60)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slices = [("tilted",) if i % 7 == 0 else () for i in range(797)]
    return world.live(tmp_path_factory.mktemp("sets"), slices=slices).folder


def held(
    tmp_path: Path,
    champion: Package,
    audited: Path,
    candidate: Path,
    start: Start = world.InThisProcess,
    **more: object,
) -> GateResult:
    """A gate on the audited digits."""
    request = world.request(tmp_path / "out", champion, candidate, [("audited", AUDITED, audited)], **more)  # type: ignore[arg-type]
    return run_gate(request, start=start)


def check(result: GateResult, subject: str) -> tuple[Outcome, str]:
    found = next(c for c in result.checks if c.subject == subject)
    return found.outcome, found.words


def test_a_better_candidate_passes_and_every_file_lies_there(tmp_path: Path, champion: Package, audited: Path) -> None:
    better = world.package(tmp_path, "2", 700)
    golden = world.live(tmp_path / "golden", 200, prefix="gold").folder
    sets = [("audited", AUDITED, audited), ("golden", SetKind.GOLDEN, golden)]
    request = world.request(
        tmp_path / "out", champion, better.dir, sets, budgets=GateBudgets(timings=40), slice_names={"tilted": "askew"}
    )
    seen: list[tuple[int, int]] = []
    result = run_gate(request, lambda step, of, text: seen.append((step, of)))
    assert result.outcome is Outcome.PASSED
    assert result.words.startswith("passed: better by 11 points")
    assert seen[-1] == (2 * (797 + 200), 2 * (797 + 200))
    assert set(result.costs) == {"memory_mib", "size_mib", "latency_p50_ms", "latency_p95_ms"}
    assert all(old > 0 and new > 0 for old, new in result.costs.values())
    assert any(c.subject == "audited: slice askew" and c.n == 114 for c in result.checks)
    audit = result.sets[0]
    assert audit.candidate["accuracy"] > 0.9 > audit.champion["accuracy"]
    assert set(audit.champion) == {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"}
    assert read_result(tmp_path / "out") == result
    with (tmp_path / "out" / "inputs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 997
    lost = [x["id"] for x in lines if float(x["candidate_good"]) < float(x["champion_good"])]
    assert sorted(lost) == sorted(flip.id for flip in result.negative_flips)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"verdict.json", "report.html", "junit.xml", "openlineage.json", "inputs.csv"}


def test_a_poisoned_candidate_fails(tmp_path: Path, champion: Package, audited: Path) -> None:
    poisoned = world.package(tmp_path, "bad", 700, shuffled=True)
    result = held(tmp_path, champion, audited, poisoned.dir)
    assert result.outcome is Outcome.FAILED
    assert check(result, "audited")[1].startswith("worse by 7")


def test_an_equal_candidate_does_not_pass(tmp_path: Path, champion: Package, audited: Path) -> None:
    result = held(tmp_path, champion, audited, champion.dir)
    outcome, words = check(result, "audited")
    assert outcome is Outcome.UNDECIDED
    assert result.outcome is Outcome.UNDECIDED
    assert "797 labels see a gain of 2 points with" in words
    assert not result.negative_flips


def test_an_equal_candidate_passes_where_only_not_worse_is_asked(
    tmp_path: Path, champion: Package, audited: Path
) -> None:
    result = held(tmp_path, champion, audited, champion.dir, policy=GatePolicy(ask_better=False))
    assert result.outcome is Outcome.PASSED
    assert result.words == "passed: not worse by 5 points or more: 0 gained, 0 lost of 797"


def test_a_broken_package_fails_with_the_file_that_is_wrong(tmp_path: Path, champion: Package, audited: Path) -> None:
    broken = world.package(tmp_path, "2", 700)
    (broken.dir / "model.onnx").write_bytes(b"\0" * (broken.dir / "model.onnx").stat().st_size)
    result = held(tmp_path, champion, audited, broken.dir)
    assert result.outcome is Outcome.FAILED
    assert "the candidate's package is broken" in check(result, "package")[1]
    assert "model.onnx" in result.words


def test_a_model_that_cannot_be_loaded_fails(tmp_path: Path, champion: Package, audited: Path) -> None:
    from tests.support import packages

    good = world.package(tmp_path / "good", "2", 700)

    class Nonsense:
        def SerializeToString(self) -> bytes:  # as protobuf has it
            return b"no model at all"

    task, signature = good.manifest.task, good.manifest.signature
    made = packages.package_model(tmp_path, Nonsense(), signature, name="digits", version="3", task=task)  # type: ignore[arg-type]
    result = held(tmp_path, champion, audited, made.dir)
    assert check(result, "answers") == (
        Outcome.FAILED,
        "cannot answer the sets: ONNX Runtime cannot load the file: InvalidProtobuf",
    )


def test_another_input_is_a_broken_promise_and_nothing_is_run(tmp_path: Path, champion: Package, audited: Path) -> None:
    result = held(tmp_path, champion, audited, world.package(tmp_path, "2", 700, extra_input=True).dir)
    assert result.outcome is Outcome.FAILED
    assert check(result, "inputs") == (Outcome.FAILED, "needs an input 'hint' that no client sends")
    assert not result.sets


def test_fewer_classes_are_named(tmp_path: Path, champion: Package, audited: Path) -> None:
    result = held(tmp_path, champion, audited, world.package(tmp_path, "2", 700, classes=9).dir)
    assert result.outcome is Outcome.FAILED
    assert check(result, "task")[1] == "knows 9 classes of 10: '9' missing"
    assert check(result, "outputs")[1] == "output 'logits' has the shape [-1, 9], and [-1, 10] is expected"
    nines = next(c for c in result.checks if c.subject == "audited: class 9")
    assert nines.candidate == 0.0  # what it does not know counts as wrong


def test_nan_counts_as_wrong_and_is_said(tmp_path: Path, champion: Package, audited: Path) -> None:
    result = held(tmp_path, champion, audited, world.package(tmp_path, "2", 700, nan_rows=True).dir)
    outcome, words = check(result, "finite")
    assert outcome is Outcome.FAILED
    assert "answers hold NaN or infinity, the champion's 0" in words
    assert result.sets[0].inputs == 797
    page = (tmp_path / "out" / "report.html").read_text()
    assert "not a number" in page


@pytest.mark.slow
def test_a_slow_candidate_is_over_its_budget(tmp_path: Path, champion: Package, audited: Path) -> None:
    slow = world.package(tmp_path, "2", 700, slow=150)
    budgets = GateBudgets(timings=40, size=1e6, memory=1e6, memory_mib=1e6, size_mib=1e6, latency_ms=0.2)
    result = held(tmp_path, champion, audited, slow.dir, start=VersionProcess, budgets=budgets)
    outcome, words = check(result, "latency_p50_ms")
    assert outcome is Outcome.FAILED
    assert "1.5 are allowed" in words
    assert check(result, "audited")[0] is Outcome.PASSED  # better, and stopped all the same
    assert result.outcome is Outcome.FAILED


def test_rows_that_were_trained_on_are_left_out(tmp_path: Path, champion: Package, audited: Path) -> None:
    from export.contracts.dataset import Split

    _, live = world.digits()
    seen = world.snapshot(tmp_path / "s", live.images[:100], [str(x) for x in live.labels[:100]], split=Split.TRAIN)
    result = held(tmp_path, champion, audited, world.package(tmp_path, "2", 700).dir, trained_on=(str(seen.folder),))
    assert (result.sets[0].inputs, result.sets[0].trained_on) == (697, 100)


def test_a_broken_champion_says_nothing_about_the_candidate(tmp_path: Path, champion: Package, audited: Path) -> None:
    copy = world.package(tmp_path, "1", 60)
    (copy.dir / "model.onnx").unlink()
    with pytest.raises(GateError, match="the champion's package cannot be used"):
        held(tmp_path, copy, audited, champion.dir)
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_without_an_audited_set_a_good_candidate_is_undecided_and_a_bad_one_fails(
    tmp_path: Path, champion: Package, audited: Path
) -> None:
    golden = [("golden", SetKind.GOLDEN, audited)]
    good = world.request(tmp_path / "a", champion, world.package(tmp_path, "2", 700).dir, golden)
    result = run_gate(good, start=world.InThisProcess)
    assert (result.outcome, result.words) == (
        Outcome.UNDECIDED,
        "undecided: there is no audited set, and on the others a candidate can only lose",
    )
    bad = world.request(tmp_path / "b", champion, world.package(tmp_path, "3", 700, shuffled=True).dir, golden)
    assert run_gate(bad, start=world.InThisProcess).outcome is Outcome.FAILED


def test_the_job_speaks_as_trainers_do(tmp_path: Path, champion: Package, audited: Path) -> None:
    from export.contracts.training import EventKind

    better = world.package(tmp_path, "2", 700)
    request = world.request(tmp_path / "out", champion, better.dir, [("audited", AUDITED, audited)])
    path = request.write(tmp_path / "job")
    command = [sys.executable, "-m", "deploy.gate_job", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {e["event"] for e in events} == {EventKind.PROGRESS, EventKind.NOTE, EventKind.DONE}
    assert events[-1]["metrics"]["negative_flips"] == len(read_result(tmp_path / "out").negative_flips)
