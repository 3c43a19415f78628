"""Frames of HTTP/2 (RFC 9113, section 4): written in one go, read from whatever pieces arrive."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import TypeAlias

END_STREAM, ACK, END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
CANCEL = struct.pack(">I", 8)
_HEAD_BYTES = 9
_MOST_FRAME_BYTES = 1 << 24

Frame: TypeAlias = tuple[int, int, int, bytes]  # kind, flags, stream, payload


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0  # a part of a message
    HEADERS = 1  # a header block, or its beginning
    RST_STREAM = 3  # the stream ends with an error
    SETTINGS = 4  # what the peer can take
    PING = 6  # are you there?
    GOAWAY = 7  # no new streams
    WINDOW_UPDATE = 8  # the peer may send more
    CONTINUATION = 9  # a header block goes on


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame.

    Example:
        >>> frame(Kind.PING, ACK, 0, bytes(8)).hex()
        '0000080601000000000000000000000000'
    """
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def without_padding(flags: int, payload: bytes) -> bytes:
    """The header block of a HEADERS frame."""
    begin, end = 0, len(payload)
    if flags & _PADDED:
        begin, end = 1, end - payload[0]
    if flags & _PRIORITY:
        begin += 5
    if begin > end:
        raise ValueError("a frame is all padding")
    return payload[begin:end]


def _settings() -> bytes:
    # HEADER_TABLE_SIZE 0: blocks stand on their own; ENABLE_PUSH 0; INITIAL_WINDOW_SIZE and MAX_FRAME_SIZE: the most.
    pairs = ((1, 0), (2, 0), (4, 0x7FFFFFFF), (5, _MOST_FRAME_BYTES - 1))
    return b"".join(struct.pack(">HI", *pair) for pair in pairs)


# What a client says first: the magic, its settings, and that the connection's window is as large as it can be.
PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(Kind.SETTINGS, 0, 0, _settings())
    + frame(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFFFFFF - 65_535))
)


class FrameReader:
    """Cuts a stream of bytes into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now; ask for all of them before feeding again."""
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        while size - at >= _HEAD_BYTES:
            length_and_kind, flags, stream = struct.unpack_from(">IBI", buffer, at)
            end = at + _HEAD_BYTES + (length_and_kind >> 8)
            if end > size:
                break
            yield length_and_kind & 0xFF, flags, stream & 0x7FFFFFFF, buffer[at + _HEAD_BYTES : end]
            at = end
        self._buffer = buffer[at:]
