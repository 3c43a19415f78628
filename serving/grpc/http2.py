"""HTTP/2 (RFC 9113) as far as a gRPC server needs it: frames to write, settings to read, error codes. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = struct.Struct(">IBI")  # length and type in one word, flags, stream
FRAME_BYTES = 9
LARGEST_WINDOW = (1 << 31) - 1
FIRST_WINDOW = 65_535  # before any settings
SMALLEST_MAX_FRAME, LARGEST_MAX_FRAME = 16_384, (1 << 24) - 1

# What we allow a peer.
MAX_FRAME = 1 << 18
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 24
MAX_STREAMS = 1024

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20


class Kind(IntEnum):
    """Frame types."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """Settings that we send or heed."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Http2Error(Exception):
    """The peer broke the protocol in a way that ends the connection."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    r"""One whole frame.

    Example:
        >>> frame(Kind.SETTINGS, ACK, 0)
        b'\x00\x00\x00\x04\x01\x00\x00\x00\x00'
    """
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int, code: Code) -> bytes:
    """A RST_STREAM frame."""
    return frame(Kind.RST_STREAM, 0, stream, int(code).to_bytes(4, "big"))


def goaway(last_stream: int, code: Code) -> bytes:
    """A GOAWAY frame: streams after `last_stream` have not been looked at."""
    return frame(Kind.GOAWAY, 0, 0, struct.pack(">II", last_stream, code))


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The settings in a frame's payload that have meaning to a server, checked.

    Raises:
        Http2Error: a value out of its range, or a payload that is no list of settings.
    """
    if len(payload) % 6:
        raise Http2Error(Code.FRAME_SIZE_ERROR, "SETTINGS of an odd size")
    for key, value in struct.iter_unpack(">HI", payload):
        if key == Setting.INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise Http2Error(Code.FLOW_CONTROL_ERROR, "window over 2^31 - 1")
        if key == Setting.MAX_FRAME_SIZE and not SMALLEST_MAX_FRAME <= value <= LARGEST_MAX_FRAME:
            raise Http2Error(Code.PROTOCOL_ERROR, "frame size out of range")
        if key == Setting.ENABLE_PUSH and value > 1:
            raise Http2Error(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        yield key, value


def unpadded(payload: bytes, flags: int, *, headers: bool = False) -> bytes:
    """A payload without padding and, of HEADERS, without the priority fields.

    Raises:
        Http2Error: more padding than payload.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise Http2Error(Code.FRAME_SIZE_ERROR, "padded frame without a pad length")
        start, end = 1, end - payload[0]
    if headers and flags & PRIORITY_FLAG:
        start += 5
    if start > end:
        raise Http2Error(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[start:end]


def header_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    r"""Header fields as HPACK literals that touch no table, so that equal fields are equal bytes on every connection.

    Example:
        >>> header_block([(b"grpc-status", b"0")])
        b'\x00\x0bgrpc-status\x010'
    """
    return b"".join(b"\x00" + _length(name) + name + _length(value) + value for name, value in fields)


def _length(text: bytes) -> bytes:
    """A string's length as an HPACK integer with a prefix of seven bits; no Huffman code."""
    size = len(text)
    if size < 0x7F:
        return bytes((size,))
    parts = bytearray((0x7F,))
    size -= 0x7F
    while size > 0x7F:
        parts.append(size & 0x7F | 0x80)
        size >>= 7
    parts.append(size)
    return bytes(parts)
