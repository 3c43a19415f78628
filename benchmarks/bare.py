"""What a runtime does with nothing around it: the loop that a figure of the service is compared with."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.runtime.base import Runtime

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What a loop did.

    Attributes:
        rows_per_s: Over the whole time.
        batch_ms: Median time of a batch.
    """

    rows_per_s: float
    batch_ms: float


def repeat(once: Callable[[], object], rows: int, seconds: float) -> Loop:
    """Call `once` again and again, after a warm-up."""
    for _ in range(5):
        once()
    times, began = [], time.perf_counter()
    while (now := time.perf_counter()) - began < seconds or len(times) < 3:
        once()
        times.append(time.perf_counter() - now)
    spent = time.perf_counter() - began
    return Loop(rows_per_s=len(times) * rows / spent, batch_ms=statistics.median(times) * 1e3)


def bare_torch(path: Path, batch: Array, device: str, seconds: float) -> Loop:
    """TorchScript as one writes it: page-locked input copied in, the module, the answer copied out, wait."""
    import torch

    where = torch.device(device)
    module = torch.jit.freeze(torch.jit.load(str(path), map_location=where).eval())
    host = torch.from_numpy(batch.copy())
    if where.type == "cuda":
        host = host.pin_memory()

    def once() -> None:
        with torch.inference_mode():
            module(host.to(where, non_blocking=True)).cpu()  # `.cpu()` waits

    return repeat(once, len(batch), seconds)


def compute_ms(path: Path, batch: Array, seconds: float) -> float:
    """Milliseconds that a CUDA device computes a batch that is already on it, by its own events."""
    import torch

    module = torch.jit.freeze(torch.jit.load(str(path), map_location="cuda").eval())
    inside = torch.from_numpy(batch.copy()).cuda()
    times, began = [], time.perf_counter()
    with torch.inference_mode():
        for _ in range(5):
            module(inside)
        while time.perf_counter() - began < seconds or len(times) < 3:
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            module(inside)
            last.record()
            last.synchronize()
            times.append(first.elapsed_time(last))
    return statistics.median(times)


def bare_onnx(path: Path, batch: Array, device: str, seconds: float) -> Loop:
    """`InferenceSession.run` as one writes it, on one thread of the CPU or on CUDA."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    provider = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
    session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"ONNX Runtime has no {provider} here")
    name = session.get_inputs()[0].name
    return repeat(lambda: session.run(None, {name: batch}), len(batch), seconds)


def bare_serial(runtime: Runtime, batch: Array, seconds: float) -> Loop:
    """One of our runtimes, one batch after the other."""
    return repeat(lambda: runtime.run([batch], (0,)), len(batch), seconds)


def overlapped(runtime: Runtime, batch: Array, seconds: float) -> Loop:
    """One of our runtimes as serving drives it: gathered into its own memory, from as many threads as it takes."""
    raw = batch.reshape(-1).view(np.uint8)
    times: list[float] = []
    end = 0.0

    def work() -> None:
        while (began := time.perf_counter()) < end:
            host = runtime.buffer(0, batch.shape)
            if host is not None:
                host.reshape(-1).view(np.uint8)[:] = raw
            runtime.run([batch if host is None else host], (0,))
            times.append(time.perf_counter() - began)

    bare_serial(runtime, batch, 0.0)
    began = time.perf_counter()
    end = began + seconds
    threads = [threading.Thread(target=work) for _ in range(runtime.concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    return Loop(rows_per_s=len(times) * len(batch) / spent, batch_ms=statistics.median(times) * 1e3)
