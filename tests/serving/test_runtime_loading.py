"""A load succeeds whole or fails with a reason: devices, signatures, golden cases, crashes, hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from export.contracts.errors import ModelFailed
from export.contracts.manifest import RuntimeFile, RuntimeKind
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.package import Golden, Package
from serving.options import RuntimeOptions
from serving.runtime import trial
from serving.runtime.base import DeviceUnavailable, LoadFailed
from serving.runtime.devices import choose_device, cuda_device_count
from serving.runtime.loader import choose_file, load_runtime
from serving.runtime.proof import check_outputs, prove
from serving.runtime.trial import LoadInterrupted, LoadTimedOut, try_load
from tests.support import packages as p

CPU = RuntimeOptions(device="cpu")
no_cuda = pytest.mark.skipif(cuda_device_count() > 0, reason="the machine has a CUDA device: the load would succeed")


def with_signature(package: Package, **changes: Any) -> Package:
    signature = replace(package.manifest.signature, **changes)
    return replace(package, manifest=replace(package.manifest, signature=signature))


class Doubling:
    """A runtime in three lines: y = 2x, or whatever `answer` says."""

    kind, device, provider, fallback, healthy = "onnx", "cpu", "none", False, True
    concurrency = 1

    def __init__(self, answer: Any = None, raises_above: int | None = None) -> None:
        self.answer, self.raises_above, self.rows = answer, raises_above, []

    def buffer(self, index: int, shape: tuple[int, ...]) -> None:
        return None

    def run(self, inputs: Any, outputs: Any) -> Any:
        self.rows.append(len(inputs[0]))
        if self.raises_above is not None and len(inputs[0]) > self.raises_above:
            raise ModelFailed("the model ran out of memory on this batch: send fewer rows")
        return [self.answer(inputs[0]) if self.answer else inputs[0] * 2]

    def close(self) -> None:
        pass


X = np.random.default_rng(8).random((5, 3), dtype=np.float32)


def doubling_package(tmp_path: Path, golden: Golden | None, batched: bool = True) -> Package:
    shape = (-1, 3) if batched else (5, 3)
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=shape),),
        outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=shape),),
        batched=batched,
    )
    node = p.helper.make_node("Add", ["x", "x"], ["y"])
    return p.package_model(tmp_path, p.make_model(signature, [node]), signature, name="double", golden=golden)


# ---- devices


@pytest.mark.parametrize(
    ("wanted", "devices", "chosen"),
    [("cpu", 4, "cpu"), ("auto", 0, "cpu"), ("auto", 1, "cuda:0"), ("cuda", 0, "cuda:0"), ("cuda:3", 4, "cuda:3")],
)
def test_the_setting_decides_the_device(wanted: str, devices: int, chosen: str) -> None:
    assert str(choose_device(wanted, devices)) == chosen


@pytest.mark.parametrize("wanted", ["gpu", "", "cuda:", "cuda:-1", "cuda:x", "CPU", "cuda:²"])
def test_a_device_that_does_not_exist_is_refused_with_the_choices(wanted: str) -> None:
    with pytest.raises(LoadFailed, match="auto, cpu, cuda or cuda:N"):
        choose_device(wanted, 1)


@no_cuda
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_load_fails_rather_than_falling_back_to_the_cpu(tmp_path: Path, kind: str) -> None:
    package = p.torchscript_package(tmp_path)
    with pytest.raises(DeviceUnavailable, match="the device asked for is cuda:0"):
        load_runtime(package.dir, package.manifest, RuntimeOptions(device="cuda", prefer=(kind,)))


@no_cuda
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_fallback_that_the_settings_allow_is_marked(tmp_path: Path, kind: str) -> None:
    package = p.torchscript_package(tmp_path)
    options = RuntimeOptions(device="cuda", prefer=(kind,), allow_cpu_fallback=True)
    runtime = load_runtime(package.dir, package.manifest, options)
    assert (runtime.device, runtime.fallback) == ("cpu", True)
    assert not load_runtime(package.dir, package.manifest, CPU).fallback


def test_the_preferred_runtime_is_taken_where_the_package_has_it(tmp_path: Path) -> None:
    both = p.torchscript_package(tmp_path).manifest
    onnx_only = p.digits_like_package(tmp_path).manifest
    assert choose_file(both, RuntimeOptions()).kind is RuntimeKind.ONNX
    assert choose_file(both, RuntimeOptions(prefer=("torchscript",))).kind is RuntimeKind.TORCHSCRIPT
    assert choose_file(onnx_only, RuntimeOptions(prefer=("torchscript",))).kind is RuntimeKind.ONNX
    with pytest.raises(LoadFailed, match=r"'tensorrt'.*onnx, torchscript"):
        choose_file(both, RuntimeOptions(prefer=("tensorrt",)))
    with pytest.raises(LoadFailed, match="no file"):
        choose_file(replace(both, runtimes=()), RuntimeOptions())


# ---- wrong signatures


def spec(package: Package, **changes: Any) -> tuple[InputSpec, ...]:
    return (replace(package.manifest.signature.inputs[0], **changes),)


def out(package: Package, **changes: Any) -> tuple[OutputSpec, ...]:
    first, second = package.manifest.signature.outputs
    return (replace(first, **changes), second)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda k: {"inputs": spec(k, name="image")}, "no input 'image'"),
        (lambda k: {"inputs": spec(k, datatype=Datatype.FP64)}, "input 'x' is FP32, not FP64"),
        (lambda k: {"inputs": spec(k, shape=(-1, 1, 8, 9))}, r"input 'x' has shape \[-1, 1, 8, 8\]"),
        (lambda k: {"inputs": spec(k, shape=(-1, 64), axes=())}, "input 'x' has shape"),
        (lambda k: {"inputs": spec(k, shape=(-1, -1, 8, 8))}, "input 'x' has shape"),
        (lambda k: {"outputs": out(k, name="scores")}, "no output 'scores'"),
        (lambda k: {"outputs": out(k, datatype=Datatype.INT64)}, "output 'logits' is FP32, not INT64"),
        (lambda k: {"outputs": out(k, shape=(-1, 11))}, "output 'logits' has shape"),
    ],
)
def test_an_onnx_file_that_is_not_what_the_manifest_says_is_refused(tmp_path: Path, change: Any, reason: str) -> None:
    package = p.digits_like_package(tmp_path)
    wrong = with_signature(package, **change(package))
    with pytest.raises(LoadFailed, match=f"wrong signature.*{reason}"):
        load_runtime(wrong.dir, wrong.manifest, CPU)


def test_an_input_that_the_manifest_leaves_out_is_refused(tmp_path: Path) -> None:
    package = p.multi_input_package(tmp_path)
    wrong = with_signature(package, inputs=package.manifest.signature.inputs[:1])
    with pytest.raises(LoadFailed, match="input 'b' is not in it"):
        load_runtime(wrong.dir, wrong.manifest, CPU)


def test_torchscript_with_another_number_of_inputs_is_refused(tmp_path: Path) -> None:
    package = p.torchscript_package(tmp_path, with_onnx=False)
    extra = InputSpec(name="mask", datatype=Datatype.BOOL, shape=(-1,))
    wrong = with_signature(package, inputs=(*package.manifest.signature.inputs, extra))
    with pytest.raises(LoadFailed, match="takes 1 inputs, the signature has 2"):
        load_runtime(wrong.dir, wrong.manifest, CPU)


@pytest.mark.parametrize("kind", [RuntimeKind.ONNX, RuntimeKind.TORCHSCRIPT])
def test_a_corrupt_file_is_refused_without_its_path(tmp_path: Path, kind: RuntimeKind) -> None:
    package = p.digits_like_package(tmp_path)
    (package.dir / "broken").write_bytes(os.urandom(2000))
    manifest = replace(package.manifest, runtimes=(RuntimeFile(kind=kind, path="broken"),))
    with pytest.raises(LoadFailed, match="cannot load the weights") as caught:
        load_runtime(package.dir, manifest, CPU)
    assert str(tmp_path) not in caught.value.message


# ---- the proof


def test_a_good_package_is_proved_with_all_its_golden_rows(tmp_path: Path) -> None:
    for package in (
        p.digits_like_package(tmp_path, golden_rows=7),
        p.echo_package(tmp_path),
        p.unbatched_package(tmp_path),
    ):
        proof = prove(load_runtime(package.dir, package.manifest, CPU), package, 16)
        golden = package.golden()
        assert golden is not None
        assert proof.golden_rows == golden.rows
        assert proof.batch_rows == (16 if package.manifest.signature.batched else 1)
        assert proof.row_us > 0
        assert 0 < proof.batch_us < 1e6


def test_golden_cases_never_exceed_the_largest_batch(tmp_path: Path) -> None:
    package = doubling_package(tmp_path, Golden(inputs={"x": X}, outputs={"y": X * 2}))
    runtime = Doubling()
    prove(runtime, package, 2, timed=False)
    assert runtime.rows[:3] == [2, 2, 1]
    assert max(runtime.rows) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda x: x * 2 + 0.01, "output 'y' differs in 15 of 15 elements, by 0.01 at most"),
        (lambda x: np.where(x == x[0, 0], np.nan, x * 2).astype("f"), "not finite in 1 of 15 elements"),
        (lambda x: (x * 2).astype(np.float64), "output 'y' is float64, not FP32"),
        (lambda x: (x * 2)[:, :2], r"output 'y' has shape \[5, 2\], not \[5, 3\]"),
        (lambda x: (x * 2)[:-1], r"output 'y' has shape \[4, 3\], not \[5, 3\]"),
    ],
)
def test_golden_cases_that_are_not_reproduced_say_by_how_much(tmp_path: Path, answer: Any, reason: str) -> None:
    package = doubling_package(tmp_path, Golden(inputs={"x": X}, outputs={"y": X * 2}))
    with pytest.raises(LoadFailed, match=reason):
        prove(Doubling(answer), package, 64)


def test_a_difference_within_the_tolerance_passes(tmp_path: Path) -> None:
    package = doubling_package(tmp_path, Golden(inputs={"x": X}, outputs={"y": X * 2}))
    prove(Doubling(lambda x: x * 2 + 5e-5), package, 64)


def test_infinity_in_the_golden_truth_is_reproduced_not_refused(tmp_path: Path) -> None:
    truth = X * 2
    truth[0, 0] = np.inf
    package = doubling_package(tmp_path, Golden(inputs={"x": X}, outputs={"y": truth}))
    with pytest.raises(LoadFailed, match="differs in 1 of 15"):
        prove(Doubling(), package, 64)
    prove(Doubling(lambda x: np.where(x == X[0, 0], np.inf, x * 2).astype("f")), package, 64)


def test_a_largest_batch_that_does_not_fit_is_refused_with_its_size(tmp_path: Path) -> None:
    package = doubling_package(tmp_path, Golden(inputs={"x": X}, outputs={"y": X * 2}))
    with pytest.raises(LoadFailed, match="warm-up with 64 rows failed: the model ran out of memory"):
        prove(Doubling(raises_above=8), package, 64)


def test_without_golden_cases_a_failing_warm_up_is_no_evidence_and_the_model_gets_a_thread(tmp_path: Path) -> None:
    proof = prove(Doubling(raises_above=0), doubling_package(tmp_path, None), 64)
    assert proof.batch_us == float("inf")
    assert proof.golden_rows == 0


def test_another_number_of_outputs_is_refused_with_both_numbers(tmp_path: Path) -> None:
    specs = doubling_package(tmp_path, None).manifest.signature.outputs
    with pytest.raises(LoadFailed, match="1 outputs were asked for, 2 came back"):
        check_outputs(specs, [X, X], 5)


# ---- the trial in a child process


def test_a_good_package_passes_its_trial_and_a_bad_one_brings_its_reason(tmp_path: Path) -> None:
    try_load(p.digits_like_package(tmp_path).dir, 8, CPU, 60)
    with pytest.raises(LoadFailed, match="output 'logits' is not finite in 40 of 40"):
        try_load(p.nan_package(tmp_path).dir, 8, CPU, 60)


def test_a_load_that_hangs_is_killed_at_its_time_limit(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(LoadTimedOut, match="within 1 s"):
        try_load(tmp_path, 8, CPU, 1.0, ("-c", "import time; time.sleep(60)"))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL: out of memory, most likely"),
        ("raise SystemExit(7)", "exit status 7 and no verdict"),
        ("print('no verdict'); raise SystemExit(3)", "exit status 3 and no verdict"),
    ],
)
def test_a_load_that_crashes_takes_only_the_child_with_it(tmp_path: Path, body: str, reason: str) -> None:
    with pytest.raises(LoadInterrupted, match=reason):
        try_load(tmp_path, 8, CPU, 30, ("-c", body))


def test_the_trial_dies_with_the_process_that_waits_for_it(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        "import os, time\nfrom serving.runtime import trial\ntrial._be_the_first_victim()\n"
        "print(os.getpid(), open('/proc/self/oom_score_adj').read().strip(), flush=True)\ntime.sleep(60)\n"
    )
    parent = (
        "import subprocess, sys\nchild = subprocess.Popen([sys.executable, sys.argv[1]], stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode(), flush=True)\nimport time; time.sleep(60)\n"
    )
    root = str(Path(trial.__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", parent, str(script)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    ) as process:
        assert process.stdout is not None
        pid, score = process.stdout.readline().split()
        assert score == b"1000"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        for _ in range(100):
            if not Path(f"/proc/{int(pid)}").exists() or "Z" in Path(f"/proc/{int(pid)}/stat").read_text().split()[2]:
                return
            time.sleep(0.05)
    pytest.fail("the child outlived its parent")
