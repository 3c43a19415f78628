"""A timer right to microseconds: event loops round to a millisecond, which is longer than many requests take."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_NON_BLOCKING = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class PreciseTimer:
    """Calls back at a time of `time.monotonic_ns`, through Linux's timerfd.

    Args:
        loop: The running loop.
        callback: Called without arguments, once for each `set`.

    Raises:
        OSError: the kernel has no timer for us.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = int(self._libc.timerfd_create(_CLOCK_MONOTONIC, _NON_BLOCKING))
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = loop
        self._callback = callback
        self._setting = _Setting()
        loop.add_reader(self._descriptor, self._expired)

    def set(self, at_ns: int) -> None:
        """Call back at `at_ns`, or at once when that is past; replaces an earlier `set`."""
        value = self._setting.value
        value.seconds, value.nanoseconds = divmod(max(at_ns, 1), 1_000_000_000)
        self._libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(self._setting), None)

    def close(self) -> None:
        """Never call back again."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _expired(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it was set again between the wake-up and now
            os.read(self._descriptor, 8)
            self._callback()
