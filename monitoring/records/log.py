"""The segments of one writer: appends frames, rolls, seals, keeps to the quota, survives a failing disk.

Used by the writer thread alone. Every frame that `write` and `sync` took is counted exactly once: captured, or dropped
with its reason.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitoring.records.counters import CounterFile, Global, Slot, commit_value
from monitoring.records.folders import (
    FINAL_FILE,
    acknowledged,
    delete_before,
    is_locked,
    list_sources,
    log_bytes,
)
from monitoring.records.frames import FORMAT_VERSION, REFERENCE, Buffer, Kind, SegmentHeader, segment_path
from monitoring.records.layout import StreamLayout
from monitoring.records.record import CaptureOptions, DropReason, Durability
from monitoring.records.segment import AppendedFrame, Segment, SegmentError, reason_of, sync_directory

logger = logging.getLogger(__name__)

_SYNC_ATTEMPTS = 3
_USAGE_EVERY_S = 1.0
_RESERVE = 16  # 1/16 of the quota is kept for feedback and events, which are few and cannot be had again


@dataclass(slots=True, kw_only=True)
class DataFrame:
    """One data frame on its way to the disk.

    Attributes:
        layout: For record frames, the stream; its schema is written ahead of the first frame of a segment.
        schema_message: The stream's Arrow schema message.
        slot: Where to count the records; None for feedback and events, which count `count` under `written`.
    """

    kind: Kind
    count: int
    payload: Buffer
    layout: StreamLayout | None = None
    schema_message: Buffer = b""
    slot: Slot | None = None

    @property
    def counters(self) -> tuple[Global, Global]:
        """Written and dropped counter of a frame without slot."""
        if self.kind is Kind.FEEDBACK:
            return Global.FEEDBACK, Global.FEEDBACK_DROPPED
        return Global.EVENTS, Global.EVENTS_DROPPED


@dataclass(frozen=True, slots=True)
class _End:
    """A trusted end of the log: what the next segment's header says about the one before."""

    segment: int = 0
    size: int = 0
    frames: int = 0
    sequence: int = 0
    chain: int = 0


class SegmentLog:
    """The segments of one incarnation, in order."""

    def __init__(
        self,
        directory: Path,
        *,
        replica: str,
        incarnation: str,
        options: CaptureOptions,
        counters: CounterFile,
        monotonic: Callable[[], float],
        wall_ns: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._replica = replica
        self._incarnation = incarnation
        self._options = options
        self._counters = counters
        self._monotonic = monotonic
        self._wall_ns = wall_ns
        self._synced = options.durability is Durability.SYNCED
        self._segment: Segment | None = None
        self._number = 0
        self._end = _End()  # trusted end of the last segment, open or not
        self._previous = _End()  # ... and of the one before
        self._totals: dict[tuple[str, str], int] = {}
        self._unsynced: list[DataFrame] = []
        self._sealed_bytes = 0  # own closed segments and the segments of dead writers
        self._full_at = -_USAGE_EVERY_S  # when no space was found the last time
        self._syncer = _Syncer()
        self._failures_seen = 0
        self._measure()

    def write(self, frame: DataFrame) -> None:
        """Append a frame; count it as dropped when that cannot be. In SYNCED mode it counts only after `sync`."""
        try:
            self._append(frame)
        except SegmentError as error:
            self._drop([frame], error.reason)
            return
        except OSError as error:
            logger.warning("the record log refused a frame: %s", error.strerror)
            self._drop([frame], reason_of(error))
            return
        if self._synced:
            self._unsynced.append(frame)
        else:
            self._commit([frame])

    def sync(self) -> None:
        """In SYNCED mode, force what was written to the disk.

        After a failed fsync the kernel may have marked lost pages as clean, so it is never asked again: the frames go
        into a new segment.
        """
        reason = DropReason.WRITE_ERROR
        for _ in range(_SYNC_ATTEMPTS):
            frames, segment = self._unsynced, self._segment
            if not frames or segment is None:
                return
            try:
                segment.sync()
                if not self._end.frames:  # first sync of this file: its name must survive too
                    sync_directory(self._directory)
            except (SegmentError, OSError) as error:
                if isinstance(error, SegmentError):
                    reason = error.reason
                self._unsynced = []
                self._poison(segment)
                for frame in frames:
                    self.write(frame)
            else:
                self._unsynced = []
                self._commit(frames)
                return
        frames, self._unsynced = self._unsynced, []
        if self._segment is not None:
            self._poison(self._segment)
        self._drop(frames, reason)

    def seal_if_old(self) -> None:
        """Seal the open segment when its age is reached."""
        if self._segment is not None and self.seal_in_s() <= 0:
            self.seal()

    def seal_in_s(self) -> float:
        """Seconds until the open segment is old enough to be sealed; infinite when there is none."""
        if self._segment is None:
            return float("inf")
        return self._options.segment_age_s - (self._monotonic() - self._segment.opened_s)

    def seal(self) -> None:
        """Write the footer and close the open segment; its fsync happens on another thread, unless mode is SYNCED."""
        self.sync()
        segment = self._segment
        if segment is None:
            return
        self._segment = None
        # The records are trusted already; only the footer may fail, and the next header says where they end.
        try:
            segment.footer()
            self._end = _end_of(segment)
            self._publish(segment)
        except SegmentError as error:
            logger.warning("a segment of the record log was closed without its footer: %s", error.reason.value)
        if self._synced:
            try:
                segment.sync()
            except SegmentError:
                self._counters.globals[Global.POISONED] += 1
                logger.warning("fsync of a sealed segment failed: its footer may be lost")
        self._sealed_bytes += segment.size
        if self._synced:
            os.close(segment.fd)
        else:
            self._syncer.hand_over(segment.fd)
        self._count_poisoned()

    def close(self, timeout_s: float) -> None:
        """Seal and wait for the fsync."""
        self.seal()
        self._syncer.close(timeout_s)
        self._count_poisoned()
        self._counters.globals[Global.CLEAN] = 1

    def _append(self, frame: DataFrame) -> None:
        size = len(frame.payload) + len(frame.schema_message) + 4096
        self._check_quota(size, reserve=frame.kind is Kind.RECORDS)
        segment = self._segment
        if segment is not None and segment.size + size > self._options.segment_bytes and segment.frames > 1:
            self.seal()
            segment = self._segment
        if segment is None:
            segment = self._open()
        sequence = segment.sequence + 1
        if frame.layout is None:
            frames: list[AppendedFrame] = [(frame.kind, sequence, frame.count, [frame.payload])]
            schema_id = 0
        else:
            schema_id = segment.schema_id(frame.layout)
            reference = REFERENCE.pack(schema_id, 0)
            frames = [(frame.kind, sequence, frame.count, [reference, frame.payload])]
            if id(frame.layout) not in segment.schemas:
                frames.insert(0, (Kind.SCHEMA, segment.sequence, 0, [reference, frame.schema_message]))
        try:
            segment.append(frames)
        except SegmentError:
            if segment.broken or not segment.size:
                self._give_up(segment)
            raise
        if frame.layout is not None:
            segment.schemas[id(frame.layout)] = (schema_id, frame.layout)

    def _open(self) -> Segment:
        number = self._number + 1
        while segment_path(self._directory, number).exists():  # left by an append that failed, and did not go away
            number += 1
        header = SegmentHeader(
            format=FORMAT_VERSION,
            replica=self._replica,
            incarnation=self._incarnation,
            segment=number,
            created_ns=self._wall_ns(),
            previous=self._end.segment,
            previous_end=self._end.size,
            previous_sequence=self._end.sequence,
            previous_chain=self._end.chain,
            totals=tuple((m, v, n) for (m, v), n in self._totals.items()),
        )
        segment = Segment(self._directory, header, now_s=self._monotonic())
        self._segment, self._number = segment, segment.number
        self._previous = self._end
        self._end = _End(segment=number, sequence=self._end.sequence)
        return segment

    def _give_up(self, segment: Segment) -> None:
        """After a failed append to a file that cannot go on."""
        self._segment = None
        if self._unsynced:  # written before the failure and never synced
            frames, self._unsynced = self._unsynced, []
            self._poison(segment)
            for frame in frames:
                self.write(frame)
            return
        if segment.size:
            self._sealed_bytes += segment.size
            self._end = _end_of(segment)
            os.close(segment.fd)
            return
        # Not even the header could be written: the number is used again.
        self._number = segment.number - 1
        self._end = self._previous
        os.close(segment.fd)
        with contextlib.suppress(OSError):
            segment.path.unlink()

    def _poison(self, segment: Segment) -> None:
        """Cut a segment back to its trusted end, close it, and never touch it again."""
        end = self._end
        segment.abandon(size=end.size, frames=end.frames, sequence=end.sequence, chain=end.chain)
        self._sealed_bytes += segment.size
        self._segment = None
        self._counters.globals[Global.POISONED] += 1
        logger.warning("fsync of the record log failed: segment %d is given up, a new one begins", segment.number)

    def _commit(self, frames: Sequence[DataFrame]) -> None:
        segment = self._segment
        if segment is not None:
            self._end = _end_of(segment)
            self._publish(segment)
        for frame in frames:
            if frame.slot is None:
                self._counters.globals[frame.counters[0]] += frame.count
            else:
                frame.slot.captured(frame.count)
                key = (frame.layout.model, frame.layout.version) if frame.layout else frame.slot.key
                self._totals[key] = self._totals.get(key, 0) + frame.count

    def _publish(self, segment: Segment) -> None:
        self._counters.globals[Global.COMMITTED] = commit_value(segment.number, segment.size)

    def _drop(self, frames: Sequence[DataFrame], reason: DropReason) -> None:
        for frame in frames:
            if frame.slot is None:
                self._counters.globals[frame.counters[1]] += frame.count
            else:
                frame.slot.dropped(reason, frame.count)

    def _count_poisoned(self) -> None:
        failures = self._syncer.failures  # counted up by the other thread
        self._counters.globals[Global.POISONED] += failures - self._failures_seen
        self._failures_seen = failures

    def _check_quota(self, size: int, *, reserve: bool) -> None:
        quota = self._options.quota_bytes
        limit = quota - quota // _RESERVE if reserve else quota
        if self._used() + size <= limit:
            return
        now = self._monotonic()
        if now - self._full_at < _USAGE_EVERY_S:  # looked in vain a moment ago: looking costs a walk over the disk
            raise SegmentError(DropReason.QUOTA)
        self._measure()
        self._full_at = now
        missing = self._used() + size - limit
        if missing > 0:
            self._reclaim(missing + quota // _RESERVE)
            self._measure()
            if self._used() + size > limit:
                raise SegmentError(DropReason.QUOTA)
        self._full_at = -_USAGE_EVERY_S

    def _used(self) -> int:
        return self._sealed_bytes + (self._segment.size if self._segment else 0)

    def _measure(self) -> None:
        """Take stock of what lies on the disk: readers delete, and other writers die."""
        dead = sum(log_bytes(directory) for directory in self._dead())
        self._sealed_bytes = dead + log_bytes(self._directory) - (self._segment.size if self._segment else 0)

    def _dead(self) -> list[Path]:
        root = self._directory.parent
        others = (root / name for name in list_sources(root) if name != self._directory.name)
        return [directory for directory in others if not is_locked(directory)]

    def _reclaim(self, at_least: int) -> None:
        """Delete segments that the monitor has acknowledged, those of dead writers first."""
        for directory in (*self._dead(), self._directory):
            done = acknowledged(directory)
            # A dead log may only shrink once its account is settled: the settling counts what it holds.
            if done is None or (directory != self._directory and not (directory / FINAL_FILE).exists()):
                continue
            at_least -= delete_before(directory, done.segment, at_least=at_least)
            if at_least <= 0:
                return


def _end_of(segment: Segment) -> _End:
    return _End(segment.number, segment.size, segment.frames, segment.sequence, segment.chain)


class _Syncer:
    """Forces sealed segments to the disk away from the writer thread, whose promise is about milliseconds."""

    def __init__(self) -> None:
        self.failures = 0
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def hand_over(self, fd: int) -> None:
        """Sync and close a descriptor."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hardcase-records-sync", daemon=True)
            self._thread.start()
        self._queue.put(fd)

    def close(self, timeout_s: float) -> None:
        """Finish what was handed over."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(max(0.0, timeout_s))

    def _run(self) -> None:
        while (fd := self._queue.get()) is not None:
            try:
                os.fdatasync(fd)
            except OSError:
                self.failures += 1
                logger.warning("fsync of a sealed segment failed: it survives a crash, perhaps not a power loss")
            finally:
                os.close(fd)
            time.sleep(0)
