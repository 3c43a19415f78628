"""Erasing from a sealed segment: the frame keeps its place, length and count; what is erased becomes zeros.

The new file is complete on the disk before it takes the old one's name. Nothing else of the log moves: positions,
sequence numbers, totals and the chain stay, so that readers, accounts and the monitor's index need not know.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from monitoring.records.decode import DecodedRecords
from monitoring.records.folders import incarnation_of
from monitoring.records.frames import HEADER, REFERENCE, Kind, Rewritten, pack, seed_of, segment_path
from monitoring.records.parse import parse_records
from monitoring.records.record import Feedback
from monitoring.records.scan import RawFrame, SegmentScan

Change = Callable[[DecodedRecords], DecodedRecords]
Choose = Callable[[Feedback], bool]


def rewrite_segment(root: Path, source: str, number: int, change: Change, keep: Choose = lambda _: True) -> int:
    """Erase from a segment that nobody appends to any more.

    Args:
        root: Folder of all logs.
        source: Whose.
        number: Of the segment; sealed, or its writer is dead.
        change: Gets the records of a frame and gives those that stay: fewer of them, or without some tensors; the same
            object when all stay.
        keep: Which feedback stays.

    Returns:
        Frames that changed. With none the file is not touched.
    """
    path = segment_path(root / source, number)
    data = bytearray(path.read_bytes())
    scan = SegmentScan(root / source, number, incarnation_of(source) or "")
    if not scan.open():
        return 0
    changed = 0
    try:
        while (raw := scan.next(len(data), closed=True)) is not None:
            new = _rewritten(raw, scan, change, keep)
            if new is not None:
                data[raw.offset : raw.end] = new
                changed += 1
    finally:
        scan.close()
    if changed:
        _replace(path, data)
    return changed


def _rewritten(raw: RawFrame, scan: SegmentScan, change: Change, keep: Choose) -> bytes | None:
    if raw.kind is Kind.RECORDS:
        schema_id, _ = REFERENCE.unpack_from(raw.payload)
        message = scan.schemas.get(schema_id)
        if message is None:
            return None
        before = parse_records(raw.payload, message, raw.flags)
        after = change(before)
        if after is before:
            return None
        flags, body = raw.flags | Rewritten.ERASED, _smallest(after, before, raw)
        for side, flag in (("in.", Rewritten.NO_INPUTS), ("out.", Rewritten.NO_OUTPUTS)):
            if not any(t.name.startswith(side) for t in body.layout.tensors):
                flags |= flag
        return _packed(raw, scan, REFERENCE.pack(schema_id, raw.crc) + body.batch.serialize().to_pybytes(), flags)
    if raw.kind is Kind.FEEDBACK:
        items = json.loads(bytes(raw.payload))
        stay = [i for i in items if keep(Feedback(**{**i, "labels": i["labels"] and tuple(i["labels"])}))]
        if len(stay) == len(items):
            return None
        text = json.dumps(stay, separators=(",", ":")).encode()
        return _packed(raw, scan, raw.crc.to_bytes(4, "little") + text, raw.flags | Rewritten.ERASED, fill=b" ")
    return None


def _smallest(after: DecodedRecords, before: DecodedRecords, raw: RawFrame) -> DecodedRecords:
    """What can be stored: all columns of the frame's schema, or those without the inputs or outputs as a whole.

    A frame whose schema had single tensors taken away loses that side altogether: its schema cannot say less.
    """
    names = {t.name for t in after.layout.tensors}
    gone = {t.name for t in before.layout.tensors} - names
    layout = before.layout.without(
        inputs=any(n.startswith("in.") for n in gone), outputs=any(n.startswith("out.") for n in gone)
    )
    arrays: list[pa.Array] = []
    for field in layout.arrow_schema():
        present = field.name in after.batch.schema.names
        arrays.append(after.batch.column(field.name) if present else pa.nulls(after.batch.num_rows, field.type))
    batch = pa.RecordBatch.from_arrays(arrays, schema=layout.arrow_schema())
    # Slices share the buffers of what they were cut from; only `take` leaves the others' bytes behind.
    return DecodedRecords(layout, batch)


def _packed(raw: RawFrame, scan: SegmentScan, payload: bytes, flags: int, fill: bytes = b"\0") -> bytes:
    """A frame of the same length.

    Raises:
        ValueError: the new payload is longer than the old one.
    """
    header = HEADER.size
    length = int.from_bytes(scan.read_at(raw.offset + 4, 4), "little")
    if len(payload) > length:
        raise ValueError(f"{len(payload) - length} bytes too many for the frame's place")
    buffers, size, _ = pack(
        kind=raw.kind,
        sequence=raw.sequence,
        count=raw.count,
        payload=[payload + fill * (length - len(payload))],
        seed=seed_of(scan.incarnation, scan.number),
        flags=flags,
    )
    assert size == raw.end - raw.offset >= header
    return b"".join(bytes(b) for b in buffers)


def _replace(path: Path, data: bytearray) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
