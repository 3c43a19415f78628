"""What we export runs where Python does not: the C++ program reproduces the golden cases, and refuses bad packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.contracts.arrays import load_npz, save_npz
from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.manifest import Task, TaskKind
from export.cpp_project import BuildFailed, Libraries, build_project, find_libraries, write_project
from export.from_torch import export_module
from export.package import Package
from export.torch_runner import torchscript_runner
from tests.support import cpp_runner
from tests.support import packages as p
from tests.support.cpp_runner import Runner, reseal
from tests.support.images import image_package

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return cpp_runner.build(tmp_path_factory.mktemp("cpp"), targets=("classify",))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A convolutional network with both files, exported as a user exports one."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10)
    )
    x = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)
    return export_module(
        module,
        x,
        name="digits",
        version="1",
        task=Task(kind=TaskKind.CLASSIFICATION, class_names=tuple("0123456789")),
        out_dir=tmp_path_factory.mktemp("exported") / "p",
    )


@pytest.fixture
def damaged(exported: Package, tmp_path: Path) -> Path:
    """A copy of the exported package, to damage."""
    return Path(shutil.copytree(exported.dir, tmp_path / "copy"))


def test_both_runtimes_reproduce_the_golden_cases_of_an_export(run: Runner, exported: Package) -> None:
    ran = run(exported.dir, "--golden", "--json")
    assert ran.code == 0, ran.err
    report = ran.report
    assert report["digest"] == exported.digest
    assert report["verified_files"] == len(exported.manifest.files)
    assert [(c["runtime"], c["batch_rows"]) for c in report["golden"]] == [
        ("onnx", 16), ("onnx", 1), ("torchscript", 16), ("torchscript", 1)
    ]  # fmt: skip
    assert all(c["passed"] and c["elements"] == 160 and c["max_absolute"] < 1e-5 for c in report["golden"])
    assert {c["library"].split()[0] for c in report["golden"]} == {"ONNX", "libtorch"}
    assert f"libtorch {torch.__version__.split('+')[0]}" in {c["library"] for c in report["golden"]}


@pytest.mark.parametrize(
    "make",
    [
        p.digits_like_package,
        p.all_dtypes_package,
        p.echo_package,
        p.multi_input_package,
        p.variable_length_package,
        p.unbatched_package,
    ],
    ids=lambda make: make.__name__,
)
def test_every_datatype_and_shape_crosses(run: Runner, make: Callable[[Path], Package], tmp_path: Path) -> None:
    package = make(tmp_path)
    ran = run(package.dir, "--golden", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert {c["output"] for c in ran.report["golden"]} == {o.name for o in package.manifest.signature.outputs}


def test_bf16_is_held_as_its_bits(run: Runner, tmp_path: Path) -> None:
    package = p.all_dtypes_package(tmp_path, datatypes=(Datatype.BF16,))
    assert run(package.dir, "--golden").code == 0


def test_encoded_images_are_taken_as_the_tensors_that_they_were_decoded_to(run: Runner, tmp_path: Path) -> None:
    package = image_package(tmp_path)
    assert package.manifest.signature.preprocesses
    ran = run(package.dir, "--golden", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.report["passed"]
    save_npz(tmp_path / "in.npz", package.golden().inputs)
    refused = run(package.dir, "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz")
    assert refused.code == 3
    assert "the decoded images" in refused.err


def test_wrong_answers_are_reported_with_their_size_and_exit_code_1(run: Runner, tmp_path: Path) -> None:
    ran = run(p.nan_package(tmp_path).dir, "--golden", "--json")
    assert ran.code == 1
    wrong = {c["output"]: c for c in ran.report["golden"]}
    assert not wrong["logits"]["passed"]
    assert wrong["logits"]["out_of_tolerance"] == wrong["logits"]["elements"] == 40
    assert wrong["embedding"]["passed"]
    assert not ran.report["passed"]


def test_the_tolerance_is_the_manifests(run: Runner, damaged: Path) -> None:
    arrays = load_npz(damaged / "golden.npz")
    name = next(k for k in arrays if k.startswith("out/"))
    arrays[name] = arrays[name] + np.float32(0.01)
    save_npz(damaged / "golden.npz", arrays)
    reseal(damaged)
    ran = run(damaged, "--golden", "--json")
    assert ran.code == 1
    assert all(0.0099 < c["max_absolute"] < 0.0101 for c in ran.report["golden"])
    reseal(damaged, golden_tolerance={"absolute": 0.02, "relative": 0.0})
    assert run(damaged, "--golden").code == 0
    text = run(damaged, "--golden", "--runtime=torchscript")
    assert "max |a-b| 0.01" in text.out
    assert "onnx" not in text.out


@pytest.mark.parametrize("runtime", ["onnx", "torchscript"])
def test_rows_of_ones_own_run_as_they_do_in_python(
    run: Runner, exported: Package, runtime: str, tmp_path: Path
) -> None:
    (spec,) = exported.manifest.signature.inputs
    (output,) = exported.manifest.signature.outputs
    x = np.random.default_rng(5).random((11, 1, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "in.npz", **{spec.name: np.asfortranarray(x), "unused": np.arange(3)})
    ran = run(
        exported.dir, "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz", "--runtime", runtime,
        "--batch", "4", "--threads", "2", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.report["written_rows"] == 11
    expected = torchscript_runner(exported.dir / "model.pt", [spec.name], [output.name])({spec.name: x})[output.name]
    with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
        assert out.files == [output.name]
        np.testing.assert_allclose(out[output.name], expected, atol=1e-5)


def test_texts_go_in_and_out_with_any_bytes_that_unicode_has(run: Runner, tmp_path: Path) -> None:
    package = p.echo_package(tmp_path)
    texts = np.array([[b"a"], [b""], ["\0é\U0001f600".encode()]], dtype=object)
    save_npz(tmp_path / "in.npz", {"text": texts})
    ran = run(package.dir, "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz")
    assert ran.code == 0, ran.err
    assert load_npz(tmp_path / "out.npz")["echo"].tolist() == texts.tolist()


def test_the_example_program_runs(run: Runner, exported: Package) -> None:
    program = run.program.parent / "classify"
    done = subprocess.run([program, exported.dir], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:4] == ["FP32", "[1,", "10]"]


def test_without_a_task_the_files_are_checked(run: Runner, exported: Package) -> None:
    ran = run(exported.dir)
    assert ran.code == 0
    assert exported.digest in ran.out
    assert f"{len(exported.manifest.files)} files are what the manifest says" in ran.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "which package"),
        (["a", "b"], "more than one package"),
        (["a", "--fast"], "unknown option '--fast'"),
        (["a", "--runtime", "tensorrt"], "expected onnx or torchscript"),
        (["a", "--batch", "0"], "from 1 to 1000000"),
        (["a", "--batch", "2x"], "from 1 to 1000000"),
        (["a", "--threads"], "a value is missing"),
        (["a", "--input", "x.npz"], "belong together"),
    ],
)
def test_wrong_arguments_say_so_with_exit_code_2(run: Runner, arguments: list[str], text: str) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert text in ran.err
    assert run("--help").code == 0


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def _manifest(package: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]  # JSON
    manifest = json.loads((package / "manifest.json").read_text())
    change(manifest)
    (package / "manifest.json").write_text(json.dumps(manifest))


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _as_link(package: Path) -> None:
    (package / "model.onnx").rename(package.parent / "elsewhere.onnx")
    (package / "model.onnx").symlink_to(package.parent / "elsewhere.onnx")


def _resealed(package: Path, damage: Callable[[Path], None]) -> None:
    damage(package)
    reseal(package)


BAD_PACKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda d: (d / "manifest.json").unlink(), "manifest.json' cannot be opened"),
    "manifest is no JSON": (lambda d: (d / "manifest.json").write_text("{"), "not valid JSON"),
    "manifest with a key twice": (lambda d: (d / "manifest.json").write_text('{"a":1,"a":2}'), "key occurs twice"),
    "manifest nested deeply": (lambda d: (d / "manifest.json").write_text("[" * 100_000), "nested too deeply"),
    "another schema": (lambda d: reseal(d, schema_version=2), "another schema version"),
    "no signature": (lambda d: reseal(d, signature={}), "field 'inputs' is missing"),
    "a path that escapes": (
        lambda d: _manifest(d, lambda m: m["files"][0].update(path="../outside")), "not a plain relative path"
    ),
    "an absolute path": (
        lambda d: _manifest(d, lambda m: m["runtimes"][0].update(path="/etc/passwd")), "not a plain relative path"
    ),
    "a runtime's file that is not there": (
        lambda d: _manifest(d, lambda m: m["runtimes"][0].update(path="other.onnx")), "no such file"
    ),
    "one bit of the weights": (lambda d: _flip(d / "model.onnx", 200), "'model.onnx' does not have the digest"),
    "weights cut off": (lambda d: _cut(d / "model.pt"), "'model.pt' has"),
    "a file more": (lambda d: (d / "extra").write_text("x"), "'extra' is not in the manifest"),
    "a file fewer": (lambda d: (d / "parity.json").unlink(), "'parity.json' is missing"),
    "a link": (_as_link, "'model.onnx' is not a regular file"),
    "a pipe": (lambda d: ((d / "parity.json").unlink(), os.mkfifo(d / "parity.json")), "is not a regular file"),
    "a second name": (lambda d: os.link(d / "model.pt", d.parent / "name2"), "not a regular file with one name"),
    "golden cases cut off": (
        lambda d: _resealed(d, lambda e: _cut(e / "golden.npz")), "golden cases: not a readable archive"
    ),
    "golden cases damaged": (
        lambda d: _resealed(d, lambda e: _flip(e / "golden.npz", 500)), "golden cases: not a readable archive"
    ),
    "golden cases of another model": (
        lambda d: _resealed(d, lambda e: save_npz(e / "golden.npz", {"in/z": np.zeros(3)})), "is missing"
    ),
    "golden cases with objects": (
        lambda d: _resealed(
            d, lambda e: np.savez(e / "golden.npz", **{"in/x": np.array([{}], dtype=object)})  # type: ignore[arg-type]
        ),
        "dtype '|O'",
    ),
    "ONNX that is none": (
        lambda d: _resealed(d, lambda e: (e / "model.onnx").write_bytes(b"nonsense")), "ONNX Runtime: "
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_PACKAGES)
def test_a_bad_package_is_refused_with_its_reason_and_exit_code_3(run: Runner, kind: str, damaged: Path) -> None:
    damage, text = BAD_PACKAGES[kind]
    damage(damaged)
    ran = run(damaged, "--golden", "--json")
    assert ran.code == 3
    assert text in ran.err
    assert ran.report["exit_code"] == 3


def test_torchscript_that_is_none_is_refused(run: Runner, damaged: Path) -> None:
    (damaged / "model.pt").write_bytes(b"PK nonsense")
    reseal(damaged)
    ran = run(damaged, "--golden", "--runtime", "torchscript")
    assert ran.code == 3
    assert ran.err.startswith("hardcase-run: libtorch: ")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "is missing"),
        ({"input": np.zeros((2, 1, 8, 8))}, "is FP64 [2, 1, 8, 8], the signature says FP32 [-1, 1, 8, 8]"),
        ({"input": np.zeros((2, 1, 8, 4), np.float32)}, "is FP32 [2, 1, 8, 4]"),
        ({"input": np.zeros((0, 1, 8, 8), np.float32)}, "no rows"),
        ({"input": np.zeros((2, 1, 8, 8), np.complex64)}, "dtype '<c8'"),
        ({"input": np.array(["text"])}, "dtype '<U4'"),
        ({"input": np.zeros(2, dtype=[("a", "<f4")])}, "array of records"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(
    run: Runner, exported: Package, arrays: dict[str, np.ndarray], text: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "in.npz", **arrays)  # type: ignore[arg-type]  # the stub takes the keys for its own options
    ran = run(exported.dir, "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz")
    assert ran.code == 3
    assert text in ran.err
    assert not (tmp_path / "out.npz").exists()


def test_a_machine_without_onnx_runtime_skips_it_and_says_so(run: Runner, exported: Package) -> None:
    ran = run(exported.dir, "--golden", "--json", env={"HARDCASE_ONNXRUNTIME": "/nowhere/libonnxruntime.so"})
    assert ran.code == 0
    assert {c["runtime"] for c in ran.report["golden"]} == {"torchscript"}
    (skipped,) = ran.report["skipped"]
    assert "HARDCASE_ONNXRUNTIME" in skipped["reason"]
    named = run(exported.dir, "--golden", "--runtime", "onnx", "--onnxruntime", "/nowhere/libonnxruntime.so")
    assert named.code == 3
    wrong = run(exported.dir, "--golden", "--runtime", "onnx", "--onnxruntime", "libz.so.1")
    assert wrong.code == 3
    assert "is not ONNX Runtime's library" in wrong.err


def test_the_project_is_written_whole_and_not_over_something_else(tmp_path: Path) -> None:
    names = write_project(tmp_path / "p")
    assert {"CMakeLists.txt", "README.md", "src/main.cpp", "include/hardcase/package.hpp"} <= set(names)
    with pytest.raises(PackageError, match="not empty"):
        write_project(tmp_path / "p")
    assert write_project(tmp_path / "p", overwrite=True) == names


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    cpp_runner.need_compiler()
    write_project(tmp_path / "p")
    nowhere = Libraries(torch=tmp_path / "nowhere", onnxruntime=None)
    with pytest.raises(BuildFailed, match="holds no"):
        build_project(tmp_path / "p", tmp_path / "b", nowhere)
    assert find_libraries().torch is not None


@pytest.fixture(autouse=True)
def _no_setting_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARDCASE_ONNXRUNTIME", raising=False)
