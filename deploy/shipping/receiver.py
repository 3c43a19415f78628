"""Builds the record log of other machines again, in a folder that the monitor reads like its own machine's.

Bytes first, then the counters that say how far they may be read: the monitor never sees more than has arrived whole.
A source counts as alive for as long as its writer does, because the receiver holds its lock. What the monitor has
committed (its acknowledgement) is deleted from the bucket. Killed anywhere, the receiver goes on: a piece that was
written is written again with the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from deploy.shipping.keys import NODES, RECORDS, Beat, Piece, mark, mark_of, piece_of
from export.storage.objects import ObjectInfo, ObjectStore
from monitoring.records.counters import COUNTERS_FILE, read_counters
from monitoring.records.folders import AS_OF_FILE, acknowledged, list_sources, lock, write_atomically
from monitoring.records.frames import segment_path

_log = logging.getLogger("hardcase.shipping")


@dataclass(kw_only=True)
class _Remote:
    """What the bucket has of one source."""

    pieces: list[Piece] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)  # kind to tag


@dataclass(frozen=True, kw_only=True)
class Received:
    """What a round brought."""

    bytes: int = 0
    sources: int = 0
    finished: int = 0


class Receiver:
    """Keeps the folder. Make it before the monitor reads the folder, and close it after.

    Args:
        root: The folder that the monitor reads.
        store: The bucket.
        lost_after_s: A machine that was not heard of for so long is given up.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        root: Path,
        store: ObjectStore,
        *,
        lost_after_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._store, self._lost_after_s, self._clock = root, store, lost_after_s, clock
        self._tags: dict[str, str] = {}
        self._beats: dict[str, tuple[str, float, Beat]] = {}
        self._locks: dict[str, int] = {}
        self.targets: tuple[str, ...] = ()  # of the replicas, as the machines said last
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / ".released").mkdir(exist_ok=True)
        for left in root.glob(".new-*"):
            shutil.rmtree(left)
        for source in list_sources(root):
            if not self._released(source):
                self._locks[source] = lock(root / source)

    def close(self) -> None:
        """Let the locks go. The monitor must not read any more."""
        for descriptor in self._locks.values():
            os.close(descriptor)
        self._locks.clear()

    def round(self) -> Received:
        """Take over what is new.

        Raises:
            StorageUnavailable: the bucket is away; what has arrived can be read.
        """
        beats = self._read_beats()
        self.targets = tuple(sorted({target for beat in beats for target in beat.targets}))
        sources: dict[str, _Remote] = {}
        for entry in self._store.list(RECORDS):
            _sort_in(sources, entry)
        total = finished = 0
        for source, remote in sources.items():
            if self._released(source):
                self._clear(source, remote)
                continue
            total += self._take(source, remote)
            finished += self._end(source, remote)
            self._delete_consumed(source, remote)
        for marker in (self._root / ".released").iterdir():
            if marker.name not in sources and not (self._root / marker.name).is_dir():
                marker.unlink()
        self._give_up_lost(sources)
        if beats:
            write_atomically(self._root / AS_OF_FILE, str(min(b.as_of_ns for b in beats)).encode())
        else:
            (self._root / AS_OF_FILE).unlink(missing_ok=True)
        return Received(bytes=total, sources=len(sources), finished=finished)

    # ---- one source

    def _take(self, source: str, remote: _Remote) -> int:
        tag = remote.marks.get("counters")
        if (tag is None or tag == self._tags.get(source)) and "dead" not in remote.marks:
            return 0
        counters = self._store.get(mark(source, "counters")) if tag is not None else None
        if counters is not None:  # it may be newer than the list; what it covers was written before it
            remote.pieces = [p[1] for e in self._store.list(f"{RECORDS}{source}/p/") if (p := piece_of(e.key))]
        directory, final = self._root / source, self._root / source
        if not directory.is_dir():  # it appears with its lock and its first bytes, or a reader would take it for dead
            directory = self._root / f".new-{secrets.token_hex(6)}"
            directory.mkdir(mode=0o750)
            self._locks[source] = lock(directory)
        known = read_counters(directory)
        have, total = known.committed if known else (0, 0), 0
        for piece in sorted(remote.pieces):
            if (piece.segment, piece.end) > have:
                data = self._store.get(piece.key(source)).data
                _write_at(segment_path(directory, piece.segment), piece.start, data)
                total += len(data)
        if counters is not None:
            write_atomically(directory / COUNTERS_FILE, zlib.decompress(counters.data))
            self._tags[source] = counters.tag
        if directory != final:
            directory.rename(final)
        return total

    def _end(self, source: str, remote: _Remote) -> bool:
        """Let a source go whose writer is dead; from then on the monitor settles its account."""
        if "dead" not in remote.marks:
            return False
        self._release(source)
        return True

    def _release(self, source: str) -> None:
        (self._root / ".released" / source).touch()
        descriptor = self._locks.pop(source, None)
        if descriptor is not None:
            os.close(descriptor)

    def _released(self, source: str) -> bool:
        return (self._root / ".released" / source).exists()

    def _delete_consumed(self, source: str, remote: _Remote) -> None:
        done = acknowledged(self._root / source)
        for piece in remote.pieces:
            if done is not None and (piece.segment, piece.end) <= (done.segment, done.offset):
                self._store.delete(piece.key(source))

    def _clear(self, source: str, remote: _Remote) -> None:
        """A source that has arrived to its end: what the monitor has consumed goes, and at last its marks."""
        self._delete_consumed(source, remote)
        done, gone = acknowledged(self._root / source), not (self._root / source).is_dir()
        left = [p for p in remote.pieces if done is None or (p.segment, p.end) > (done.segment, done.offset)]
        if not gone and left:
            return  # a tail without a whole frame stays until the monitor has retired the source
        if gone:
            for piece in left:
                self._store.delete(piece.key(source))
            for kind in sorted(remote.marks, key=lambda k: k == "closed"):
                if kind != "closed":  # whoever comes back must find it
                    self._store.delete(mark(source, kind))

    # ---- machines

    def _read_beats(self) -> list[Beat]:
        now, found = self._clock(), set()
        for entry in self._store.list(NODES):
            node = entry.key.removeprefix(NODES)
            found.add(node)
            tag, _, _ = self._beats.get(node, ("", 0.0, None))
            changed = self._store.get_if_changed(entry.key, tag)
            if changed is not None:
                try:
                    self._beats[node] = (changed.tag, now, Beat.load(changed.data))
                except (ValueError, KeyError, TypeError):
                    _log.warning("what a machine says about itself cannot be read")
        self._beats = {node: beat for node, beat in self._beats.items() if node in found}
        return [beat for _, heard, beat in self._beats.values() if now - heard < self._lost_after_s]

    def _give_up_lost(self, sources: dict[str, _Remote]) -> None:
        now = self._clock()
        for node, (_, heard, beat) in self._beats.items():
            if now - heard < self._lost_after_s:
                continue
            for source in beat.sources:
                if self._released(source) or source not in sources or "dead" in sources[source].marks:
                    continue
                _log.error("%s was not heard of for %.0f s: %s is given up", node, now - heard, source)
                self._store.create(mark(source, "closed"), json.dumps({"node": node}).encode())
                self._release(source)


def _sort_in(sources: dict[str, _Remote], entry: ObjectInfo) -> None:
    if (found := piece_of(entry.key)) is not None:
        sources.setdefault(found[0], _Remote()).pieces.append(found[1])
    elif (marked := mark_of(entry.key)) is not None:
        sources.setdefault(marked[0], _Remote()).marks[marked[1]] = entry.tag


def _write_at(path: Path, start: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], start + written)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
