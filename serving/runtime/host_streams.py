"""Lanes on threads: the double of a GPU, with real results from the CPU. For tests and benchmarks.

Three engines (copy in, compute, copy out) are threads that work through what the lanes issue, each in order, as a GPU's
copy engines and its one compute queue do. Copies happen when their turn comes, not when they are issued: whoever
changes or re-uses a buffer too early gets wrong numbers here as he would on the device. The computation is the CPU
runtime's, and takes at least the time that the setting says.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from serving.runtime.base import Array
from serving.runtime.streams import Fault

Program = Callable[[Sequence[Array]], list[Array]]
"""All outputs of the model for a batch of inputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DoubleOptions:
    """How the double behaves.

    Attributes:
        batch_s: Seconds that every batch computes at least.
        row_s: And for each of its rows.
        oom_above: Batches of more rows than this run out of memory; 0: none does.
        lost_at: A batch of exactly this many rows breaks the device for good; 0: none does.
    """

    batch_s: float = 0.0
    row_s: float = 0.0
    oom_above: int = 0
    lost_at: int = 0


class DoubleOutOfMemory(Exception):
    """The batch has more rows than the setting lets fit."""


class DoubleLost(Exception):
    """The device was broken by a batch that the setting names."""


class _Task:
    """One piece of work, which begins when the one before it in its lane is done."""

    __slots__ = ("after", "done", "error", "work")

    def __init__(self, work: Callable[[], None], after: _Task | None) -> None:
        self.work = work
        self.after = after
        self.done = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        if self.after is not None:
            self.after.done.wait()
            self.error, self.after = self.after.error, None
        if self.error is None:
            try:
                self.work()
            except Exception as error:  # it belongs to the thread that waits for the lane
                self.error = error
        self.done.set()


class _Engine:
    """A thread that works through tasks in order."""

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        threading.Thread(target=self._body, name=f"hardcase-double-{name}", daemon=True).start()

    def submit(self, task: _Task) -> None:
        self._tasks.put(task)

    def close(self) -> None:
        self._tasks.put(None)

    def _body(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()


class _Cell:
    """A tensor of the double: its value is there when the tasks that make it are done."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Array = np.empty(0)


class HostGraph:
    """A recorded computation: fixed memory for inputs and outputs, which every replay overwrites."""

    def __init__(self, inputs: Sequence[_Cell], outputs: list[_Cell]) -> None:
        self.inputs = inputs
        self.outputs = outputs


class HostAccelerator:
    """See `serving.runtime.streams.Accelerator`.

    Args:
        program: Computes on the CPU; called from one thread at a time.
        outputs: How many outputs it has.
        options: Timing and faults.
        close: Called once, when nothing is left.
        delay: Called before every copy; tests use it to shake the order of things.
    """

    name = "double"

    def __init__(
        self,
        program: Program,
        outputs: int,
        options: DoubleOptions,
        *,
        close: Callable[[], None] = lambda: None,
        delay: Callable[[], None] | None = None,
    ) -> None:
        self.program = program
        self.outputs = outputs
        self.delay = delay
        self._options = options
        self._close = close
        self._lost = False
        self.copy_in, self.compute, self.copy_out = (_Engine(n) for n in ("copy-in", "compute", "copy-out"))

    def lane(self) -> HostLane:
        """See `Accelerator.lane`."""
        return HostLane(self)

    def host(self, size_bytes: int) -> Array:
        """See `Accelerator.host`. Filled with what no test sends, so that a byte that was never copied shows."""
        return np.full(size_bytes, 0xA5, dtype=np.uint8)

    def memory_bytes(self) -> int:
        """See `Accelerator.memory_bytes`."""
        return 0

    def relieve(self) -> None:
        """See `Accelerator.relieve`."""

    def fault(self, error: BaseException) -> Fault:
        """See `Accelerator.fault`."""
        if isinstance(error, DoubleOutOfMemory):
            return Fault.MEMORY
        return Fault.LOST if isinstance(error, DoubleLost) else Fault.MODEL

    def close(self) -> None:
        """See `Accelerator.close`."""
        for engine in (self.copy_in, self.compute, self.copy_out):
            engine.close()
        self._close()

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute one batch, and take as long as the settings say. On the compute engine."""
        options = self._options
        rows = len(inputs[0]) if inputs and inputs[0].ndim else 1
        if rows == options.lost_at:
            self._lost = True
        if self._lost:
            raise DoubleLost("the double is broken since a batch that its setting names")
        if options.oom_above and rows > options.oom_above:
            raise DoubleOutOfMemory(f"{rows} rows do not fit: the setting says {options.oom_above}")
        due = time.perf_counter() + options.batch_s + rows * options.row_s
        results = self.program(inputs)
        if (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        return results


class HostLane:
    """See `serving.runtime.streams.Lane`."""

    def __init__(self, device: HostAccelerator) -> None:
        self._device = device
        self._last: _Task | None = None

    @contextmanager
    def work(self) -> Iterator[None]:
        """See `Lane.work`."""
        yield

    def upload(self, host: Array, into: _Cell | None = None) -> _Cell:
        """See `Lane.upload`."""
        cell = into or _Cell()

        def copy() -> None:
            if into is None:
                cell.value = host.copy()
            elif into.value.shape == host.shape:
                into.value[...] = host
            else:
                into.value[: len(host)] = host
                into.value[len(host) :] = host[-1:]

        self._issue(self._device.copy_in, copy, delayed=True)
        return cell

    def compute(self, inputs: Sequence[_Cell]) -> list[_Cell]:
        """See `Lane.compute`."""
        cells = [_Cell() for _ in range(self._device.outputs)]

        def run() -> None:
            for cell, result in zip(cells, self._device.run([c.value for c in inputs]), strict=True):
                cell.value = result

        self._issue(self._device.compute, run)
        return cells

    def capture(self, inputs: Sequence[_Cell]) -> HostGraph:
        """See `Lane.capture`."""
        self.finish()
        static = [_Cell() for _ in inputs]
        for cell, given in zip(static, inputs, strict=True):
            cell.value = given.value.copy()
        outputs = self.compute(static)
        self.finish()
        for cell in outputs:
            cell.value = np.array(cell.value)  # memory of its own, which replays write into
        return HostGraph(static, outputs)

    def replay(self, graph: HostGraph) -> list[_Cell]:
        """See `Lane.replay`."""

        def run() -> None:
            results = self._device.run([c.value for c in graph.inputs])
            for cell, result in zip(graph.outputs, results, strict=True):
                cell.value[...] = result

        self._issue(self._device.compute, run)
        return graph.outputs

    def download(self, tensor: _Cell, rows: int | None) -> _Cell:
        """See `Lane.download`."""
        cell = _Cell()

        def copy() -> None:
            cell.value = np.array(tensor.value if rows is None else tensor.value[:rows], order="C")

        self._issue(self._device.copy_out, copy, delayed=True)
        return cell

    def finish(self) -> None:
        """See `Lane.finish`."""
        last, self._last = self._last, None
        if last is None:
            return
        last.done.wait()
        if last.error is not None:
            raise last.error

    def array(self, download: _Cell) -> Array:
        """See `Lane.array`."""
        return download.value

    def close(self) -> None:
        """See `Lane.close`."""
        self._last = None

    def _issue(self, engine: _Engine, work: Callable[[], None], *, delayed: bool = False) -> None:
        delay = self._device.delay if delayed else None

        def run() -> None:
            if delay is not None:
                delay()
            work()

        self._last = task = _Task(run, self._last)
        engine.submit(task)
