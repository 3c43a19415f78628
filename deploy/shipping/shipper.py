"""Sends a machine's record log to the bucket, and removes from the machine what has arrived there.

One round: for every source the bytes that its writer has committed, then the counters that were read before them, then
the machine's beat. Sending again what was sent is harmless: same key, same bytes. The local acknowledgement is written
after the bucket's, so a shipper that is killed anywhere goes on where it stood. When the bucket is away the log waits
on the disk, within the writer's quota, and the writer counts what it must drop.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.shipping.keys import NODES, Beat, Piece, mark
from export.storage.objects import ObjectStore
from monitoring.records.counters import COUNTERS_FILE, read_counters
from monitoring.records.folders import (
    Position,
    acknowledge,
    delete_before,
    is_locked,
    list_sources,
    write_atomically,
)
from monitoring.records.frames import segment_numbers, segment_path

_SHIPPED_FILE = "shipped.json"  # not the acknowledgement: a monitor may have read this folder before
_PIECE_BYTES = 16 << 20
_LOOK_FOR_CLOSED_S = 30.0
_log = logging.getLogger("hardcase.shipping")


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """What a round sent."""

    bytes: int = 0
    sources: int = 0
    finished: int = 0


class Shipper:
    """Sends what one machine's writers write.

    Args:
        root: The record log's folder.
        store: The bucket.
        node: This machine's name.
        wall_ns: Nanoseconds since the epoch.
        targets: Gives `host:port` of the replicas that this machine knows of.
    """

    def __init__(
        self,
        root: Path,
        store: ObjectStore,
        node: str,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        targets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._root, self._store, self._node, self._wall_ns, self._targets = root, store, node, wall_ns, targets
        self._seen_dead: set[str] = set()
        self._sent_counters: dict[str, bytes] = {}
        self._closed: set[str] = set()
        self._looked = 0.0

    def round(self) -> Shipped:
        """Send what is new.

        Raises:
            StorageUnavailable: the bucket is away; what was not sent stays where it is.
        """
        as_of, total, finished = self._wall_ns(), 0, 0
        sources = list_sources(self._root)
        self._look_for_closed(sources)
        left = [s for s in sources if s not in self._closed]
        for source in left.copy():
            sent, ended = self._ship(source)
            total += sent
            if ended:
                finished += 1
                left.remove(source)
        self._store.put(
            NODES + self._node, Beat(as_of_ns=as_of, sources=tuple(left), targets=tuple(self._targets())).dump()
        )
        return Shipped(bytes=total, sources=len(sources), finished=finished)

    def leave(self) -> bool:
        """Say that this machine has nothing more to send; False when a source is still alive or not sent."""
        if any(source not in self._closed for source in list_sources(self._root)):
            return False
        self._store.delete(NODES + self._node)
        return True

    def _ship(self, source: str) -> tuple[int, bool]:
        directory = self._root / source
        alive = is_locked(directory)
        counters = _raw_counters(directory)  # before the bytes: they cover no more than what is sent after them
        committed = read_counters(directory) if alive else None
        if alive and committed is None:
            return 0, False
        if not alive and source not in self._seen_dead:
            self._seen_dead.add(source)  # a folder may be a moment older than its writer's lock
            return 0, False
        place, sent = _shipped(directory), 0
        end = place
        for piece in _pieces(directory, place, committed.committed if committed else None):
            with segment_path(directory, piece.segment).open("rb") as file:
                file.seek(piece.start)
                data = file.read(piece.end - piece.start)
            if len(data) != piece.end - piece.start:
                break
            self._store.put(piece.key(source), data)
            sent += len(data)
            end = Position(piece.segment, piece.end, 0)
        if counters and self._sent_counters.get(source) != counters:
            self._store.put(mark(source, "counters"), zlib.compress(counters, 1))
            self._sent_counters[source] = counters
        if end > place:
            write_atomically(directory / _SHIPPED_FILE, json.dumps(asdict(end)).encode())
            acknowledge(directory, end)
            delete_before(directory, end.segment)
        if alive:
            return sent, False
        self._store.put(mark(source, "dead"), json.dumps({"segment": end.segment, "offset": end.offset}).encode())
        shutil.rmtree(directory)
        self._sent_counters.pop(source, None)
        return sent, True

    def _look_for_closed(self, sources: tuple[str, ...]) -> None:
        if time.monotonic() - self._looked < _LOOK_FOR_CLOSED_S and self._looked:
            return
        self._looked = time.monotonic()
        for source in sources:
            if source not in self._closed and self._store.exists(mark(source, "closed")):
                self._closed.add(source)
                _log.error("%s was given up by the monitor while this machine was away: it is sent no more", source)


def _raw_counters(directory: Path) -> bytes:
    try:
        return (directory / COUNTERS_FILE).read_bytes()
    except FileNotFoundError:
        return b""


def _shipped(directory: Path) -> Position:
    try:
        return Position(**json.loads((directory / _SHIPPED_FILE).read_bytes()))
    except FileNotFoundError:
        return Position(1, 0, 0)


def _pieces(directory: Path, place: Position, committed: tuple[int, int] | None) -> Iterator[Piece]:
    """What lies behind `place`: of a living writer what it has committed, of a dead one everything."""
    for number in segment_numbers(directory):
        if number < place.segment:
            continue
        if committed is not None and number > committed[0]:
            return
        end = segment_path(directory, number).stat().st_size
        if committed is not None and number == committed[0]:
            end = min(end, committed[1])
        start = place.offset if number == place.segment else 0
        while start < end:
            stop = min(end, start + _PIECE_BYTES)
            yield Piece(number, start, stop)
            start = stop
