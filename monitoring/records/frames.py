"""The bytes of a segment: magic, then frames. Shared by the writer and the reader; specified in `docs/record-log.md`.

A frame is a 24-byte header, a payload, and zeros up to a multiple of 8. The CRC covers all of it but itself, and starts
from a seed made of the incarnation and the segment's number, so that a frame in the wrong file does not verify.
"""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import TypeAlias

import google_crc32c
import numpy as np
import pyarrow as pa

MAGIC = b"HCRLOG1\n"
FORMAT_VERSION = 1
HEADER = struct.Struct("<IIQBBHI")  # crc, payload length, sequence, kind, flags, reserved, records in the frame
REFERENCE = struct.Struct("<II")  # first 8 bytes of a schema or records payload: schema id, reserved
SEGMENT_NAME = re.compile(r"(\d{8})\.seg")
_CRC_SLICE_BYTES = 1 << 20  # the CRC holds the interpreter lock: give it up after this many bytes

Buffer: TypeAlias = "bytes | memoryview | pa.Buffer"


class Rewritten(IntFlag):
    """Flags of a frame from which something was erased after it was written. It keeps its length, count and place.

    The CRC is that of the new bytes. The CRC that the chain was made of stands in the payload: in the second word of
    the reference of records, in the first four bytes of feedback.
    """

    ERASED = 1  # records or feedback items are gone, or values in them
    NO_INPUTS = 2  # the columns of all inputs are gone: the schema without them is the frame's
    NO_OUTPUTS = 4  # the same for outputs


class Kind(IntEnum):
    """What a frame holds."""

    SEGMENT = 1  # first frame of a segment: who wrote it, and where the segment before it ended (JSON)
    SCHEMA = 2  # an Arrow schema message that record frames of this segment refer to
    RECORDS = 3  # an Arrow record batch message
    FEEDBACK = 4  # a JSON list of feedback
    EVENT = 5  # one JSON object
    FOOTER = 6  # last frame of a sealed segment: totals (JSON)

    @property
    def is_data(self) -> bool:
        """Whether the frame takes a sequence number of its own; the others repeat that of the data before them."""
        return self in (Kind.RECORDS, Kind.FEEDBACK, Kind.EVENT)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentHeader:
    """Payload of the first frame of a segment.

    Attributes:
        previous: Number of the segment before this one; 0 for the first.
        previous_end: Bytes of it that count; what lies behind was given up by the writer.
        previous_sequence: Last sequence number of the segment before.
        previous_chain: CRC chain over the frames of the segment before.
        totals: Records in all segments before this one, as (model, version, records).
    """

    format: int
    replica: str
    incarnation: str
    segment: int
    created_ns: int
    previous: int
    previous_end: int
    previous_sequence: int
    previous_chain: int
    totals: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentFooter:
    """Payload of the last frame of a sealed segment: its frames before this one, its last sequence and its chain."""

    frames: int
    sequence: int
    chain: int


def encode_json(value: SegmentHeader | SegmentFooter) -> bytes:
    """Payload bytes of a header or footer."""
    return json.dumps(asdict(value), separators=(",", ":")).encode()


def decode_header(payload: memoryview) -> SegmentHeader:
    """The inverse of `encode_json`; the payload's CRC has been checked, so a failure is a defect, not corruption."""
    plain = json.loads(bytes(payload))
    return SegmentHeader(**{**plain, "totals": tuple((m, v, n) for m, v, n in plain["totals"])})


def decode_footer(payload: memoryview) -> SegmentFooter:
    """The inverse of `encode_json` for a footer."""
    return SegmentFooter(**json.loads(bytes(payload)))


def segment_path(directory: Path, number: int) -> Path:
    """The file of a segment."""
    return directory / f"{number:08d}.seg"


def segment_numbers(directory: Path) -> list[int]:
    """Numbers of the segments that exist, ascending; empty when the folder is gone."""
    try:
        names = [entry.name for entry in directory.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(m[1]) for m in map(SEGMENT_NAME.fullmatch, names) if m)


def seed_of(incarnation: str, segment: int) -> int:
    """Start value of every CRC in a segment."""
    return int(google_crc32c.value(f"{incarnation}/{segment}".encode()))


def crc_of(buffers: Sequence[Buffer], seed: int) -> int:
    """CRC-32C over buffers, continued from `seed`."""
    crc = seed
    for buffer in buffers:
        if len(buffer) <= _CRC_SLICE_BYTES:
            crc = google_crc32c.extend(crc, buffer if isinstance(buffer, bytes) else np.frombuffer(buffer, np.uint8))
            continue
        view = np.frombuffer(buffer, np.uint8)
        for start in range(0, len(view), _CRC_SLICE_BYTES):
            crc = google_crc32c.extend(crc, view[start : start + _CRC_SLICE_BYTES])
            time.sleep(0)  # lets the event loop in
    return int(crc)


def chain_of(chain: int, crc: int) -> int:
    """The chain continued by one frame's CRC."""
    return int(google_crc32c.extend(chain, crc.to_bytes(4, "little")))


def padding(length: int) -> int:
    """Zeros after a payload of `length` bytes."""
    return -length % 8


def pack(
    *, kind: Kind, sequence: int, count: int, payload: Sequence[Buffer], seed: int, flags: int = 0
) -> tuple[list[Buffer], int, int]:
    """Frame a payload.

    Returns:
        The buffers to write, their length in bytes, and the frame's CRC.
    """
    length = sum(len(p) for p in payload)
    zeros = bytes(padding(length))
    body = HEADER.pack(0, length, sequence, kind, flags, 0, count)[4:]
    crc = crc_of([body, *payload, zeros], seed)
    return [crc.to_bytes(4, "little") + body, *payload, zeros], HEADER.size + length + len(zeros), crc
