"""Reused host memory that a batch's inputs are gathered into: page-locked where the device copies from it.

A buffer that is handed out may outlive its batch: the record log keeps input arrays until its thread has written them.
So a block is used again only when nobody holds the array of its last use, nor anything made from that array (slices,
views, Arrow buffers). Python's reference counts say so by themselves: the arena keeps a weak reference to each array.
When every block is held, the caller gets None and takes ordinary memory: page-locked memory stays bounded, and no
record is ever overwritten.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serving.runtime.base import Array

Allocate = Callable[[int], Array]
"""Takes a size in bytes, returns that much writable memory as a uint8 array; page-locked where that matters."""

_GRAIN_BYTES = 4096


class _Block:
    """One piece of memory, and who uses it."""

    __slots__ = ("address", "memory", "user")

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.address: int = memory.__array_interface__["data"][0]
        self.user: weakref.ref[Array] | None = None

    @property
    def free(self) -> bool:
        return self.user is None or self.user() is None

    def lend(self, size_bytes: int) -> Array:
        """A fresh uint8 array of the block's first bytes.

        Its base is a memoryview, not an array: numpy makes every array that is derived from it refer to it and not to
        what is below it, so that it lives as long as the last of them.
        """
        array: Array = np.frombuffer(self.memory.data, dtype=np.uint8, count=size_bytes)
        self.user = weakref.ref(array)
        return array


class Arena:
    """Blocks of host memory by slot (one slot an input).

    Args:
        allocate: Makes a block's memory.
        blocks: How many blocks a slot may have.
        total_bytes: All blocks together; what would pass it is the caller's business.

    Example:
        >>> arena = Arena(lambda size: np.empty(size, np.uint8), blocks=1, total_bytes=1 << 20)
        >>> first = arena.array(0, (2, 3), np.dtype("f4"))
        >>> first.shape, arena.array(0, (2, 3), np.dtype("f4")) is None
        ((2, 3), True)
        >>> del first
        >>> arena.array(0, (4, 3), np.dtype("f4")).shape
        (4, 3)
    """

    def __init__(self, allocate: Allocate, *, blocks: int, total_bytes: int) -> None:
        self._allocate = allocate
        self._blocks = blocks
        self._total = total_bytes
        self._slots: dict[int, list[_Block]] = {}
        self._addresses: list[tuple[int, int]] = []  # start and end of every block, in order
        self._lock = threading.Lock()
        self.refused = 0  # how often a slot had no free block

    def array(self, slot: int, shape: Sequence[int], dtype: np.dtype[Any]) -> Array | None:
        """Uninitialised memory as an array of this shape; None when there is none to lend.

        Args:
            slot: The input's index.
            shape: Its shape in the batch that is about to run.
            dtype: Its numpy dtype, not object.
        """
        size = dtype.itemsize
        for n in shape:
            size *= n
        if not 0 < size <= self._total:
            return None
        with self._lock:
            block = self._find(slot, size)
            raw = block.lend(size) if block is not None else None
        return raw.view(dtype).reshape(shape) if raw is not None else None

    def holds(self, array: Array) -> bool:
        """Whether the array's bytes lie in one of the blocks, so that the device may copy from them directly."""
        start: int = array.__array_interface__["data"][0]
        ranges = self._addresses
        at = bisect_right(ranges, (start, 1 << 63)) - 1
        return at >= 0 and start + array.nbytes <= ranges[at][1]

    @property
    def bytes(self) -> int:
        """Memory of all blocks."""
        return sum(block.memory.nbytes for kept in self._slots.values() for block in kept)

    def close(self) -> None:
        """Forget the blocks; what is still lent lives on until its holder drops it."""
        with self._lock:
            self._slots.clear()
            self._addresses = []

    def _find(self, slot: int, size: int) -> _Block | None:
        """A free block of at least `size` bytes: the smallest that fits, else a new one in the place of a smaller."""
        blocks = self._slots.setdefault(slot, [])
        free = [b for b in blocks if b.free]
        fitting = [b for b in free if b.memory.nbytes >= size]
        if fitting:
            return min(fitting, key=lambda b: b.memory.nbytes)
        # Powers of two, so that a growing load replaces its blocks a few times and not with every batch.
        wanted = min(self._total, max(_GRAIN_BYTES, 1 << (size - 1).bit_length()))
        while free and not self._room(blocks, wanted):
            blocks.remove(free.pop())  # too small, and in the way
        if not self._room(blocks, wanted):
            self.refused += 1
            self._index()
            return None
        made = _Block(self._allocate(wanted))
        blocks.append(made)
        self._index()
        return made

    def _room(self, blocks: list[_Block], wanted: int) -> bool:
        return len(blocks) < self._blocks and self.bytes + wanted <= self._total

    def _index(self) -> None:
        every = [b for kept in self._slots.values() for b in kept]
        self._addresses = sorted((b.address, b.address + b.memory.nbytes) for b in every)
