"""`torch` with a CUDA that is the CPU: what `serving.runtime.torch_streams` calls, in order, with the real tensors.

It runs everything at once, so it shows wrong results and wrong calls; hazards of asynchrony are the double's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


class FakeCuda:
    """Stands for `torch.cuda`; `calls` is what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.capturing: FakeGraph | None = None
        self.current: FakeStream | None = None
        self.reserved = 0
        self.fail_capture = False
        self.streams = 0

    def Stream(self, device: Any) -> FakeStream:
        self.streams += 1
        return FakeStream(self, f"s{self.streams}")

    def Event(self, blocking: bool = False) -> FakeEvent:
        return FakeEvent(self, blocking)

    def CUDAGraph(self) -> FakeGraph:
        return FakeGraph(self)

    def graph_pool_handle(self) -> tuple[int, int]:
        self.calls.append("pool")
        return (0, 1)

    def memory_reserved(self, device: Any) -> int:
        return self.reserved

    def empty_cache(self) -> None:
        self.calls.append("empty_cache")

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before


class FakeStream:
    """A stream by name."""

    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_event(self, event: FakeEvent) -> None:
        self.cuda.calls.append(f"{self.name} waits for {event.recorded_on}")


class FakeEvent:
    """An event that knows on which stream it was recorded last."""

    def __init__(self, cuda: FakeCuda, blocking: bool) -> None:
        self.cuda, self.blocking, self.recorded_on = cuda, blocking, ""

    def record(self, stream: FakeStream) -> None:
        if self.cuda.capturing is not None:
            raise RuntimeError("an event was recorded inside a capture")
        self.recorded_on = stream.name

    def synchronize(self) -> None:
        if not self.blocking:
            raise RuntimeError("this wait would spin")
        if self.cuda.capturing is not None:
            raise RuntimeError("synchronised inside a capture")
        self.cuda.calls.append(f"host waits for {self.recorded_on}")


class FakeGraph:
    """Replays by computing again into the memory that the capture made."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.work: list[tuple[Callable[[Sequence[Any]], list[Any]], Sequence[Any], list[Any]]] = []

    def capture_begin(self, pool: Any, capture_error_mode: str) -> None:
        if self.cuda.capturing is not None:
            raise RuntimeError("two captures at once")
        self.cuda.calls.append(f"capture {capture_error_mode}")
        self.cuda.capturing = self

    def capture_end(self) -> None:
        self.cuda.capturing = None
        if self.cuda.fail_capture:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    def replay(self) -> None:
        assert self.cuda.current is not None, "a replay outside of a lane's stream"
        self.cuda.calls.append(f"replay on {self.cuda.current.name}")
        for program, inputs, outputs in self.work:
            for target, result in zip(outputs, program(inputs), strict=True):
                target.copy_(result)


class FakeTorch:
    """`torch`, but for `cuda` and page-locked memory."""

    def __init__(self) -> None:
        self.cuda = FakeCuda()

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, *shape: Any, pin_memory: bool = False, **how: Any) -> Any:
        assert pin_memory, "host memory that is not page-locked"
        return torch.empty(*shape, **how)


class FakeProgram:
    """A module's function, which takes part in captures as kernels do."""

    def __init__(self, fake: FakeTorch, program: Callable[[Sequence[Any]], list[Any]]) -> None:
        self.fake, self.program = fake, program
        self.error: Exception | None = None

    def __call__(self, inputs: Sequence[Any], outputs: Sequence[int] | None = None) -> list[Any]:
        assert self.fake.cuda.current is not None, "computed outside of a lane's stream"
        if self.error is not None:
            raise self.error
        results = [t.clone() for t in self.program(inputs)]
        if self.fake.cuda.capturing is not None:
            self.fake.cuda.capturing.work.append((self.program, inputs, results))
        return results
