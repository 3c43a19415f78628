"""Room for a version is asked for before its load, and what an unload gives back is measured."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.admission import admit
from export.contracts.manifest import Manifest
from export.contracts.signature import Signature
from serving.loading import load_version
from serving.options import RuntimeOptions, ServingOptions
from serving.runtime import memory
from serving.runtime.loader import load_runtime, needs
from serving.runtime.memory import CudaGauge, HostGauge, MemoryBudget, MemoryRefused, Reading
from tests.support import packages as p

MIB = 1 << 20
MANIFEST = p.manifest_for(p.DIGITS_SIGNATURE, name="m")


class Pretended:
    """A device whose memory a test sets."""

    def __init__(self, total: int, used: int = 0) -> None:
        self.total, self.used = total, used

    def read(self) -> Reading:
        return Reading(self.total, self.total - self.used, self.used)

    def trim(self) -> None:
        pass


class Loaded:
    """Something that holds memory of a pretended device until it is closed."""

    kind, device, provider, fallback, healthy, concurrency = "onnx", "cuda:0", "none", False, True, 1

    def __init__(self, gauge: Pretended, size: int, keeps: int = 0) -> None:
        self.gauge, self.size, self.keeps = gauge, size, keeps
        gauge.used += size

    def close(self) -> None:
        self.gauge.used -= self.size - self.keeps

    def buffer(self, index: int, shape: tuple[int, ...]) -> None:
        return None

    def run(self, inputs: Any, outputs: Any) -> Any:
        raise NotImplementedError


def budget(gauge: Pretended, **options: Any) -> MemoryBudget:
    return MemoryBudget(RuntimeOptions(**options), lambda device: gauge)


def load(budget: MemoryBudget, gauge: Pretended, weights: int, takes: int, model: str = "m", keeps: int = 0) -> Loaded:
    with budget.claim(replace(MANIFEST, name=model), weights, "cuda:0") as claim:
        loaded = Loaded(gauge, takes, keeps)
        budget.keep(claim, loaded)  # type: ignore[arg-type]
    return loaded


def test_versions_fit_until_the_budget_is_spent_and_again_after_an_unload() -> None:
    gauge = Pretended(80 << 30)
    room = budget(gauge, memory_bytes=4 << 30)
    kept = [load(room, gauge, weights=1 << 30, takes=2 << 30) for _ in range(2)]
    with pytest.raises(MemoryRefused, match=r"needs about 2\.00 GiB, and 4\.00 GiB of the 4\.00 GiB of"):
        load(room, gauge, weights=1 << 30, takes=2 << 30)
    freed = room.close(kept.pop())  # type: ignore[arg-type]
    assert freed == {"memory_freed_bytes": 2 << 30, "memory_bytes": 2 << 30}
    kept.append(load(room, gauge, weights=1 << 30, takes=2 << 30))


def test_a_version_that_takes_more_than_estimated_is_refused_after_the_load() -> None:
    gauge = Pretended(80 << 30)
    room = budget(gauge, memory_bytes=4 << 30)
    with pytest.raises(MemoryRefused, match=r"took 5\.00 GiB"):
        load(room, gauge, weights=100 * MIB, takes=5 << 30)


def test_a_version_that_would_fill_the_device_is_refused_before_it_is_loaded() -> None:
    gauge = Pretended(10 << 30, used=8 << 30)
    room = budget(gauge, memory_fraction=0.9)
    with pytest.raises(MemoryRefused, match=r"2\.00 GiB of 10\.00 GiB are free, of which 1\.00 GiB stay free"):
        load(room, gauge, weights=1 << 30, takes=1 << 30)
    assert gauge.used == 8 << 30


def test_a_second_load_sees_the_claim_of_the_first_that_is_still_loading() -> None:
    gauge = Pretended(80 << 30)
    room = budget(gauge, memory_bytes=4 << 30)
    with room.claim(MANIFEST, 1 << 30, "cuda:0"), pytest.raises(MemoryRefused):  # noqa: SIM117 # the inner one raises
        with room.claim(MANIFEST, 2 << 30, "cuda:0"):
            pass
    with room.claim(MANIFEST, 2 << 30, "cuda:0"):
        pass


def test_the_estimate_of_a_next_version_is_what_the_last_one_took() -> None:
    gauge = Pretended(80 << 30)
    room = budget(gauge)
    kept = [load(room, gauge, weights=1 << 30, takes=5 << 30)]
    with room.claim(MANIFEST, 1 << 30, "cuda:0") as same, room.claim(MANIFEST, 2 << 30, "cuda:0") as twice:
        assert same.estimate == 5 << 30
        assert twice.estimate == 10 << 30
    with room.claim(replace(MANIFEST, name="other"), 1 << 30, "cuda:0") as other:
        assert other.estimate == int(1.5 * (1 << 30))
    kept.append(load(room, gauge, weights=1000, takes=200 * MIB, model="tiny"))
    with room.claim(replace(MANIFEST, name="tiny"), 100 * MIB, "cuda:0") as grown:
        assert grown.estimate == 200 * MIB, "tiny weights say nothing about what large ones take"


def test_an_unload_that_gives_nothing_back_says_so(caplog: pytest.LogCaptureFixture) -> None:
    gauge = Pretended(80 << 30)
    room = budget(gauge)
    loaded = load(room, gauge, weights=1 << 30, takes=2 << 30, keeps=(2 << 30) - MIB)
    assert room.close(loaded)["memory_freed_bytes"] == MIB  # type: ignore[arg-type]
    assert "gave 0.00 GiB back, of 2.00 GiB" in caplog.text


def test_the_process_s_own_memory_comes_back_after_a_real_unload(tmp_path: Path) -> None:
    """64 MiB of weights: loaded, run, closed, and given back to the system.

    In a process of its own: one that has had tests before fills the holes that they left.
    """
    code = f"from tests.serving.runtime.test_memory import load_and_unload as f; f({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True, timeout=120)


def load_and_unload(folder: str) -> None:
    """What the process does."""
    tmp_path = Path(folder)
    package = p.slow_package(tmp_path, width=2048, layers=5)
    options = RuntimeOptions(device="cpu")
    room = MemoryBudget(options)
    size, device = needs(package.manifest, options)
    assert size > 60 * MIB
    with room.claim(package.manifest, size, device) as claim:
        runtime = load_runtime(package.dir, package.manifest, options)
        runtime.run([np.zeros((4, 64), np.float32)], (0,))
        facts = room.keep(claim, runtime)
    assert int(facts["memory_bytes"] or 0) > 50 * MIB
    freed = int(room.close(runtime)["memory_freed_bytes"] or 0)
    assert freed > 40 * MIB


def test_needs_are_those_of_the_runtime_that_is_chosen(tmp_path: Path) -> None:
    package = p.torchscript_package(tmp_path)
    sizes = {
        kind: needs(package.manifest, RuntimeOptions(device="cpu", prefer=(kind,)))[0]
        for kind in ("onnx", "torchscript")
    }
    files = {f.path: f.size_bytes for f in package.manifest.files}
    assert sizes == {"onnx": files["model.onnx"], "torchscript": files["model.pt"]}


def test_a_load_that_does_not_fit_is_refused_before_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = p.slow_package(tmp_path, width=1024, layers=3)
    options = ServingOptions(registry="", records="", runtime=RuntimeOptions(device="cpu", memory_bytes=MIB))

    def never(*_: Any) -> None:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr("serving.loading.try_load", never)
    with pytest.raises(MemoryRefused, match=r"runtime\.memory_bytes"):
        load_version(package, options, admit)


# ---- gauges


def test_the_host_gauge_reads_the_kernel_and_a_cgroup_limit(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    cgroup.mkdir()
    (proc / "meminfo").write_text("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\nHugePages_Total: 0\n")
    (proc / "self" / "statm").write_text("100 7 3 1 0 9 0\n")
    gauge = HostGauge(proc, cgroup)
    assert gauge.read() == Reading(1000 * 1024, 600 * 1024, 7 * 4096)
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("5\n")
    assert gauge.read().free == 600 * 1024
    (cgroup / "memory.max").write_text("409600\n")
    (cgroup / "memory.current").write_text("309600\n")
    assert gauge.read() == Reading(409600, 100000, 7 * 4096)


def test_the_host_gauge_of_this_machine_is_plausible() -> None:
    reading = HostGauge().read()
    assert 0 < reading.used < reading.total
    assert 0 < reading.free <= reading.total
    HostGauge().trim()


class Driver:
    """`libcuda.so.1` with a device of 80 GiB."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.calls = fails, []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "cuMemGetInfo_v2":
                ctypes.cast(arguments[0], ctypes.POINTER(ctypes.c_size_t))[0] = 30 << 30
                ctypes.cast(arguments[1], ctypes.POINTER(ctypes.c_size_t))[0] = 80 << 30
            return 100 if name == self.fails else 0

        return call


def test_the_cuda_gauge_asks_the_driver_in_the_devices_own_context() -> None:
    driver = Driver()
    assert CudaGauge(1, driver).read() == Reading(80 << 30, 30 << 30, 50 << 30)
    assert driver.calls[-3:] == ["cuCtxPushCurrent_v2", "cuMemGetInfo_v2", "cuCtxPopCurrent_v2"]
    with pytest.raises(OSError, match="cuInit returned 100"):
        CudaGauge(0, Driver(fails="cuInit"))
    failing = Driver(fails="cuMemGetInfo_v2")
    with pytest.raises(OSError, match="cuMemGetInfo_v2"):
        CudaGauge(0, failing).read()
    assert failing.calls[-1] == "cuCtxPopCurrent_v2"


def test_without_a_driver_the_budget_looks_at_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(index: int) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(memory, "CudaGauge", none)
    room = MemoryBudget(RuntimeOptions())
    with room.claim(manifest(p.DIGITS_SIGNATURE), 10, "cuda:0") as claim:
        assert claim.before > 0


def manifest(signature: Signature) -> Manifest:
    return p.manifest_for(signature, name="m")
