"""The counters of a writer, in a memory-mapped file, so that a SIGKILL leaves an exact account.

The file is a header and fixed-size slots, one a (model, version). It grows by whole chunks whose blocks are allocated
first: a store to a mapped page without a block would kill the process when the disk is full.

Each counter has one writing thread (see `Slot`), and each store is one aligned 8-byte store.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import google_crc32c

from monitoring.records.record import DropReason

COUNTERS_FILE = "counters.bin"
_MAGIC = b"HCCOUNT1"
_CHUNK_BYTES = 64 << 10
_SLOT_BYTES = 256
_NAME_BYTES = 64
_IDENTITY = struct.Struct("<8sII24s128s")  # magic, version, slot bytes, incarnation, replica
_GLOBALS_AT = 184  # bytes; 9 u64 up to the first slot
_NAMES = struct.Struct("<IHH64s64s")  # 1 = in use, lengths, model, version
_FIRST_COUNTER = 17  # u64 index inside a slot: byte 136
_REASONS = tuple(DropReason)
_OFFSET_BITS = 40


class Global(IntEnum):
    """Counters of the whole writer, by place."""

    COMMITTED = 0  # segment << 40 | offset: a reader of a live log reads no further
    CLEAN = 1  # 1 once the writer was closed in order
    FEEDBACK = 2  # feedback items written
    FEEDBACK_DROPPED = 3
    EVENTS = 4  # events written
    EVENTS_DROPPED = 5
    POISONED = 6  # segments given up after a failed fsync


@dataclass(frozen=True, kw_only=True, slots=True)
class Accounting:
    """Where the requests of one (model, version) went.

    Attributes:
        captured: Records in the log.
        dropped: Records dropped on purpose, by reason; every reason is present.
        lost_crash: Records that a killed process had not written. Known once the log's writer is dead.
        lost_corrupt: Records that had been written and cannot be read any more. Known once the writer is dead.
    """

    requests: int = 0
    captured: int = 0
    sampled_out: int = 0
    dropped: Mapping[DropReason, int] = field(default_factory=lambda: dict.fromkeys(DropReason, 0))
    lost_crash: int = 0
    lost_corrupt: int = 0

    @property
    def in_flight(self) -> int:
        """Requests not accounted for yet; 0 whenever the log is quiet, and always 0 for a finalised log."""
        gone = self.captured + self.sampled_out + sum(self.dropped.values()) + self.lost_crash + self.lost_corrupt
        return self.requests - gone


class Slot:
    """Counters of one (model, version).

    `received` belongs to the event loop's thread alone, and so does the drop reason BUFFER_FULL; everything else
    belongs to the writer thread. `page[base] += n` on the public attributes is `received(n)` without the call.
    """

    __slots__ = ("base", "key", "page")

    def __init__(self, key: tuple[str, str], page: memoryview, base: int) -> None:
        self.key = key
        self.page = page
        self.base = base

    def received(self, n: int = 1) -> None:
        """Count requests that were accepted or refused. Call it once a request, before its record is offered."""
        self.page[self.base] += n

    def captured(self, n: int) -> None:
        """Count records that the log holds."""
        self.page[self.base + 1] += n

    def sampled_out(self, n: int) -> None:
        """Count records that sampling left out."""
        self.page[self.base + 2] += n

    def dropped(self, reason: DropReason, n: int) -> None:
        """Count records that were dropped."""
        self.page[self.base + 3 + _REASONS.index(reason)] += n

    def accounting(self) -> Accounting:
        """A snapshot."""
        base = self.base
        return _accounting(self.page[base : base + 3 + len(_REASONS)].tolist())

    def detach(self) -> None:
        """Continue on private memory: for a forked child, whose counts must not reach the parent's file."""
        self.page, self.base = memoryview(array("Q", bytes(8 * 16))), 0


def _accounting(values: list[int]) -> Accounting:
    return Accounting(
        requests=values[0],
        captured=values[1],
        sampled_out=values[2],
        dropped=dict(zip(_REASONS, values[3:], strict=True)),
    )


class CounterFile:
    """The writer's side: creates, maps and grows the file. `slot` may be called from any thread.

    Raises:
        OSError: the file cannot be made; growing later never raises (see `slot`).
    """

    def __init__(self, directory: Path, replica: str, incarnation: str) -> None:
        self._fd = os.open(directory / COUNTERS_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        self._lock = threading.Lock()
        self._chunks: list[memoryview] = []
        self._slots: dict[tuple[str, str], Slot] = {}
        self._used = 1  # slot 0 is the header
        first = self._grow()
        identity = _IDENTITY.pack(_MAGIC, 1, _SLOT_BYTES, incarnation.encode(), replica.encode()[:128])
        crc = int(google_crc32c.value(identity))
        first.cast("B")[: len(identity) + 4] = identity + crc.to_bytes(4, "little")
        self.globals = first[_GLOBALS_AT // 8 : _SLOT_BYTES // 8]
        self.overflow = self.slot("", "")

    def _grow(self) -> memoryview:
        offset = len(self._chunks) * _CHUNK_BYTES
        os.posix_fallocate(self._fd, offset, _CHUNK_BYTES)
        os.pwrite(self._fd, bytes(_CHUNK_BYTES), offset)
        chunk = memoryview(mmap.mmap(self._fd, _CHUNK_BYTES, offset=offset)).cast("Q")
        self._chunks.append(chunk)
        return chunk

    def slot(self, model: str, version: str) -> Slot:
        """The slot of a (model, version), made if needed.

        When there is no space for another one, the slot of ("", "") is shared, so that the totals stay exact.
        """
        key = (model, version)
        with self._lock:
            if key not in self._slots:
                self._slots[key] = self._new(key)
            return self._slots[key]

    def _new(self, key: tuple[str, str]) -> Slot:
        names = [name.encode("utf-8", "replace")[:_NAME_BYTES] for name in key]
        per_chunk = _CHUNK_BYTES // _SLOT_BYTES
        if self._used == per_chunk * len(self._chunks):
            try:
                self._grow()
            except OSError:
                return self.overflow
        index, place = divmod(self._used, per_chunk)
        base = place * _SLOT_BYTES // 8
        view = self._chunks[index].cast("B")
        at = base * 8
        # Names first, the mark last: a reader that sees the mark sees the names.
        view[at : at + _NAMES.size] = _NAMES.pack(0, len(names[0]), len(names[1]), *names)
        view[at : at + 4] = (1).to_bytes(4, "little")
        self._used += 1
        return Slot(key, self._chunks[index], base + _FIRST_COUNTER)

    def slots(self) -> tuple[Slot, ...]:
        """Every slot, in the order in which they were made; one that stands in for several is there once."""
        with self._lock:
            return tuple(dict.fromkeys(self._slots.values()))

    def detach(self) -> None:
        """After a fork: leave the file to the parent."""
        for slot in self._slots.values():
            slot.detach()
        self.globals = memoryview(array("Q", bytes(8 * 16)))
        os.close(self._fd)

    def close(self) -> None:
        """Close the descriptor. The mapping stays, because the event loop may still count refusals."""
        os.close(self._fd)


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterSnapshot:
    """What a reader finds in the file."""

    replica: str
    incarnation: str
    globals: tuple[int, ...]
    slots: Mapping[tuple[str, str], Accounting]

    @property
    def committed(self) -> tuple[int, int]:
        """(segment, offset) up to which a live log may be read."""
        value = self.globals[Global.COMMITTED]
        return value >> _OFFSET_BITS, value & ((1 << _OFFSET_BITS) - 1)


def commit_value(segment: int, offset: int) -> int:
    """One word for a place in the log, so that storing it is atomic."""
    return segment << _OFFSET_BITS | offset


def read_counters(directory: Path) -> CounterSnapshot | None:
    """Read the counter file of a log; None when it is missing or damaged."""
    try:
        data = (directory / COUNTERS_FILE).read_bytes()
    except FileNotFoundError:
        return None
    size = _IDENTITY.size
    if len(data) < _SLOT_BYTES or data[size : size + 4] != int(google_crc32c.value(data[:size])).to_bytes(4, "little"):
        return None
    magic, _, slot_bytes, incarnation, replica = _IDENTITY.unpack_from(data)
    if magic != _MAGIC or slot_bytes != _SLOT_BYTES:
        return None
    slots: dict[tuple[str, str], Accounting] = {}
    for at in range(_SLOT_BYTES, len(data) - _SLOT_BYTES + 1, _SLOT_BYTES):
        used, n_model, n_version, model, version = _NAMES.unpack_from(data, at)
        if used != 1:
            break
        values = struct.unpack_from(f"<{3 + len(_REASONS)}Q", data, at + 8 * _FIRST_COUNTER)
        slots[model[:n_model].decode("utf-8", "replace"), version[:n_version].decode("utf-8", "replace")] = _accounting(
            list(values)
        )
    return CounterSnapshot(
        replica=replica.rstrip(b"\0").decode("utf-8", "replace"),
        incarnation=incarnation.rstrip(b"\0").decode("ascii", "replace"),
        globals=struct.unpack_from("<9Q", data, _GLOBALS_AT),
        slots=slots,
    )
