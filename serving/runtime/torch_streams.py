"""Lanes on CUDA streams of torch, and CUDA graphs. See `serving.runtime.streams`.

Each lane has one stream. Its copies run on the device's copy engines beside the computation of another lane; the
computations themselves are ordered by events, so that a batch is not slowed by the next one. The host waits for a
blocking event: it neither holds the interpreter nor spins.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from serving.runtime.base import Array
from serving.runtime.streams import Fault
from serving.runtime.torch_module import TorchProgram, to_numpy

_log = logging.getLogger("hardcase.runtime.torch")
_CAPTURING = threading.Lock()  # torch allows one capture at a time in a process
_RUNS_BEFORE_CAPTURE = 3  # the first ones profile, compile and make handles, which a capture cannot
# TorchScript turns what an operator raises into a RuntimeError: these texts are what is left of its kind.
_MEMORY_TEXTS = ("out of memory", "ALLOC_FAILED", "not enough memory")
_LOST_TEXTS = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_EXECUTION_FAILED")


class CudaAccelerator:
    """A module on a CUDA device.

    Args:
        torch: The library.
        program: The module, its weights on the device.
        device: Torch's object for the device.
    """

    def __init__(self, torch: Any, program: TorchProgram, device: Any) -> None:
        self.torch = torch
        self.device = device
        self.name = str(device)
        self.turn = threading.Lock()  # held while one lane issues its computation
        self.computed: Any = None  # event: the computation that was issued last is done
        self._program: TorchProgram | None = program

    def lane(self) -> CudaLane:
        """See `Accelerator.lane`."""
        return CudaLane(self)

    def host(self, size_bytes: int) -> Array:
        """See `Accelerator.host`."""
        memory = self.torch.empty(size_bytes, dtype=self.torch.uint8, pin_memory=True)
        return memory.numpy()  # type: ignore[no-any-return] # torch is passed as Any

    def memory_bytes(self) -> int:
        """See `Accelerator.memory_bytes`."""
        return int(self.torch.cuda.memory_reserved(self.device))

    def relieve(self) -> None:
        """See `Accelerator.relieve`. A lost device has nothing to give back, and says so."""
        try:
            self.torch.cuda.empty_cache()
        except RuntimeError as error:
            _log.warning("the device's cached memory was not given back: %s", error)

    def fault(self, error: BaseException) -> Fault:
        """See `Accelerator.fault`."""
        text = str(error)
        if isinstance(error, MemoryError | self.torch.OutOfMemoryError) or any(t in text for t in _MEMORY_TEXTS):
            return Fault.MEMORY
        # Every CUDA error that is none of memory is taken as sticky: later calls of this process would fail, too.
        sticky = isinstance(error, self.torch.AcceleratorError) or any(t in text for t in _LOST_TEXTS)
        return Fault.LOST if sticky else Fault.MODEL

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """All outputs of the module, on the current stream."""
        assert self._program is not None  # lanes are closed before the accelerator
        return self._program(inputs)

    def close(self) -> None:
        """See `Accelerator.close`."""
        self._program = None
        self.relieve()


class CudaGraph:
    """See `serving.runtime.streams.Graph`."""

    def __init__(self, recorded: Any, inputs: Sequence[Any], outputs: list[Any]) -> None:
        self.recorded = recorded
        self.inputs = inputs
        self.outputs = outputs


class CudaLane:
    """See `serving.runtime.streams.Lane`."""

    def __init__(self, accelerator: CudaAccelerator) -> None:
        torch = accelerator.torch
        self._accelerator = accelerator
        self._torch = torch
        self._stream = torch.cuda.Stream(accelerator.device)
        self._computed = torch.cuda.Event()
        self._done = torch.cuda.Event(blocking=True)
        self._pool: Any = None  # graphs of a lane share memory: they never run at the same time
        self._graphs: weakref.WeakSet[CudaGraph] = weakref.WeakSet()

    @contextmanager
    def work(self) -> Iterator[None]:
        """See `Lane.work`."""
        with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):
            yield

    def upload(self, host: Array, into: Any = None) -> Any:
        """See `Lane.upload`."""
        source = self._torch.from_numpy(host)
        if into is None:
            return source.to(self._accelerator.device, non_blocking=True)
        if source.shape == into.shape:
            into.copy_(source, non_blocking=True)
        else:
            rows = len(host)
            into[:rows].copy_(source, non_blocking=True)
            into[rows:].copy_(into[rows - 1 : rows].expand_as(into[rows:]))
        return into

    def compute(self, inputs: Sequence[Any]) -> list[Any]:
        """See `Lane.compute`."""
        with self._in_turn():
            return self._accelerator.run(inputs)

    def capture(self, inputs: Sequence[Any]) -> CudaGraph:
        """See `Lane.capture`."""
        torch, run = self._torch, self._accelerator.run
        static = [t.clone() for t in inputs]
        with _CAPTURING, self._in_turn():
            for _ in range(_RUNS_BEFORE_CAPTURE):
                run(static)
            self.finish()
            if not self._graphs:  # torch does not take a handle again whose graphs are all gone
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            # "thread_local": other threads answer requests meanwhile, and may allocate.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                outputs = run(static)
            except BaseException:
                with contextlib.suppress(RuntimeError):  # that the capture is void; what was raised says why
                    graph.capture_end()
                raise
            graph.capture_end()
        made = CudaGraph(graph, static, outputs)
        self._graphs.add(made)
        return made

    def replay(self, graph: CudaGraph) -> list[Any]:
        """See `Lane.replay`."""
        with self._in_turn():
            graph.recorded.replay()
        return graph.outputs

    def download(self, tensor: Any, rows: int | None) -> Any:
        """See `Lane.download`. The host memory is page-locked, fresh, and from torch's cache of such memory."""
        part = tensor if rows is None else tensor[:rows]
        return part.contiguous().to("cpu", non_blocking=True)

    def finish(self) -> None:
        """See `Lane.finish`."""
        self._done.record(self._stream)
        self._done.synchronize()

    def array(self, download: Any) -> Array:
        """See `Lane.array`."""
        return to_numpy(self._torch, download)

    def close(self) -> None:
        """See `Lane.close`."""
        self._pool = None

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Issue after the computation that was issued last, on the device and in this process."""
        accelerator = self._accelerator
        with accelerator.turn:
            if accelerator.computed is not None and accelerator.computed is not self._computed:
                self._stream.wait_event(accelerator.computed)
            try:
                yield
            finally:
                self._computed.record(self._stream)
                accelerator.computed = self._computed
