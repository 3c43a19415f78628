"""TorchScript through CUDA lanes and graphs, with torch's CUDA replaced by the CPU; the calls exist in torch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from export.contracts.datatypes import Datatype
from export.contracts.errors import ModelFailed
from export.package import Package
from serving.options import Precision
from serving.runtime.base import DeviceLost, OutOfMemory
from serving.runtime.staged import GraphOptions, StagedRuntime
from serving.runtime.streams import Fault
from serving.runtime.torch_module import TorchProgram
from serving.runtime.torch_streams import CudaAccelerator
from tests.support import packages as p
from tests.support.fake_cuda import FakeProgram, FakeTorch


class Made:
    """A digits model on the pretended device, and the same on the CPU."""

    def __init__(self, package: Package, *, lanes: int = 2, graphs: bool = True, **fake: Any) -> None:
        signature = package.manifest.signature
        self.torch = FakeTorch()
        for name, value in fake.items():
            setattr(self.torch.cuda, name, value)
        self.plain = TorchProgram(
            torch, package.dir / "model.pt", signature, torch.device("cpu"), Precision.AS_EXPORTED
        )
        self.program = FakeProgram(self.torch, self.plain)
        self.device = CudaAccelerator(self.torch, self.program, torch.device("cpu"))  # type: ignore[arg-type]
        options = GraphOptions(enabled=graphs, max_rows=8, memory_bytes=1 << 30)
        self.runtime = StagedRuntime(
            self.device, signature, kind="torchscript", provider="libtorch", lanes=lanes, graphs=options
        )
        self.runtime.prepare()
        self.torch.cuda.calls.clear()

    def truth(self, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        with torch.inference_mode():
            return [t.numpy() for t in self.plain([torch.from_numpy(x)])]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return p.torchscript_package(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def made(package: Package) -> Iterator[Made]:
    it = Made(package)
    yield it
    it.runtime.close()


def x(rows: int) -> np.ndarray[Any, Any]:
    return p.random_tensor(Datatype.FP32, (rows, 1, 8, 8), rows)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 9])
def test_answers_are_the_modules_by_graph_and_without(made: Made, rows: int) -> None:
    assert made.runtime.facts["graphs"] == "1,2,4,8"
    for outputs in ((0, 1), (1,), (1, 0)):
        for answer, truth in zip(
            made.runtime.run([x(rows)], outputs), [made.truth(x(rows))[i] for i in outputs], strict=True
        ):
            np.testing.assert_allclose(answer, truth, rtol=1e-5, atol=1e-6)
            assert answer.shape[0] == rows
    replayed = any("replay" in call for call in made.torch.cuda.calls)
    assert replayed == (rows <= 8)


def test_a_lane_waits_for_the_other_lanes_computation_and_the_host_once(made: Made) -> None:
    first, second = (made.runtime._take() for _ in range(2))
    for track in (first, second, second, first):
        made.runtime._run(track, [x(9)], (0,))
    assert made.torch.cuda.calls == [
        "host waits for s2",
        "s1 waits for s2",
        "host waits for s1",
        "host waits for s1",  # after itself a lane is in order anyway
        "s2 waits for s1",
        "host waits for s2",
    ]
    for track in (first, second):
        made.runtime._give(track)


def test_a_capture_that_fails_leaves_a_runtime_without_graphs(package: Package) -> None:
    made = Made(package, fail_capture=True)
    assert made.runtime.facts["graphs"] == ""
    assert made.runtime.healthy
    np.testing.assert_allclose(made.runtime.run([x(3)], (0,))[0], made.truth(x(3))[0], rtol=1e-5, atol=1e-6)
    made.runtime.close()


def test_close_gives_the_memory_back(made: Made) -> None:
    made.runtime.close()
    assert made.torch.cuda.calls == ["empty_cache"]
    with pytest.raises(ModelFailed, match="unloaded"):
        made.runtime.run([x(1)], (0,))


SCRIPT = "The following operation failed in the TorchScript interpreter.\nRuntimeError: "


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Fault.MEMORY),
        (RuntimeError(SCRIPT + "CUDA out of memory. Tried to allocate 2.00 GiB"), Fault.MEMORY),
        (RuntimeError(SCRIPT + "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), Fault.MEMORY),
        (RuntimeError(SCRIPT + "CUDA error: device-side assert triggered"), Fault.LOST),
        (RuntimeError(SCRIPT + "CUDA error: an illegal memory access was encountered"), Fault.LOST),
        (RuntimeError(SCRIPT + "mat1 and mat2 shapes cannot be multiplied"), Fault.MODEL),
        (ValueError("x"), Fault.MODEL),
    ],
)
def test_errors_are_told_apart_by_what_torchscript_leaves_of_them(made: Made, error: Exception, fault: Fault) -> None:
    assert made.device.fault(error) is fault


def test_f09_out_of_memory_gives_the_cache_back_and_is_503(made: Made) -> None:
    made.program.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(OutOfMemory):
        made.runtime.run([x(9)], (0,))
    assert made.torch.cuda.calls[-1] == "empty_cache"
    made.program.error = None
    assert made.runtime.healthy
    assert len(made.runtime.run([x(9)], (0,))[0]) == 9


def test_f10_a_sticky_error_is_one_failing_batch(made: Made) -> None:
    made.program.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(ModelFailed, match="the model raised"):
        made.runtime.run([x(9)], (0,))
    assert not made.runtime.healthy
    made.program.error = None
    with pytest.raises(DeviceLost):
        made.runtime.run([x(1)], (0,))


def test_a_lost_device_can_be_closed(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    made.torch.cuda.empty_cache = lost  # type: ignore[method-assign]
    made.runtime.close()
    assert "not given back" in caplog.text


def test_what_is_called_exists_in_torch_with_these_arguments() -> None:
    """The pretended CUDA proves nothing about names; torch itself does, also where it was built without CUDA."""
    inspect.signature(torch.cuda.Event.__new__).bind(torch.cuda.Event, blocking=True)
    inspect.signature(torch.cuda.Stream.__new__).bind(torch.cuda.Stream, torch.device("cuda:0"))
    inspect.signature(torch.cuda.Stream.wait_event).bind(None, None)
    inspect.signature(torch.cuda.Event.record).bind(None, None)
    graph = torch.cuda.CUDAGraph
    inspect.signature(graph.capture_begin).bind(None, pool=(0, 1), capture_error_mode="thread_local")
    for method in (graph.capture_end, graph.replay, torch.cuda.graph_pool_handle, torch.cuda.empty_cache):
        assert callable(method)
    inspect.signature(torch.cuda.memory_reserved).bind(torch.device("cuda:0"))
    inspect.signature(torch.cuda.set_per_process_memory_fraction).bind(0.5, torch.device("cuda:0"))
    assert issubclass(torch.AcceleratorError, RuntimeError)
    assert issubclass(torch.OutOfMemoryError, RuntimeError)
