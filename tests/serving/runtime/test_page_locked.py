"""Page-locked memory from the driver: right calls, freed when nobody refers to it, ordinary memory where it fails."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest

from serving.runtime.arena import Arena
from serving.runtime.page_locked import page_locked


class Driver:
    """`libcuda.so.1` that hands out ordinary memory."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == self.fails:
                return 2
            if name == "cuMemHostAlloc":
                made = ctypes.create_string_buffer(arguments[1].value)
                address = ctypes.addressof(made)
                self.memory[address] = made
                ctypes.cast(arguments[0], ctypes.POINTER(ctypes.c_void_p))[0] = address
                assert arguments[2] == 1
            elif name == "cuMemFreeHost":
                del self.memory[arguments[0].value]
            return 0

        return call


def test_memory_is_freed_when_the_last_array_is_gone() -> None:
    driver = Driver()
    allocate = page_locked(0, driver)
    array = allocate(1000)
    assert array.nbytes == 1000
    assert array.flags.writeable
    array[:] = 3
    part = array[10:20].view(np.uint16)
    del array
    gc.collect()
    assert len(driver.memory) == 1
    np.testing.assert_array_equal(part, 0x0303)
    del part
    gc.collect()
    assert driver.memory == {}
    assert driver.calls.count("cuCtxPushCurrent_v2") == driver.calls.count("cuCtxPopCurrent_v2") == 2


def test_an_arena_of_it_gives_it_all_back() -> None:
    driver = Driver()
    arena = Arena(page_locked(0, driver), blocks=2, total_bytes=1 << 20)
    kept = [arena.array(0, (100,), np.dtype("f4")) for _ in range(2)]
    assert len(driver.memory) == 2
    arena.close()
    gc.collect()
    assert len(driver.memory) == 2
    kept.clear()
    gc.collect()
    assert driver.memory == {}


@pytest.mark.parametrize("fails", ["cuInit", "cuDevicePrimaryCtxRetain", "cuMemHostAlloc"])
def test_where_the_driver_refuses_memory_is_ordinary_and_the_log_says_so(
    fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    array = page_locked(0, Driver(fails=fails))(64)
    array[:] = 1
    assert array.sum() == 64
    assert f"{fails} returned 2" in caplog.text
