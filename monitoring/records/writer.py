"""Capture: takes record batches from the event loop, writes them from a thread of its own.

The event loop pays for a list append. What is lost, and who is told: records past `buffer_bytes`, past `quota_bytes`,
or refused by the disk are dropped and counted by reason, per model and version, in the counter file; the answers to the
clients are never delayed beyond what the chosen durability says, and never fail because of capture.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from monitoring.records.counters import Accounting, CounterFile, Global, Slot
from monitoring.records.encode import Encoder, encode, payload_bytes, select
from monitoring.records.folders import lock, new_incarnation, safe_replica
from monitoring.records.frames import Kind
from monitoring.records.layout import StreamLayout
from monitoring.records.log import DataFrame, SegmentLog
from monitoring.records.record import CaptureOptions, DropReason, Durability, Event, Feedback, RecordBatch, written
from monitoring.records.sampling import sampled
from monitoring.records.segment import sync_directory

logger = logging.getLogger(__name__)

_FRAME_BYTES = 256 << 10  # batches are merged up to this, so that the interpreter lock is held for short times only
_GROUP_BYTES = 8 << 20  # one turn of the writer thread takes at most this, so that callbacks are not kept waiting
_FEEDBACK_PER_FRAME = 256
_SIDE_ITEMS = 16_384  # feedback and events that may wait
_EAGER_SHARE = 8  # in ASYNC mode the thread starts early when 1/8 of the buffer waits


class LogInUse(RuntimeError):
    """The folder belongs to another writer. Start with a new incarnation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Where the writer reads the time: wall clock for stamps, monotonic seconds for ages and waits."""

    wall_ns: Callable[[], int] = time.time_ns
    monotonic: Callable[[], float] = time.monotonic


class _State(IntEnum):
    """What the writer thread is doing, so that `offer` wakes it only when that is needed."""

    BUSY = 0  # it will look at the queue again before it sleeps
    GATHERING = 1  # it sleeps for the flush interval; only a filling buffer is worth waking it
    IDLE = 2  # it sleeps until something comes


@dataclass(slots=True)
class _Group:
    """Batches of one stream that will become one frame."""

    layout: StreamLayout
    batches: list[RecordBatch]
    nbytes: int = 0


class RecordLogWriter:
    """Writes the record log of one replica.

    `offer` and `Slot.received` belong to one thread, the event loop's. Everything else may be called from any thread.

    Args:
        root: Folder of all logs; made if needed. The writer makes `<replica>-<incarnation>` in it.
        replica: Name of the replica, for people.
        options: See `CaptureOptions`.
        incarnation: 24 hex digits that no other writer of this root has; made when None.

    Raises:
        LogInUse: the folder exists already.
        OSError: the folder cannot be made.
        ValueError: an option that cannot be followed.
    """

    def __init__(
        self,
        root: Path,
        replica: str,
        options: CaptureOptions,
        *,
        clock: Clock | None = None,
        incarnation: str | None = None,
    ) -> None:
        if not 0.0 <= options.sample <= 1.0:
            raise ValueError(f"sample is {options.sample}: it must lie in 0..1")
        self._clock = clock or Clock()
        incarnation = incarnation or new_incarnation(self._clock.wall_ns())
        self._options = options
        self._durable = options.durability is not Durability.ASYNC
        self.directory, self._lock_fd, self._counters = _make_folder(Path(root), safe_replica(replica), incarnation)
        self._log = SegmentLog(
            self.directory,
            replica=replica,
            incarnation=incarnation,
            options=options,
            counters=self._counters,
            monotonic=self._clock.monotonic,
            wall_ns=self._clock.wall_ns,
        )
        self._pending: deque[tuple[object, Callable[..., None] | None, int]] = deque()
        self._offered = 0  # bytes ever queued by the event loop
        self._drained = 0  # ... and taken off the queue by the writer thread
        self._eager = min(options.buffer_bytes // _EAGER_SHARE, _GROUP_BYTES)
        self._side_lock = threading.Lock()  # feedback and events come from any thread
        self._side_waiting = 0
        self._side_dropped = [0, 0]  # feedback, events: counted here by any thread, moved to the page by the writer's
        self._encoder = Encoder()
        self._streams: dict[int, tuple[StreamLayout, pa.Schema, pa.Buffer]] = {}
        self._random = np.random.default_rng()
        self._state = _State.BUSY
        self._bell = threading.Lock()
        self._bell.acquire()
        self._hurry = False
        self._closed = False
        self._timeout_s = 5.0
        self._thread = threading.Thread(target=self._run, name="hardcase-records", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        _detach_after_fork(self)

    # ---- called by the event loop --------------------------------------------------------------------------------

    def slot(self, model: str, version: str) -> Slot:
        """The counters of a (model, version); ("", "") counts requests whose model is unknown."""
        return self._counters.slot(model, version)

    def offer(self, batch: RecordBatch, on_durable: Callable[[], None] | None = None) -> None:
        """Hand over records; never blocks, never raises.

        Args:
            batch: Belongs to the writer from now on.
            on_durable: Called once, from the writer thread, when what the durability promises holds, or when the
                records were dropped and counted. When the buffer is full it is called at once, from this thread.
        """
        try:
            nbytes = payload_bytes(batch)
        except Exception:
            logger.exception("a malformed record batch was dropped")
            nbytes = self._options.buffer_bytes + 1
        waiting = self._offered - self._drained + nbytes
        if waiting > self._options.buffer_bytes or self._closed:
            self.slot(batch.schema.model, batch.schema.version).dropped(DropReason.BUFFER_FULL, len(batch.ids))
            if on_durable is not None:
                self._call(on_durable)
            return
        self._offered += nbytes
        self._pending.append((batch, on_durable, nbytes))
        state = self._state
        if state is _State.IDLE or (state is _State.GATHERING and waiting > self._eager):
            self._ring()

    # ---- called by anybody ---------------------------------------------------------------------------------------

    def feedback(self, item: Feedback, on_written: Callable[[bool], None] | None = None) -> None:
        """Record feedback; never sampled out. `on_written` hears once whether it is in the log for certain."""
        self._side(item, on_written)

    def event(self, event: Event) -> None:
        """Record an event of the replica's life."""
        self._side(event, None)

    def accounting(self) -> Mapping[tuple[str, str], Accounting]:
        """Where the requests went so far, per (model, version)."""
        return {slot.key: slot.accounting() for slot in self._counters.slots()}

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything offered before has been written or dropped; False when that took longer."""
        if self._closed:
            return not self._thread.is_alive()
        done = threading.Event()
        self._pending.append((None, done.set, 0))
        self._hurry = True
        self._ring()
        return done.wait(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write everything, seal, and let go of the folder. Later offers are counted as dropped. Idempotent."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._timeout_s = timeout_s
        self._hurry = True
        self._ring()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.warning("the record log was not written out within %.1f s; the disk does not answer", timeout_s)
            return
        self._counters.close()
        os.close(self._lock_fd)

    # ---- the writer thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._closed and not self._pending):
            self._wait()
            try:
                self._turn()
                self._log.seal_if_old()
            except Exception:
                logger.exception("the record log's writer failed in one turn and goes on")
        self._turn()
        self._log.close(self._timeout_s)

    def _wait(self) -> None:
        """Sleep until there is work; in ASYNC mode then let it gather for the flush interval."""
        self._state = _State.IDLE
        if not self._pending and not self._closed:
            patience_s = self._log.seal_in_s()
            self._bell.acquire(timeout=-1 if patience_s == float("inf") else max(0.0, patience_s))
        if not self._durable and self._pending and not self._hurry:
            self._state = _State.GATHERING
            if self._offered - self._drained <= self._eager and not self._hurry:
                self._bell.acquire(timeout=self._options.flush_interval_s)
        self._state = _State.BUSY
        self._hurry = False

    def _turn(self) -> None:
        """Write one group: everything that waits, up to a bound. In the durable modes this is the group commit."""
        callbacks: list[Callable[[], None]] = []
        opinions: list[Callable[[bool], None]] = []
        groups: dict[int, _Group] = {}
        side: list[Feedback | Event] = []
        taken = 0
        while self._pending and taken < _GROUP_BYTES:
            item, on_durable, nbytes = self._pending.popleft()
            taken += nbytes
            if on_durable is not None:
                (opinions if isinstance(item, Feedback) else callbacks).append(on_durable)
            if isinstance(item, RecordBatch):
                self._collect(item, nbytes, groups)
            elif isinstance(item, Feedback | Event):
                side.append(item)
        kept, dropped = False, int(self._counters.globals[Global.FEEDBACK_DROPPED])
        try:
            for group in groups.values():
                self._write(group.layout, group.batches)
            self._write_side(side)
            self._log.sync()
            kept = self._counters.globals[Global.FEEDBACK_DROPPED] == dropped  # else one is gone: nobody is told "yes"
        finally:
            self._drained += taken
            self._hurry = taken >= _GROUP_BYTES  # what is left has waited already
            callbacks += [partial(tell, kept) for tell in opinions]
            for call in callbacks:
                self._call(call)

    def _write_side(self, items: Sequence[Feedback | Event]) -> None:
        """Write feedback and events, and account for those that found the queue full."""
        encoded: list[bytes] = []
        with self._side_lock:
            self._side_waiting -= len(items)
            (feedback_dropped, events_dropped), self._side_dropped = self._side_dropped, [0, 0]
        for item in items:
            try:
                payload = json.dumps(written(item), separators=(",", ":")).encode()
            except (TypeError, ValueError):
                logger.exception("feedback or an event that is not JSON was dropped")
                feedback_dropped += isinstance(item, Feedback)
                events_dropped += isinstance(item, Event)
                continue
            if isinstance(item, Feedback):
                encoded.append(payload)
            else:
                self._log.write(DataFrame(kind=Kind.EVENT, count=1, payload=payload))
        for start in range(0, len(encoded), _FEEDBACK_PER_FRAME):
            some = encoded[start : start + _FEEDBACK_PER_FRAME]
            payload = b"[" + b",".join(some) + b"]"
            self._log.write(DataFrame(kind=Kind.FEEDBACK, count=len(some), payload=payload))
        self._counters.globals[Global.FEEDBACK_DROPPED] += feedback_dropped
        self._counters.globals[Global.EVENTS_DROPPED] += events_dropped

    def _collect(self, batch: RecordBatch, nbytes: int, groups: dict[int, _Group]) -> None:
        """Sample a batch and put it with its like; write a group that has become large enough."""
        try:
            layout = self._encoder.stream(batch)
            parts, out = sampled(batch, self._options.sample, self._random)
            if out:
                self.slot(batch.schema.model, batch.schema.version).sampled_out(out)
            for part in parts:
                if part is not batch:
                    layout = self._encoder.stream(part)
                group = groups.get(id(layout))
                if group is None:
                    group = groups[id(layout)] = _Group(layout, [])
                if group.batches and group.nbytes + nbytes > _FRAME_BYTES:
                    self._write(layout, group.batches)
                    group.batches, group.nbytes = [], 0
                group.batches.append(part)
                group.nbytes += nbytes
        except Exception:
            logger.exception("a malformed record batch was dropped")
            self.slot(batch.schema.model, batch.schema.version).dropped(DropReason.WRITE_ERROR, len(batch.ids))

    def _write(self, layout: StreamLayout, batches: Sequence[RecordBatch]) -> None:
        """Encode and append batches of one stream as one frame, or as several when they are too many for one."""
        slot = self.slot(layout.model, layout.version)
        count = sum(len(b.ids) for b in batches)
        known = self._streams.get(id(layout))
        if known is None:
            if len(self._streams) > 8192:
                self._streams.clear()
            schema = layout.arrow_schema()
            known = self._streams[id(layout)] = (layout, schema, schema.serialize())
        try:
            payload = encode(layout, known[1], batches)
        except Exception:
            if len(batches) > 1:  # one bad batch must not take its neighbours with it
                for batch in batches:
                    self._write(layout, [batch])
            else:
                logger.exception("a malformed record batch was dropped")
                slot.dropped(DropReason.WRITE_ERROR, count)
            return
        if len(payload) <= self._options.max_frame_bytes:
            frame = DataFrame(
                kind=Kind.RECORDS, count=count, payload=payload, layout=layout, schema_message=known[2], slot=slot
            )
            self._log.write(frame)
        elif count == 1:
            slot.dropped(DropReason.TOO_LARGE, 1)
        elif len(batches) > 1:
            for batch in batches:
                self._write(layout, [batch])
        else:
            self._write(layout, [select(batches[0], range(count // 2))])
            self._write(layout, [select(batches[0], range(count // 2, count))])

    # ---- helpers -------------------------------------------------------------------------------------------------

    def _side(self, item: Feedback | Event, on_written: Callable[[bool], None] | None) -> None:
        with self._side_lock:
            full = self._closed or self._side_waiting >= _SIDE_ITEMS
            self._side_waiting += not full
            self._side_dropped[0 if isinstance(item, Feedback) else 1] += full
        refused = partial(on_written, False) if full and on_written is not None else None
        if self._closed:
            self._call(refused or bool)
            return
        self._pending.append((None, refused, 0) if full else (item, on_written, 0))
        if self._state is _State.IDLE:
            self._ring()

    def _ring(self) -> None:
        self._state = _State.BUSY
        try:
            self._bell.release()
        except RuntimeError:  # it rings already
            return

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            logger.exception("a callback of the record log failed")

    def _detach(self) -> None:
        """In a forked child: there is no writer thread, and the files and counters are the parent's."""
        self._closed = True
        self._pending.clear()
        atexit.unregister(self.close)
        self._counters.detach()
        os.close(self._lock_fd)


def _make_folder(root: Path, replica: str, incarnation: str) -> tuple[Path, int, CounterFile]:
    """Make the writer's folder, locked and with its counters, so that a reader never sees it half made."""
    root.mkdir(parents=True, exist_ok=True)
    directory = root / f"{replica}-{incarnation}"
    hidden = root / f".{directory.name}.tmp"
    try:
        hidden.mkdir()
        lock_fd = lock(hidden)
    except (FileExistsError, BlockingIOError):
        raise LogInUse(f"the record log folder of replica '{replica}' is in use by another writer") from None
    try:
        counters = CounterFile(hidden, replica, incarnation)
        if directory.exists():
            raise LogInUse(f"the record log folder of replica '{replica}' exists already")
        hidden.rename(directory)
        sync_directory(root)
    except (OSError, LogInUse):
        os.close(lock_fd)
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return directory, lock_fd, counters


_WRITERS: weakref.WeakSet[RecordLogWriter] = weakref.WeakSet()
_FORK_HOOK: list[bool] = []


def _detach_all() -> None:
    for writer in list(_WRITERS):
        writer._detach()


def _detach_after_fork(writer: RecordLogWriter) -> None:
    if not _FORK_HOOK:
        _FORK_HOOK.append(True)
        os.register_at_fork(after_in_child=_detach_all)
    _WRITERS.add(writer)
