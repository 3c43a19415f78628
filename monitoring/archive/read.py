"""Reading the archive: frames as the log gave them, single records, and groups for work on many."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.archive.columns import PLACE, layout_of, records_of
from monitoring.archive.files import ArchiveFile, FileKind, archived, head_of
from monitoring.records.decode import DecodedRecords
from monitoring.records.reader import Position
from monitoring.records.record import Event, Feedback


@dataclass(frozen=True, slots=True)
class ArchivedFrame:
    """A frame of the log, read from the archive; used like `monitoring.records.reader.Frame`."""

    source: str
    place: Position
    position: Position
    kind: str
    count: int
    content: DecodedRecords | str

    @property
    def nbytes(self) -> int:
        """Bytes, about."""
        return len(self.content) if isinstance(self.content, str) else int(self.content.batch.nbytes)

    def records(self) -> DecodedRecords:
        """The records of a frame of kind "records"."""
        assert isinstance(self.content, DecodedRecords)
        return self.content

    def feedback(self) -> list[Feedback]:
        """The items of a frame of kind "feedback"."""
        items = json.loads(str(self.content))
        return [Feedback(**{**i, "labels": None if i["labels"] is None else tuple(i["labels"])}) for i in items]

    def event(self) -> Event:
        """The event of a frame of kind "event"."""
        return Event(**json.loads(str(self.content)))


def read_frames(root: Path, source: str, after: int = -1) -> Iterator[ArchivedFrame]:
    """The frames of a source with a sequence number over `after`, in the order of the log."""
    for files in _runs(root, source):
        parts = [_frames(root / file.path, file.kind, source) for file in files]
        merged = heapq.merge(*parts, key=lambda frame: frame.position.sequence)
        yield from (frame for frame in merged if frame.position.sequence > after)


def archived_sources(root: Path) -> list[str]:
    """Sources of which something is in the archive."""
    return sorted({file.source for file in archived(root)})


def read_groups(path: Path) -> Iterator[tuple[pa.Table, DecodedRecords]]:
    """The records of a file, as many at once as share a layout within a row group: memory holds one row group."""
    layouts = [layout_of(plain) for plain in head_of(path)["layouts"]]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from records_of(file.read_row_group(group), layouts, by_frame=False)


def read_frame(path: Path, sequence: int) -> DecodedRecords | None:
    """The records of the frame that begins behind `sequence`; None when the file does not hold it."""
    table = pq.read_table(path, filters=[("sequence", "=", sequence)])
    if not len(table):
        return None
    layouts = [layout_of(plain) for plain in head_of(path)["layouts"]]
    for _, records in records_of(table, layouts, by_frame=True):
        return records
    return None


def _runs(root: Path, source: str) -> Iterator[list[ArchiveFile]]:
    """Files of a source, those of the same segments together, in order."""
    runs: dict[tuple[int, int], list[ArchiveFile]] = {}
    for file in archived(root):
        if file.source == source:
            runs.setdefault((file.first_segment, file.last_segment), []).append(file)
    yield from (runs[key] for key in sorted(runs))


def _frames(path: Path, kind: FileKind, source: str) -> Iterator[ArchivedFrame]:
    if kind is FileKind.FRAMES:
        for row in pq.read_table(path).to_pylist():
            place, position = _positions(row)
            yield ArchivedFrame(source, place, position, row["kind"], row["count"], row["payload"])
        return
    layouts = [layout_of(plain) for plain in head_of(path)["layouts"]]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for part, records in records_of(file.read_row_group(group), layouts, by_frame=True):
                row = {name: int(np.asarray(part[name])[0]) for name in PLACE}
                place, position = _positions(row)
                yield ArchivedFrame(source, place, position, "records", len(records), records)


def _positions(row: dict[str, Any]) -> tuple[Position, Position]:
    before = Position(row["place_segment"], row["place_offset"], row["sequence"])
    return before, Position(row["segment"], row["end"], row["frame"])
