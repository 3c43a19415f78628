"""Segments → Parquet files: complete or not there, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.archive.columns import Known, layout_json, place_columns, table_of
from monitoring.archive.files import FORMAT, METADATA_KEY, FileKind, file_path, folder_of
from monitoring.batches import Place
from monitoring.records.decode import DecodedRecords
from monitoring.records.layout import StreamLayout
from monitoring.records.reader import Frame, Position

GROUP_BYTES = 32 << 20  # of a row group before compression: what is held in memory for each open file
GROUP_ROWS = 65_536
_DICTIONARY = ["model", "version", "digest", "variant", "outcome", "error", "log", "kind"]
Strip = Callable[[DecodedRecords], DecodedRecords]
Lookup = Callable[[Place, DecodedRecords], Sequence[Known]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A finished file, as the catalogue describes it. `path` is relative to the archive's folder."""

    path: str
    kind: FileKind
    source: str
    first_segment: int
    last_segment: int
    model: str
    version: str
    rows: int
    erased: int
    bytes: int
    sha256: str
    columns: dict[str, str]
    first_ns: int
    last_ns: int
    first_sequence: int
    last_sequence: int


@dataclass(kw_only=True, eq=False)
class _Open:
    """A file being written."""

    path: str
    model: str
    version: str
    kind: FileKind
    writer: pq.ParquetWriter
    temporary: Path
    layouts: dict[StreamLayout, int] = field(default_factory=dict)
    waiting: list[pa.Table] = field(default_factory=list)
    waiting_bytes: int = 0
    waiting_rows: int = 0
    rows: int = 0
    span: list[int] = field(default_factory=list)  # first_ns, last_ns, first_sequence, last_sequence
    last_end: Position | None = None

    def add(self, table: pa.Table, times: Any, sequence: int, end: Position) -> None:
        self.last_end = end
        low, high = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        s = self.span or [low, high, sequence, sequence]
        self.span = [min(s[0], low), max(s[1], high), min(s[2], sequence), max(s[3], sequence)]
        self.rows += len(table)
        self.waiting.append(table)
        self.waiting_bytes += table.nbytes
        self.waiting_rows += len(table)
        if self.waiting_bytes >= GROUP_BYTES or self.waiting_rows >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            # One row group, however many rows: a frame is never cut in two.
            self.writer.write_table(pa.concat_tables(self.waiting), row_group_size=max(1, self.waiting_rows))
            self.waiting, self.waiting_bytes, self.waiting_rows = [], 0, 0


class ArchiveWriter:
    """Writes the frames of some segments of one source.

    Args:
        root: The archive's folder.
        source: Where the frames come from.
        first, last: The segments.
        strip: Takes away what the privacy settings do not let stay.
        known: What the monitor said of the records of a frame when they came.
    """

    def __init__(
        self,
        root: Path,
        source: str,
        first: int,
        last: int,
        strip: Strip = lambda records: records,
        known: Lookup = lambda _, records: [None] * len(records),
    ) -> None:
        self._root, self._source, self._first, self._last, self._strip = root, source, first, last, strip
        self._known = known
        self._open: dict[tuple[Any, ...], _Open] = {}

    def write(self, frames: Iterable[tuple[Place, Frame]]) -> list[Written]:
        """Write frames in order, each with the place where it begins; returns the finished files."""
        try:
            for place, frame in frames:
                if frame.kind == "records":
                    self._records(place, frame)
                else:
                    self._other(place, frame)
            return [self._finish(file) for file in self._open.values()]
        finally:
            for file in self._open.values():
                file.writer.close()
                file.temporary.unlink(missing_ok=True)

    def _records(self, place: Place, frame: Frame) -> None:
        records = self._strip(frame.records())
        names = tuple((t.name, t.datatype) for t in records.layout.tensors)
        key = (records.model, records.version, names)
        number = self._open[key].layouts.get(records.layout) if key in self._open else 0
        if number is None:
            number = len(self._open[key].layouts)
        table = table_of(records, place, frame.position, number, self._known(place, records))
        if key not in self._open:
            folder = folder_of(records.model, records.version)
            self._open[key] = self._start(folder, records.model, records.version, FileKind.RECORDS, table.schema)
        file = self._open[key]
        file.layouts[records.layout] = number
        file.add(table, records.time_ns, place.sequence, frame.position)

    def _other(self, place: Place, frame: Frame) -> None:
        items = frame.feedback() if frame.kind == "feedback" else [frame.event()]
        row = {
            "kind": frame.kind,
            "count": frame.count,
            "payload": bytes(frame.payload).decode().rstrip(),
            "log": self._source,
            **place_columns(place, frame.position),
        }
        table = pa.table({name: [value] for name, value in row.items()})
        key = ("frames",)
        if key not in self._open:
            self._open[key] = self._start("frames", "", "", FileKind.FRAMES, table.schema)
        self._open[key].add(table, np.array([i.time_ns for i in items], np.int64), place.sequence, frame.position)

    def _start(self, folder: str, model: str, version: str, kind: FileKind, schema: pa.Schema) -> _Open:
        path = file_path(folder, self._source, self._first, self._last, len(self._open))
        temporary = temporary_of(self._root / path)
        return _Open(path=path, model=model, version=version, kind=kind, temporary=temporary,
                     writer=open_writer(temporary, schema))  # fmt: skip

    def _finish(self, file: _Open) -> Written:
        file.flush()
        layouts = sorted(file.layouts, key=lambda layout: file.layouts[layout])
        head = {
            "format": FORMAT,
            "model": file.model,
            "version": file.version,
            "source": self._source,
            "first_ns": file.span[0],
            "last_ns": file.span[1],
            "first_sequence": file.span[2],
            "last_sequence": file.span[3],
            "last_end": list(asdict(file.last_end).values()) if file.last_end else None,
            "erased": 0,
            "layouts": [layout_json(layout) for layout in layouts],
        }
        return publish(
            self._root,
            file.path,
            file.temporary,
            file.writer,
            head,
            kind=file.kind,
            segments=(self._first, self._last),
            rows=file.rows,
        )


def temporary_of(path: Path) -> Path:
    """Where a file is written before it has its name."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer with the archive's settings."""
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=[n for n in _DICTIONARY if n in schema.names],
        write_statistics=[n for n in schema.names if "." not in n],
    )


def publish(
    root: Path,
    path: str,
    temporary: Path,
    writer: pq.ParquetWriter,
    head: dict[str, Any],
    *,
    kind: FileKind,
    segments: tuple[int, int],
    rows: int,
) -> Written:
    """Close a file, force it to the disk and give it its name; the bytes are all there before the name is."""
    schema: pa.Schema = writer.schema
    writer.add_key_value_metadata({METADATA_KEY: json.dumps(head, separators=(",", ":")).encode()})
    writer.close()
    digest, size = hashlib.sha256(), 0
    with temporary.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
        os.fsync(file.fileno())
    temporary.chmod(0o600)
    final = root / path
    temporary.replace(final)
    sync_folder(final.parent)
    return Written(
        path=path,
        kind=kind,
        source=head["source"],
        first_segment=segments[0],
        last_segment=segments[1],
        model=head["model"],
        version=head["version"],
        rows=rows,
        erased=head["erased"],
        bytes=size,
        sha256=digest.hexdigest(),
        columns={f.name: str(f.type) for f in schema},
        first_ns=head["first_ns"],
        last_ns=head["last_ns"],
        first_sequence=head["first_sequence"],
        last_sequence=head["last_sequence"],
    )


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power failure."""
    with _descriptor(folder) as fd:
        os.fsync(fd)


@contextmanager
def _descriptor(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
