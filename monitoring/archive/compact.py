"""Consumed segments become Parquet and go: write, force to the disk, rename, commit to the catalogue, delete.

A monitor killed between any two of these steps leaves either files that the catalogue does not name (written again, or
swept) or segments that it does (deleted at the next turn). Readers believe the catalogue, and a segment that is still
there before its copy.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.archive.catalogue import add_files, covered_to, list_files
from monitoring.archive.columns import Known
from monitoring.archive.files import head_of, parse
from monitoring.archive.write import ArchiveWriter, Lookup, Strip
from monitoring.archive_options import ArchiveOptions
from monitoring.batches import Place
from monitoring.ingest_rows import START
from monitoring.keys import printable
from monitoring.records.decode import DecodedRecords
from monitoring.records.frames import segment_numbers, segment_path
from monitoring.records.reader import Frame, Position, RecordLogReader
from monitoring.records.scan import DamageKind
from monitoring.store import Store

logger = logging.getLogger(__name__)

ORPHAN_AGE_S = 3600.0


class Compactor:
    """Turns the segments of all sources into files, a bounded piece a turn.

    Args:
        store: For the catalogue.
        records_root: The record log's folder.
        root: The archive's folder.
        options: When.
        strip: Takes away what the privacy settings do not let stay.
        wall: Seconds since the epoch, to compare with the files' times.
    """

    def __init__(
        self,
        store: Store,
        records_root: Path,
        root: Path,
        options: ArchiveOptions,
        strip: Strip = lambda records: records,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._records, self._root, self._options = store, records_root, root, options
        self._strip = strip
        self._wall = wall
        self._stuck: set[tuple[str, int]] = set()  # damaged segments: they stay as they are

    def turn(self, *, at_once: bool = False) -> bool:
        """Compact at most one run of segments of one source; returns whether there may be more.

        Args:
            at_once: Do not wait for more segments, or for the age.
        """
        reader = RecordLogReader(self._records)
        try:
            for source in reader.sources():
                if self._source(reader, source, at_once=at_once):
                    return True
        finally:
            reader.close()
        self.sweep()
        return False

    def sweep(self) -> int:
        """Remove files that the catalogue does not name, an hour after they were written; returns how many."""
        with self._store.read() as connection:
            named = {file.path for file in list_files(connection)}
        gone = 0
        for path in self._root.rglob("*") if self._root.is_dir() else ():
            name = path.relative_to(self._root).as_posix()
            ours = path.name.endswith(".tmp") or parse(name) is not None
            if ours and name not in named and self._wall() - path.stat().st_mtime > ORPHAN_AGE_S:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _source(self, reader: RecordLogReader, source: str, *, at_once: bool) -> bool:
        with self._store.read() as connection:
            done = covered_to(connection, source)
            o = t.offsets.c
            finished = bool(connection.scalar(sa.select(o.finalised).where(o.source == source)))
        self._release(reader, source, done, finished=finished)
        run = self._run(reader, source, done, finished=finished, at_once=at_once)
        if not run:
            return False
        frames = self._frames(reader, source, done, run[-1])
        known = known_records(self._store, source, done, run[-1])
        files = ArchiveWriter(self._root, source, run[0], run[-1], self._strip, known).write(frames)
        wrong = [d for d in reader.damages(source) if d.kind is not DamageKind.TORN and d.segment in run]
        if wrong:
            logger.warning(
                "segment %d of %s is damaged and stays as it is: %s", wrong[0].segment, source, wrong[0].reason
            )
            self._stuck.add((source, wrong[0].segment))
            for file in files:
                (self._root / file.path).unlink(missing_ok=True)
            return wrong[0].segment > run[0]
        with self._store.write() as connection:
            if covered_to(connection, source) != done:
                raise RuntimeError("another monitor compacts this source")
            add_files(connection, files)
            if not files:  # segments without a single frame: name them, so that they are not looked at again
                return False
        self._release(reader, source, run[-1], finished=finished)
        return True

    def _run(self, reader: RecordLogReader, source: str, done: int, *, finished: bool, at_once: bool) -> list[int]:
        """Segments to take now: whole, consumed, one after the other; none when it is better to wait for more."""
        acknowledged = reader.acknowledged(source)
        if acknowledged is None:
            return []
        directory = self._records / source
        run: list[int] = []
        size, oldest = 0, self._wall()
        for number in segment_numbers(directory):
            if number <= done:
                continue
            if (number >= acknowledged.segment and not finished) or (source, number) in self._stuck:
                break
            status = segment_path(directory, number).stat()
            run.append(number)
            size += status.st_size
            oldest = min(oldest, status.st_mtime)
            if size >= self._options.file_bytes:
                return run
        ripe = at_once or finished or self._wall() - oldest >= self._options.age_s
        return run if ripe else []

    def _frames(self, reader: RecordLogReader, source: str, done: int, last: int) -> Iterator[tuple[Place, Frame]]:
        with self._store.read() as connection:
            at = _place_behind(connection, self._root, source, done)
        after = None if at is None else Position(at.segment, at.offset, at.sequence)
        place = at or Place(source=source, segment=START.segment, offset=START.offset, sequence=START.sequence)
        for frame in reader.read(source, after, 1 << 62):
            p = frame.position
            if p.segment > last:
                return
            if p.segment > done:
                yield place, frame
            place = Place(source=source, segment=p.segment, offset=p.offset, sequence=p.sequence)

    def _release(self, reader: RecordLogReader, source: str, done: int, *, finished: bool) -> None:
        """Delete segments that are in the archive; of a dead writer whose whole log is, the folder."""
        acknowledged = reader.acknowledged(source)
        numbers = segment_numbers(self._records / source)
        if not done or acknowledged is None or not numbers or numbers[0] > done:
            return
        if finished and numbers[-1] <= done:
            reader.retire(source)
            return
        last = min(done + 1, acknowledged.segment)
        reader.delete_segments(source, Position(last, 0, 0))


def _place_behind(connection: sa.Connection, root: Path, source: str, done: int) -> Place | None:
    """Where the last frame that is in the archive ends; None when nothing of the source is."""
    files = [file for file in list_files(connection, source=source) if file.last_segment == done]
    ends = [tuple(head_of(root / file.path)["last_end"]) for file in files]
    if not ends:
        return None
    segment, offset, sequence = max(ends)
    return Place(source=source, segment=segment, offset=offset, sequence=sequence)


def known_records(store: Store, source: str, done: int, last: int) -> Lookup:
    """What the record index says of the records in the segments behind `done`, up to `last`: P(wrong) and flags."""
    r = t.records.c
    query = sa.select(r.sequence, r.record_id, r.time_ns, r.p_wrong, r.flags)
    with store.read() as connection:  # a record's place may lie at the end of the segment before
        rows = connection.execute(query.where(r.source == source, r.segment.between(done - 1, last)))
        found: dict[tuple[int, str, int], Known] = {(s, i, n): (p, f) for s, i, n, p, f in rows}

    def look_up(place: Place, records: DecodedRecords) -> list[Known]:
        times = records.time_ns.tolist()
        return [
            found.get((place.sequence, printable(identity), time_ns))
            for identity, time_ns in zip(records.ids, times, strict=True)
        ]

    return look_up
