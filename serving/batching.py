"""Zero-wait batching: what arrives while a batch runs forms the next batch. No timer delays a request.

One batcher a loaded version. It counts rows, not requests. Who goes first is decided in `serving.queueing.flows`, who
is turned away in `serving.queueing.gate`; here, when a batch runs and where. Everything happens on the event loop; only
`execute` may run on the batcher's threads.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter_ns
from typing import Generic, TypeVar

from export.contracts.errors import DeadlineExceeded, HardcaseError, Unavailable
from serving.entry import Entry
from serving.queueing.flows import RowQueue
from serving.queueing.gate import Gate, ShedReason
from serving.queueing.level import Batch, Passed
from serving.queueing.policy import DEFAULT_POLICY, QueuePolicy
from serving.stats import ReleaseReason

E = TypeVar("E")

_log = logging.getLogger("hardcase.serving")
_LATE = "the time limit passed before the answer was ready"
_LAGGING = 0.03
_TURN_NS = 5_000_000  # of the loop, for batches one after the other
_OVERLOADED_NS = 100_000_000  # after somebody was turned away
_SMOOTHING = 0.2
SWEEP_S = 0.02  # how late after its deadline a waiting request may hear of it


class Batcher(Generic[E]):
    """The queue of one version.

    Args:
        execute: Runs a batch; called on the loop (inline) or on one of the batcher's threads. Never raises.
        finish: Answers a batch that was executed; called on the loop.
        drop: Answers requests that leave the queue without being executed; called on the loop.
        max_rows: Rows of a batch.
        queue_rows: Rows that may wait.
        inline: Run on the loop; right for batches well under a millisecond. One batch at a time, whatever `depth` says.
        depth: Batches that may be under way at once, each on a thread of its own; all but the first begin only when
            they are full. They start in the order of the queue, and may end in another one.
        execute_part: Runs some rows of one request that has more than `max_rows`; like `execute`.
        join: Makes one result of the parts that have run, given with their first rows; None while some are missing.
        policy: Priorities, time limits, shedding.
        batch_us: Time of one largest batch as measured before, microseconds; infinite when it is not known.
    """

    def __init__(
        self,
        *,
        execute: Callable[[list[Entry]], E],
        finish: Callable[[list[Entry], E, ReleaseReason], None],
        drop: Callable[[list[Entry], HardcaseError | None], None],
        max_rows: int,
        queue_rows: int,
        inline: bool,
        execute_part: Callable[[Entry, int, int], E],
        join: Callable[[Entry, Sequence[tuple[int, E]]], E | None],
        depth: int = 1,
        policy: QueuePolicy = DEFAULT_POLICY,
        batch_us: float = math.inf,
    ) -> None:
        self._execute = execute
        self._execute_part = execute_part
        self._join = join
        self._finish = finish
        self._drop = drop
        self.max_rows = max_rows
        self.inline = inline
        self.depth = 1 if inline else max(1, depth)
        self.queue = RowQueue(policy, max_rows)
        self.gate = Gate(
            self.queue, policy, max_rows=max_rows, queue_rows=queue_rows, batch_ns=batch_us * 1e3 / self.depth
        )
        self._flights: list[Batch] = []  # under way on threads, in the order in which they began
        self._parts: dict[Entry, list[tuple[int, E]]] = {}  # results of the parts of large requests
        self._scheduled = False
        self._closed = False
        self._ended_ns = 0  # when the last batch ended
        self._lag = 0.0  # how long the loop is busy with a batch that has run, in batches; smoothed
        self._sweeper: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, entry: Entry) -> None:
        """Queue a request.

        Raises:
            Overloaded: no place for its rows, or it would wait too long; says when to come back.
            Unavailable: the version is being unloaded.
        """
        if self.queue.rows + entry.plan.rows > self.gate.easy_rows:
            self._admit(entry)
        self.queue.put(entry)
        if not self._scheduled and (not self._flights or self._room_beside()):
            self._schedule(ReleaseReason.IDLE)

    def _admit(self, entry: Entry) -> None:
        """The long way in, for when more than a little waits."""
        if self._closed:
            raise Unavailable("the version is being unloaded")
        pushed_out = self.gate.admit(entry)
        if pushed_out:
            self._drop(pushed_out, self.gate.overloaded(ShedReason.PUSHED_OUT, pushed_out, entry.received_ns))

    def _schedule(self, reason: ReleaseReason) -> None:
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
        self._scheduled = True
        self.loop.call_soon(self._release, reason)

    def _release(self, reason: ReleaseReason) -> None:
        """Take the next batches and run them, as many as may be under way."""
        self._scheduled = False
        if self.inline:
            self._run_inline(reason)
            return
        while not self._flights or self._room_beside():
            batch = self._take(reason)
            if batch is None:
                return
            self._run_on_thread(batch)

    def _run_inline(self, reason: ReleaseReason) -> None:
        """Run a batch on the loop; in overload several, so that reading what is refused does not starve the model."""
        until_ns = 0
        while (batch := self._take(reason)) is not None:
            execution = self._run(batch)
            self._learn(batch)
            more = self.queue.rows >= self.max_rows and batch.begun_ns - self.gate.refused_ns < _OVERLOADED_NS
            again = more and self._ended_ns < (until_ns := until_ns or batch.begun_ns + _TURN_NS)
            if self.queue.rows and not again and not self._scheduled:
                self._schedule(ReleaseReason.FREE)
            self._end(batch, execution)
            if not again:
                return
            reason = ReleaseReason.FREE

    def _room_beside(self) -> bool:
        """Whether a batch may begin beside those under way: a full one only.

        A device computes one batch after the other. A partial batch that began early would wait for its turn as it is,
        while what arrives in that time could have joined it: smaller batches, and nothing sooner. A free thread does
        not begin before the loop, which answers, lets go of the interpreter: when that is long, a batch waits for it.
        """
        return self.queue.rows >= self.max_rows and len(self._flights) < self.depth + (self._lag > _LAGGING)

    def _take(self, reason: ReleaseReason) -> Batch | None:
        """The next batch; who is late, gone or has waited too long is answered instead."""
        queue = self.queue
        if not queue.rows:
            return None
        now = perf_counter_ns()
        crowded = queue.rows >= self.max_rows
        batch = queue.take(now, self.gate.shed_before_ns(now))
        if queue.passed.late or queue.passed.gone or queue.passed.shed:
            self._drop_passed(queue.passed, now)
        if batch is None:
            return None
        batch.crowded = crowded
        batch.begun_ns = now
        batch.since_ns = now if reason is ReleaseReason.IDLE else self._ended_ns
        batch.reason = ReleaseReason.FULL if batch.full and queue.rows else reason
        self.gate.taken(now, batch.entries[0].received_ns)
        return batch

    def _drop_passed(self, passed: Passed, now: int) -> None:
        late, gone, shed = passed.late, passed.gone, passed.shed
        passed.late, passed.gone, passed.shed = [], [], []
        if late:
            self._drop(late, DeadlineExceeded(_LATE))
        if gone:
            self._drop(gone, None)
        if shed:
            self._drop(shed, self.gate.overloaded(ShedReason.STANDING, shed, now))

    def _run(self, batch: Batch) -> E:
        """Execute a batch, or a part of a request. On the loop or a thread; never raises."""
        part = batch.part
        execution = self._execute(batch.entries) if part is None else self._execute_part(batch.entries[0], *part)
        batch.ended_ns = perf_counter_ns()
        return execution

    def _run_on_thread(self, batch: Batch) -> None:
        loop = self.loop
        assert loop is not None  # _schedule set it
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.depth, thread_name_prefix="hardcase-batch")
        self._flights.append(batch)

        def hand_over(future: Future[E]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._landed, batch, future.result())

        try:
            future = self._executor.submit(self._run, batch)
        except RuntimeError:  # the process may have no more threads: these fail, and what comes later tries again
            _log.exception("no thread could be started for a batch")
            self._flights.remove(batch)
            self._drop(batch.entries, Unavailable("the server is out of threads"))
            return
        future.add_done_callback(hand_over)
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    def _landed(self, batch: Batch, execution: E) -> None:
        """A thread is free again: the next batch need not wait until this one's answers are written."""
        self._flights.remove(batch)
        self._learn(batch)
        if self.queue.rows and not self._closed:
            self._release(ReleaseReason.FREE)
        self._end(batch, execution)
        lag = (perf_counter_ns() - batch.ended_ns) / max(1, batch.ended_ns - batch.begun_ns)
        self._lag += _SMOOTHING * (lag - self._lag)

    def _learn(self, batch: Batch) -> None:
        """The pace: by when batches end on their threads, as the loop may hear of two at once."""
        since_ns = max(batch.since_ns, self._ended_ns)
        if batch.crowded and since_ns < batch.ended_ns:
            self.gate.learn(batch.rows, batch.ended_ns - since_ns)
        self._ended_ns = max(self._ended_ns, batch.ended_ns)

    def _end(self, batch: Batch, execution: E) -> None:
        """Answer a batch; a large request when its last part has run, or its first has failed."""
        if batch.part is None:
            self._finish(batch.entries, execution, batch.reason)
            return
        entry = batch.entries[0]
        if entry.answered or entry.cancelled:
            self._parts.pop(entry, None)
            self._drop([entry], None)  # does nothing when it was answered
            return
        parts = self._parts.setdefault(entry, [])
        parts.append((batch.part[0], execution))
        whole = self._join(entry, parts)
        if whole is not None:
            del self._parts[entry]
            self._finish(batch.entries, whole, batch.reason)

    def _sweep(self) -> None:
        """While batches run on threads: answer what is past its deadline, waiting or running."""
        self._sweeper = None
        now = perf_counter_ns()
        late, gone = self.queue.purge(now)
        late += [e for flight in self._flights for e in flight.entries if e.deadline_ns <= now and not e.answered]
        if late:
            self._drop(late, DeadlineExceeded(_LATE))
        if gone:
            self._drop(gone, None)
        if (self._flights or self.queue.rows) and self.loop is not None:
            self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def on_loop(self, call: Callable[[], None]) -> Callable[[], None]:
        """What another thread may call so that `call` runs on the batcher's loop."""
        loop = self.loop

        def pass_on() -> None:
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(call)

        return pass_on

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a batch."""
        return self.queue.rows

    @property
    def running(self) -> int:
        """Batches under way on threads."""
        return len(self._flights)

    @property
    def busy_since_ns(self) -> int:
        """When the oldest of the running batches began (`perf_counter_ns`); 0 when none runs."""
        return self._flights[0].begun_ns if self._flights else 0

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self.queue.rows and not self._flights

    def close(self) -> None:
        """Take nothing more, and answer what still waits with Unavailable. Call when idle, or when patience is over."""
        self._closed = True
        self.gate.easy_rows = -1
        waiting = self.queue.clear()
        if waiting:
            self._drop(waiting, Unavailable("the version was unloaded"))
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=False)
