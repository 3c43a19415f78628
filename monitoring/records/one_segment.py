"""The frames of one segment alone, for work that goes segment by segment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from monitoring.records.cursor import Cursor, source_state
from monitoring.records.folders import Position
from monitoring.records.frames import Kind
from monitoring.records.reader import Frame
from monitoring.records.scan import DamageKind

_KIND_NAMES = {Kind.RECORDS: "records", Kind.FEEDBACK: "feedback", Kind.EVENT: "event"}


def segment_frames(root: Path, source: str, number: int) -> Iterator[Frame]:
    """The data frames of a segment, of a living writer as far as they are committed.

    Raises:
        ValueError: the segment is damaged; the end that a killed writer tore off is no damage.
    """
    directory = root / source
    state = source_state(directory)
    cursor = Cursor(directory, state.incarnation, Position(number, 0, -1))
    try:
        while (found := cursor.advance(state)) is not None and cursor.position_now.segment == number:
            raw, schema = found
            kind, size = _KIND_NAMES[raw.kind], raw.end - raw.offset
            yield Frame(source, cursor.position_now, kind, raw.count, raw.payload, size, schema, raw.flags)
        wrong = [d for d in cursor.take_damages() if d.segment == number and d.kind is not DamageKind.TORN]
        if wrong:
            raise ValueError(f"segment {number} of {source} is damaged: {wrong[0].reason}")
    finally:
        cursor.close()
