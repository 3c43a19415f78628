"""The writer's side of one segment file: append whole frames or nothing, sync, seal."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from monitoring.records.frames import (
    MAGIC,
    Buffer,
    Kind,
    SegmentFooter,
    SegmentHeader,
    chain_of,
    encode_json,
    pack,
    seed_of,
    segment_path,
)
from monitoring.records.record import DropReason

AppendedFrame: TypeAlias = tuple[Kind, int, int, Sequence[Buffer]]

_WRITEV_BUFFERS = 512


class SegmentError(Exception):
    """The operating system refused. `reason` is what to count the records under."""

    def __init__(self, reason: DropReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def reason_of(error: OSError) -> DropReason:
    """Which drop reason an error of the operating system means."""
    return DropReason.DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else DropReason.WRITE_ERROR


class Segment:
    """An open segment.

    Attributes:
        size: Bytes of whole frames; the file is never longer, unless `broken`.
        frames: Frames appended, the header included.
        sequence: Sequence number of the last data frame.
        chain: CRC chain over all frames.
        broken: The file could not be cut back after a failed write: nothing may be appended any more.
        schemas: Ids of the Arrow schemas that stand in this segment, by the identity of their layout, which is kept
            alive so that its identity stays its own.
        opened_s: Monotonic time at which it was made.
    """

    def __init__(self, directory: Path, header: SegmentHeader, *, now_s: float) -> None:
        self.header = header
        self.number = header.segment
        self.path = segment_path(directory, header.segment)
        self.size = 0
        self.frames = 0
        self.sequence = header.previous_sequence
        self.chain = 0
        self.broken = False
        self.schemas: dict[int, tuple[int, object]] = {}
        self.opened_s = now_s
        self._seed = seed_of(header.incarnation, header.segment)
        try:
            self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        except OSError as error:
            raise SegmentError(reason_of(error)) from error

    def schema_id(self, layout: object) -> int:
        """The id of a layout's schema frame in this segment, or the one that it would get."""
        known = self.schemas.get(id(layout))
        return known[0] if known else len(self.schemas)

    def append(self, frames: Sequence[AppendedFrame]) -> int:
        """Append frames (kind, sequence, records, payload) in one go.

        Returns:
            Bytes by which the file grew.

        Raises:
            SegmentError: nothing was appended.
        """
        if not self.size:
            first = (Kind.SEGMENT, self.sequence, 0, [encode_json(self.header)])
            frames = [first, *frames]
        buffers: list[Buffer] = [] if self.size else [MAGIC]
        total = 0 if self.size else len(MAGIC)
        chain = self.chain
        for kind, sequence, count, payload in frames:
            packed, length, crc = pack(kind=kind, sequence=sequence, count=count, payload=payload, seed=self._seed)
            buffers += packed
            total += length
            chain = chain_of(chain, crc)
        self._write(buffers, total)
        self.size += total
        self.frames += len(frames)
        self.chain = chain
        self.sequence = frames[-1][1]
        return total

    def _write(self, buffers: list[Buffer], total: int) -> None:
        left = [memoryview(b) for b in buffers if len(b)]
        written = 0
        try:
            while written < total:
                n = os.writev(self.fd, left[:_WRITEV_BUFFERS])
                written += n
                while left and n >= len(left[0]):
                    n -= len(left.pop(0))
                if n:
                    left[0] = left[0][n:]
                if left:
                    time.sleep(0)
        except OSError as error:
            self._cut()
            raise SegmentError(reason_of(error)) from error

    def _cut(self) -> None:
        """Take a torn frame off the end."""
        try:
            os.ftruncate(self.fd, self.size)
            os.lseek(self.fd, self.size, os.SEEK_SET)
        except OSError:
            self.broken = True

    def footer(self) -> None:
        """Append the footer.

        Raises:
            SegmentError: it was not appended; the segment is readable all the same.
        """
        payload = encode_json(SegmentFooter(frames=self.frames, sequence=self.sequence, chain=self.chain))
        self.append([(Kind.FOOTER, self.sequence, 0, [payload])])

    def sync(self) -> None:
        """Force the bytes to the disk.

        Raises:
            SegmentError: the kernel may have thrown the bytes away. Never call `sync` again on this segment.
        """
        try:
            os.fdatasync(self.fd)
        except OSError as error:
            raise SegmentError(reason_of(error)) from error

    def abandon(self, *, size: int, frames: int, sequence: int, chain: int) -> None:
        """Go back to an earlier end, after which nothing counts; close the file."""
        self.size, self.frames, self.sequence, self.chain = size, frames, sequence, chain
        self._cut()
        self.broken = True
        os.close(self.fd)


def sync_directory(path: Path) -> None:
    """Force a folder's entries to the disk.

    Raises:
        OSError: they may be lost with the power.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
