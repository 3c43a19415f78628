"""Page-locked host memory from the CUDA driver itself, so that a process without torch has it, too."""

from __future__ import annotations

import ctypes
import logging
import weakref
from typing import Any

import numpy as np

from serving.runtime.arena import Allocate
from serving.runtime.base import Array

_log = logging.getLogger("hardcase.runtime")
_PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE: page-locked for every context of the process


def page_locked(index: int, driver: Any = None) -> Allocate:
    """An allocator of memory that a CUDA device copies from and to by itself; ordinary memory where that fails.

    Ordinary memory is correct, too: the driver then copies it through a buffer of its own, and the copy overlaps with
    nothing.

    Args:
        index: The CUDA device.
        driver: Another library than the installed `libcuda.so.1`, for tests.
    """
    try:
        return _PageLocked(driver or ctypes.CDLL("libcuda.so.1"), index).allocate
    except OSError as error:
        _log.warning("no page-locked memory, copies will not overlap: %s", error)
        return _ordinary


def _ordinary(size_bytes: int) -> Array:
    return np.empty(size_bytes, dtype=np.uint8)


class _PageLocked:
    """Allocations in a device's primary context, which torch and ONNX Runtime use as well.

    Raises:
        OSError: the driver refuses.
    """

    def __init__(self, driver: Any, index: int) -> None:
        self._driver = driver
        self._context = ctypes.c_void_p()
        device = ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), index)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def allocate(self, size_bytes: int) -> Array:
        """`size_bytes` of memory, freed when nobody refers to it any more."""
        address = ctypes.c_void_p()
        try:
            self._in_context("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size_bytes), _PORTABLE)
        except OSError as error:
            _log.warning("no page-locked memory for a buffer of %d bytes: %s", size_bytes, error)
            return _ordinary(size_bytes)
        memory = (ctypes.c_uint8 * size_bytes).from_address(address.value or 0)
        # At exit the driver may be gone before us; it takes the memory back by itself.
        weakref.finalize(memory, self._free, address.value or 0).atexit = False
        array: Array = np.frombuffer(memoryview(memory), dtype=np.uint8)
        return array

    def _free(self, address: int) -> None:
        try:
            self._in_context("cuMemFreeHost", ctypes.c_void_p(address))
        except OSError as error:  # in a finalizer nobody could catch it
            _log.warning("page-locked memory was not given back: %s", error)

    def _in_context(self, name: str, *arguments: Any) -> None:
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            self._call(name, *arguments)
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: Any) -> None:
        result = getattr(self._driver, name)(*arguments)
        if result:
            raise OSError(f"{name} returned {result}")
