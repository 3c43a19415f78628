"""Memory of the device that versions are loaded on: is there room for one more, and did an unload give it back.

A load that would not fit is refused before it begins, with the numbers: the versions that answer keep what they have.
Estimates come from the size of the weights, and, once a version of the model has been loaded here, from what that one
took. The CPU's memory is the process's resident set and what the machine (or its cgroup) has available; a CUDA device's
is what its driver says, other processes included.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from export.contracts.manifest import Manifest
from serving.options import RuntimeOptions
from serving.runtime.base import Fact, LoadFailed, Runtime

_log = logging.getLogger("hardcase.runtime.memory")
_FIRST_FACTOR = 1.5  # of the weights' size: weights, converted weights or packed copies of some, a batch's activations
_TELLING_BYTES = 16 << 20  # smaller weights say nothing about what larger ones will take
_BASE_BYTES = {"cpu": 32 << 20, "cuda": 640 << 20}  # sessions and threads; on CUDA the context and its libraries
_GIB = 1 << 30
_PAGE_BYTES = 4096


class MemoryRefused(LoadFailed):
    """There is no room for the version: unload another, use a smaller batch, or raise the budget in the settings."""

    code = "memory_refused"


@dataclass(frozen=True, slots=True)
class Reading:
    """A look at a device's memory, in bytes.

    Attributes:
        total: What there is.
        free: What this process could still take.
        used: What is taken: of the CPU by this process, of a CUDA device by everybody.
    """

    total: int
    free: int
    used: int


class Gauge(Protocol):
    """Reads a device's memory."""

    def read(self) -> Reading:
        """Look now."""
        ...

    def trim(self) -> None:
        """Give what was freed back to the system, where that needs asking."""
        ...


class HostGauge:
    """The CPU's memory.

    Args:
        proc: Where the kernel tells of processes.
        cgroup: Where it tells of this process's group; a limit there counts as the machine's.
    """

    def __init__(self, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._cgroup = cgroup

    def read(self) -> Reading:
        """See `Gauge.read`."""
        lines = dict(line.split(":", 1) for line in (self._proc / "meminfo").read_text().splitlines() if ":" in line)
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        pages = int((self._proc / "self" / "statm").read_text().split()[1])
        with contextlib.suppress(OSError, ValueError):  # no cgroup, or "max": no limit
            limit = int((self._cgroup / "memory.max").read_text())
            taken = int((self._cgroup / "memory.current").read_text())
            total, free = min(total, limit), min(free, limit - taken)
        return Reading(total, max(0, free), pages * _PAGE_BYTES)

    def trim(self) -> None:
        """See `Gauge.trim`: glibc keeps freed memory until it is told."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class CudaGauge:
    """A CUDA device's memory, as its driver tells it.

    Args:
        index: The device.
        driver: Another library than the installed `libcuda.so.1`, for tests.

    Raises:
        OSError: no driver, or it refuses.
    """

    def __init__(self, index: int, driver: Any = None) -> None:
        self._driver = driver or ctypes.CDLL("libcuda.so.1")
        self._context = ctypes.c_void_p()
        device = ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), index)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def read(self) -> Reading:
        """See `Gauge.read`."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        return Reading(total.value, free.value, total.value - free.value)

    def trim(self) -> None:
        """See `Gauge.trim`: the runtimes give their caches back as they close."""

    def _call(self, name: str, *arguments: Any) -> None:
        result = getattr(self._driver, name)(*arguments)
        if result:
            raise OSError(f"{name} returned {result}")


def gauge_of(device: str) -> Gauge:
    """The gauge of a device by its name: "cuda:N", and the CPU's for every other."""
    if device.startswith("cuda:"):
        return CudaGauge(int(device.removeprefix("cuda:")))
    return HostGauge()


@dataclass(slots=True)
class Claim:
    """Room for a version that is being loaded.

    Attributes:
        device: Where.
        model: Whose it is.
        weights: Size of its weights, bytes.
        estimate: What it will take, as far as is known.
    """

    device: str
    model: str
    weights: int
    estimate: int
    before: int


class MemoryBudget:
    """Who has claimed how much in this process. One a process; its methods may be called from any thread.

    Args:
        options: `memory_bytes` and `memory_fraction`.
        gauge: Makes the gauge of a device, by its name.
    """

    def __init__(self, options: RuntimeOptions, gauge: Callable[[str], Gauge] = gauge_of) -> None:
        self._budget = options.memory_bytes
        self._fraction = options.memory_fraction
        self._gauge = gauge
        self._gauges: dict[str, Gauge] = {}
        self._claims: list[Claim] = []
        self._held: weakref.WeakKeyDictionary[Runtime, tuple[str, int]] = weakref.WeakKeyDictionary()
        self._taken: dict[str, tuple[int, int]] = {}  # model → weights and bytes taken of its last version, measured
        self._lock = threading.Lock()

    @contextmanager
    def claim(self, manifest: Manifest, weights: int, device: str) -> Iterator[Claim]:
        """Hold room for a version while it is tried, loaded and proved.

        Args:
            manifest: The version's.
            weights: Size of its weights, bytes.
            device: Where it will run, by name.

        Raises:
            MemoryRefused: there is none; says what is missing.
        """
        with self._lock:
            reading = self._look(device)
            claim = Claim(device, manifest.name, weights, self._estimate(manifest.name, weights, device), reading.used)
            self._check(claim, reading)
            self._claims.append(claim)
        try:
            yield claim
        finally:
            with self._lock:
                self._claims.remove(claim)

    def keep(self, claim: Claim, runtime: Runtime) -> dict[str, Fact]:
        """Note what a loaded and proved version really took, for as long as its runtime exists.

        Returns:
            What the record log says about it.

        Raises:
            MemoryRefused: it took more than the budget has. The runtime is for the caller to close.
        """
        with self._lock:
            took = max(0, self._look(claim.device).used - claim.before)
            held = sum(size for where, size in self._held.values() if where == claim.device)
            if self._budget and held + took > self._budget:
                raise MemoryRefused(
                    f"the version took {_gib(took)}, and {_gib(held)} of the {_gib(self._budget)} of "
                    "runtime.memory_bytes are taken"
                )
            self._held[runtime] = (claim.device, took)
            self._taken[claim.model] = (claim.weights, took)
        return {"memory_bytes": took, "memory_estimate_bytes": claim.estimate}

    def close(self, runtime: Runtime) -> dict[str, Fact]:
        """Close a runtime and see what came back. Blocking: not for the event loop.

        Returns:
            `memory_freed_bytes` as measured, beside what the version had taken. Less is no leak by itself: allocators
            keep memory that the next version uses. But it is said, so that nobody counts on what is not there.
        """
        device, took = self._held.pop(runtime, (runtime.device, 0))
        gauge = self._gauge_of(device)
        before = gauge.read().used
        runtime.close()
        gauge.trim()
        freed = before - gauge.read().used
        if took > _BASE_BYTES["cpu"] and freed < took // 2:
            _log.warning("an unload gave %s back, of %s that the load had taken", _gib(freed), _gib(took))
        return {"memory_freed_bytes": freed, "memory_bytes": took}

    def _estimate(self, model: str, weights: int, device: str) -> int:
        first = int(weights * _FIRST_FACTOR)
        if model in self._taken:
            earlier, took = self._taken[model]
            return max(first, took * max(earlier, weights) // earlier) if earlier > _TELLING_BYTES else max(first, took)
        alone = all(where != device for where, _ in self._held.values())
        return first + (_BASE_BYTES["cuda" if device.startswith("cuda") else "cpu"] if alone else 0)

    def _check(self, claim: Claim, reading: Reading) -> None:
        pending = sum(c.estimate for c in self._claims if c.device == claim.device)
        held = sum(size for where, size in self._held.values() if where == claim.device)
        if self._budget and held + pending + claim.estimate > self._budget:
            raise MemoryRefused(
                f"the version needs about {_gib(claim.estimate)}, and {_gib(held + pending)} of the "
                f"{_gib(self._budget)} of runtime.memory_bytes are taken"
            )
        spare = int(reading.total * (1 - self._fraction))
        if reading.free - pending - claim.estimate < spare:
            raise MemoryRefused(
                f"the version needs about {_gib(claim.estimate)}, and {_gib(reading.free - pending)} of "
                f"{_gib(reading.total)} are free, of which {_gib(spare)} stay free (runtime.memory_fraction)"
            )

    def _look(self, device: str) -> Reading:
        return self._gauge_of(device).read()

    def _gauge_of(self, device: str) -> Gauge:
        gauge = self._gauges.get(device)
        if gauge is None:
            try:
                gauge = self._gauge(device)
            except OSError:  # no driver: the load itself says so, or falls back to the CPU
                gauge = HostGauge()
            self._gauges[device] = gauge
        return gauge


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f} GiB"
