"""ONNX Runtime on page-locked memory: open shapes, the way back to plain runs, errors, memory that is given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from export.contracts.errors import ModelFailed
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.package import Package
from serving.options import RuntimeOptions
from serving.runtime.base import DeviceLost, OutOfMemory
from serving.runtime.devices import CPU
from serving.runtime.onnx_bound import BoundOnnxRuntime
from serving.runtime.onnx_graphs import GraphedOnnxRuntime
from serving.runtime.onnx_session import SessionOptions, open_session
from serving.runtime.staged import GraphOptions
from tests.support import packages as p


def memory(size: int) -> np.ndarray[Any, Any]:
    return np.full(size, 0xA5, np.uint8)


def session_of(package: Package) -> Any:
    how = SessionOptions(threads=1, max_rows=8, graphs=False, runtime=RuntimeOptions())
    return open_session(package.dir / "model.onnx", package.manifest.signature, CPU, how)


def bound(package: Package, session: Any = None) -> BoundOnnxRuntime:
    made = BoundOnnxRuntime(session or session_of(package), package.manifest.signature, CPU, memory, lanes=2)
    made.prepare()
    return made


def open_shapes(folder: Path) -> Package:
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, -1)),),
        outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, -1)),),
    )
    model = p.make_model(signature, [p.helper.make_node("Add", ["x", "x"], ["y"])])
    return p.package_model(folder, model, signature, name="open")


def images(rows: int) -> np.ndarray[Any, Any]:
    return p.random_tensor(Datatype.FP32, (rows, 1, 8, 8), rows)


class Session:
    """A session that fails as one on a device does."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.error: Exception | None = None
        self.vector_error: Exception | None = None
        self.shrunk: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def run(self, names: Any, feeds: Any, options: Any = None) -> Any:
        if self.error is not None:
            raise self.error
        return self.inner.run(names, feeds, options)

    def run_with_ortvaluevector(self, options: Any, *rest: Any) -> None:
        for error in (self.error, self.vector_error):
            if error is not None:
                raise error
        try:
            self.shrunk.append(bool(options.get_run_config_entry("memory.enable_memory_arena_shrinkage")))
        except RuntimeError:
            self.shrunk.append(False)
        self.inner.run_with_ortvaluevector(options, *rest)


def test_answers_lie_in_page_locked_memory_and_are_the_callers(tmp_path: Path) -> None:
    runtime = bound(p.digits_like_package(tmp_path))
    assert runtime.facts["bound"] is True
    kept = [runtime.run([images(n)], (0, 1)) for n in range(1, 7)]
    assert all(runtime._answers.holds(a) for pair in kept for a in pair)
    plain = session_of(p.digits_like_package(tmp_path / "again"))
    for n, pair in enumerate(kept, 1):
        for a, b in zip(pair, plain.run(None, {"x": images(n)}), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_answers_of_open_shapes_are_copies(tmp_path: Path) -> None:
    runtime = bound(open_shapes(tmp_path))
    kept = [(n, runtime.run([np.full((2, n), n, np.float32)], (0,))[0]) for n in (3, 7, 5, 1, 64)]
    for n, answer in kept:
        assert answer.shape == (2, n)
        assert (answer == 2 * n).all()


def test_a_runtime_that_cannot_be_bound_runs_plainly_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    package = p.digits_like_package(tmp_path)
    session = Session(session_of(package))
    session.vector_error = TypeError("another signature in another version")
    runtime = bound(package, session)
    assert runtime.facts["bound"] is False
    assert "cannot be bound" in caplog.text
    truth = session.inner.run(None, {"x": images(3)})
    for a, b in zip(runtime.run([images(3)], (1, 0)), truth[::-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert runtime.buffer(0, (3, 1, 8, 8)) is not None, "inputs are page-locked all the same"


def test_f09_after_a_batch_that_did_not_fit_the_next_run_gives_memory_back(tmp_path: Path) -> None:
    package = p.digits_like_package(tmp_path)
    session = Session(session_of(package))
    runtime = bound(package, session)
    session.shrunk.clear()
    runtime.run([images(2)], (0,))
    session.error = RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 8589934592")
    with pytest.raises(OutOfMemory):
        runtime.run([images(2)], (0,))
    session.error = None
    for _ in range(2):
        runtime.run([images(2)], (0,))
    assert session.shrunk == [False, True, False]
    assert runtime.healthy


def test_f10_a_cuda_failure_breaks_the_runtime_for_good(tmp_path: Path) -> None:
    package = p.digits_like_package(tmp_path)
    session = Session(session_of(package))
    runtime = bound(package, session)
    session.error = RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0")
    with pytest.raises(ModelFailed, match="the model raised"):
        runtime.run([images(2)], (0,))
    session.error = None
    with pytest.raises(DeviceLost):
        runtime.run([images(2)], (0,))


def test_recorded_sizes_answer_what_the_model_answers_and_others_run_plainly(tmp_path: Path) -> None:
    package = p.digits_like_package(tmp_path)
    session = session_of(package)
    sizes = GraphOptions(enabled=True, max_rows=8, memory_bytes=0)
    runtime = GraphedOnnxRuntime(session, package.manifest.signature, CPU, memory, sizes)
    runtime.prepare()
    kept = []
    for rows in (1, 3, 8, 9, 3):
        truth = session.run(None, {"x": images(rows)})
        answers = runtime.run([images(rows)], (0, 1))
        kept.append((answers, truth))
    for answers, truth in kept:  # none was overwritten by a later replay
        for a, b in zip(answers, truth, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert runtime._options.get_run_config_entry("gpu_graph_id") == "-1", "sizes without a graph must not record one"


def test_open_shapes_are_not_recorded(tmp_path: Path) -> None:
    package = open_shapes(tmp_path)
    sizes = GraphOptions(enabled=True, max_rows=8, memory_bytes=0)
    runtime = GraphedOnnxRuntime(session_of(package), package.manifest.signature, CPU, memory, sizes)
    runtime.prepare()
    assert runtime.facts["graphs"] == ""
    assert (runtime.run([np.ones((2, 3), np.float32)], (0,))[0] == 2).all()


def test_bf16_travels_as_bits(tmp_path: Path) -> None:
    package = p.all_dtypes_package(tmp_path, datatypes=(Datatype.BF16, Datatype.FP32))
    runtime = bound(package)
    given = [p.random_tensor(d, (3, 2)) for d in (Datatype.BF16, Datatype.FP32)]
    for wanted in ((0, 1), (1, 0), (0,)):
        for index, answer in zip(wanted, runtime.run(given, wanted), strict=True):
            assert answer.dtype == given[index].dtype
            np.testing.assert_array_equal(answer, given[index])
