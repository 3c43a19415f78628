"""Walks the frames of one segment, and says which bytes it could not believe.

Nothing that fails its CRC is ever returned. After a bad frame the scan goes on at the next place where a whole frame
verifies with a later sequence number, so that one flipped bit costs one frame.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from monitoring.records.frames import (
    HEADER,
    MAGIC,
    REFERENCE,
    Kind,
    Rewritten,
    SegmentFooter,
    SegmentHeader,
    chain_of,
    crc_of,
    decode_footer,
    decode_header,
    padding,
    seed_of,
    segment_path,
)

_WINDOW_BYTES = 1 << 20
_KINDS = frozenset(int(k) for k in Kind)
_FLAGS = sum(Rewritten)


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A verified frame: `payload` is a view without padding; `end` is the offset behind the frame.

    Attributes:
        crc: What the chain is made of: the CRC with which the frame was first written.
        flags: Of `frames.Rewritten`.
    """

    kind: Kind
    sequence: int
    count: int
    crc: int
    offset: int
    end: int
    payload: memoryview
    flags: int = 0


class DamageKind(StrEnum):
    """Why a part of the log was left out."""

    TORN = "torn"  # the end of the last segment of a killed writer: expected, its records count as lost in the crash
    CHECKSUM = "checksum"  # bytes that do not verify
    MISSING = "missing"  # frames, or whole segments, that are known to have been there
    FOREIGN = "foreign"  # a file that is not the segment its name says
    REPEATED = "repeated"  # a frame that verifies and comes a second time


@dataclass(frozen=True, order=True, slots=True)
class Damage:
    """Bytes of a segment that were left out, or a segment that is missing, and why in words.

    Attributes:
        length: Bytes; 0 when what is missing cannot be measured in bytes.
    """

    segment: int
    offset: int
    length: int
    kind: DamageKind
    reason: str


@dataclass(slots=True)
class SegmentScan:
    """A reader's place in one segment.

    Attributes:
        offset: Where the next frame begins.
        sequence: Last sequence number seen; the frames of a segment start behind the header's `previous_sequence`.
        schemas: Arrow schema messages so far, by schema id.
        header: The segment's header, once read; None when it is damaged or not there yet.
        footer: The segment's footer, once read.
        chain: CRC chain over the frames so far; what the footer and the next header must repeat.
    """

    directory: Path
    number: int
    incarnation: str
    offset: int = 0
    sequence: int = 0
    frames: int = 0
    chain: int = 0
    schemas: dict[int, bytes] = field(default_factory=dict)
    header: SegmentHeader | None = None
    footer: SegmentFooter | None = None
    damages: list[Damage] = field(default_factory=list)
    _fd: int = -1
    _window: bytes = b""
    _window_at: int = 0
    _limit: int = 0

    def open(self) -> bool:
        """Open the file; False when there is none."""
        if self._fd < 0:
            try:
                self._fd = os.open(segment_path(self.directory, self.number), os.O_RDONLY)
            except FileNotFoundError:
                return False
        return True

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # When the interpreter ends, the module's names are gone before its last instances, so `close` is bound here.
        # An instance whose making failed has no `_fd`.
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            self._fd = -1
            close(fd)

    def size(self) -> int:
        """Bytes of the file now."""
        return os.fstat(self._fd).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes as they stand in the file."""
        return os.pread(self._fd, length, offset)

    def next(self, limit: int, *, closed: bool) -> RawFrame | None:
        """The next verified frame that ends at or before `limit`.

        Args:
            limit: Bytes that may be read.
            closed: Nobody appends any more, so what does not verify is damaged; otherwise it may be unfinished.

        Returns:
            None at the end: of the segment when `closed`, else of what can be read so far.
        """
        self._limit = limit = min(limit, self.size())
        frame = self._next(limit, closed=closed)
        if frame is None:
            self._window = b""  # what lies behind the last frame may still change
        return frame

    def _next(self, limit: int, *, closed: bool) -> RawFrame | None:
        if self.offset < len(MAGIC):
            if limit < len(MAGIC):
                return None
            if self._bytes(0, len(MAGIC)) != MAGIC:
                if not closed:
                    return None
                self._damage(0, len(MAGIC), DamageKind.CHECKSUM, "the file does not begin as a segment does")
            self.offset = len(MAGIC)
        while self.offset < limit:
            frame = self._frame(self.offset, limit)
            if frame is None or not self._in_order(frame):
                if not closed:
                    return None
                if not self._skip(frame, limit):
                    return None
                continue
            self._take(frame)
            return frame
        return None

    def _in_order(self, frame: RawFrame) -> bool:
        """Whether the frame may follow: data frames count up, the others repeat the last number."""
        if frame.kind is Kind.SEGMENT:
            return frame.offset == len(MAGIC)
        return frame.sequence > self.sequence if frame.kind.is_data else frame.sequence >= self.sequence

    def _take(self, frame: RawFrame) -> None:
        if frame.kind is Kind.SEGMENT:
            self.header = decode_header(frame.payload)
            self.sequence = frame.sequence
        expected = self.sequence + 1 if frame.kind.is_data else self.sequence
        if frame.sequence > expected and self.frames:
            missing = frame.sequence - expected
            self._damage(frame.offset, 0, DamageKind.MISSING, f"{missing} frame(s) before this place are missing")
        if frame.kind is Kind.SCHEMA:
            schema_id, _ = REFERENCE.unpack_from(frame.payload)
            self.schemas[schema_id] = bytes(frame.payload[REFERENCE.size :])
        elif frame.kind is Kind.FOOTER:
            self.footer = decode_footer(frame.payload)
            if (self.footer.frames, self.footer.chain) != (self.frames, self.chain) and not self.damages:
                self._damage(frame.offset, 0, DamageKind.MISSING, "the footer does not match the frames before it")
        self.sequence = frame.sequence
        self.frames += 1
        self.chain = chain_of(self.chain, frame.crc)
        self.offset = frame.end

    def _skip(self, frame: RawFrame | None, limit: int) -> bool:
        """Leave out a bad place; False when nothing that can be believed follows."""
        start = self.offset
        if frame is not None:  # it verifies, and is a repetition
            self.offset = frame.end
            kind, reason = DamageKind.REPEATED, "a frame repeats an earlier sequence number"
        else:
            found = self._resync(start, limit)
            self.offset = limit if found is None else found
            tail = " and nothing readable follows" if found is None else ""
            kind, reason = DamageKind.CHECKSUM, f"bytes that fail their checksum{tail}"
        self._damage(start, self.offset - start, kind, reason)
        return self.offset < limit

    def _damage(self, offset: int, length: int, kind: DamageKind, reason: str) -> None:
        self.damages.append(Damage(self.number, offset, length, kind, reason))

    def _resync(self, start: int, limit: int) -> int | None:
        """Offset of the next frame behind `start` that verifies and goes on in the sequence."""
        length = int.from_bytes(self._bytes(start + 4, 4), "little")
        after = start + HEADER.size + length + padding(length)
        if after % 8 == 0 and after < limit:  # first guess: only the payload is damaged, the length is right
            frame = self._frame(after, limit)
            if frame is not None and self._in_order(frame):
                return after
        data = self._bytes(start, limit - start)
        words = np.frombuffer(data[: len(data) // 8 * 8], "<u8")
        # Word 1 of a header is the sequence number, the low half of word 2 is kind, flags, reserved = 0.
        low = words[2:] & np.uint64(0xFFFFFFFF ^ _FLAGS << 8)
        plausible = (low >= 1) & (low <= max(_KINDS)) & (words[1:-1] >= np.uint64(self.sequence))
        for place in np.flatnonzero(plausible):
            offset = start + 8 * int(place)
            if offset > start:
                frame = self._frame(offset, limit)
                if frame is not None and self._in_order(frame):
                    return offset
        return None

    def _frame(self, offset: int, limit: int) -> RawFrame | None:
        """The frame at `offset`, or None when there is no whole one that verifies."""
        head = self._bytes(offset, HEADER.size)
        if len(head) < HEADER.size or offset + HEADER.size > limit:
            return None
        crc, length, sequence, kind, flags, reserved, count = HEADER.unpack(head)
        end = offset + HEADER.size + length + padding(length)
        if kind not in _KINDS or flags & ~_FLAGS or reserved or end > limit:
            return None
        view = self._view(offset, end - offset)
        if len(view) < end - offset or crc_of([view[4:]], seed_of(self.incarnation, self.number)) != crc:
            return None
        payload = view[HEADER.size : HEADER.size + length]
        if flags and kind == Kind.FEEDBACK:
            return RawFrame(Kind(kind), sequence, count, _word(payload, 0), offset, end, payload[4:], flags)
        first = _word(payload, 4) if flags else crc
        return RawFrame(Kind(kind), sequence, count, first, offset, end, payload, flags)

    def _view(self, offset: int, length: int) -> memoryview:
        """Bytes of the file, through a window that is read ahead."""
        start = offset - self._window_at
        if start < 0 or start + length > len(self._window):
            self._window = os.pread(self._fd, min(max(length, _WINDOW_BYTES), max(0, self._limit - offset)), offset)
            self._window_at, start = offset, 0
        return memoryview(self._window)[start : start + length]

    def _bytes(self, offset: int, length: int) -> bytes:
        return bytes(self._view(offset, length))


def _word(payload: memoryview, offset: int) -> int:
    return int.from_bytes(payload[offset : offset + 4], "little")
