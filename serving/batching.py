"""Zero-wait batching: what arrives while a batch runs forms the next batch. No timer delays a request.

One batcher a loaded version. It counts rows, not requests. Requests share a batch when their queue keys are equal (same
priority, same row shapes). Everything here happens on the event loop; only `execute` may run on the batcher's threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter_ns
from typing import Generic, TypeVar

from export.contracts.errors import DeadlineExceeded, HardcaseError, Overloaded, Unavailable
from serving.entry import Entry
from serving.request_plan import QueueKey
from serving.stats import ReleaseReason

E = TypeVar("E")

SWEEP_S = 0.02  # how late after its deadline a waiting request may hear of it


class Flight:
    """A batch under way on one of the batcher's threads."""

    __slots__ = ("batch", "begun_ns", "reason")

    def __init__(self, batch: list[Entry], reason: ReleaseReason) -> None:
        self.batch = batch
        self.reason = reason
        self.begun_ns = perf_counter_ns()


class Batcher(Generic[E]):
    """The queue of one version.

    Args:
        execute: Runs a batch; called on the loop (inline) or on one of the batcher's threads. Never raises.
        finish: Answers a batch that was executed; called on the loop.
        drop: Answers requests that leave the queue without being executed; called on the loop.
        max_rows: Rows of a batch; a single request may exceed it, `execute` then splits it.
        queue_rows: Rows that may wait.
        inline: Run on the loop; right for batches well under a millisecond. One batch at a time, whatever `depth` says.
        depth: Batches that may be under way at once, each on a thread of its own. They start in the order of the
            queue, and may end in another one.
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
        depth: int = 1,
    ) -> None:
        self._execute = execute
        self._finish = finish
        self._drop = drop
        self.max_rows = max_rows
        self.queue_rows = queue_rows
        self.inline = inline
        self.depth = 1 if inline else max(1, depth)
        self.waiting_rows = 0
        self._queues: dict[QueueKey, deque[Entry]] = {}
        self._flights: list[Flight] = []  # in the order in which they began
        self._scheduled = False
        self._closed = False
        self._row_ns = 0.0  # smoothed time a row takes, for Retry-After
        self._sweeper: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, entry: Entry) -> None:
        """Queue a request.

        Raises:
            Overloaded: no place for its rows; says when one is likely.
            Unavailable: the version is being unloaded.
        """
        rows = entry.plan.rows
        if self.waiting_rows + rows > self.queue_rows and self.waiting_rows:
            raise Overloaded(f"the queue is full: {self.waiting_rows} rows wait", self._retry_after_s())
        if self._closed:
            raise Unavailable("the version is being unloaded")
        key = entry.plan.queue
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
        queue.append(entry)
        self.waiting_rows += rows
        if not self._scheduled and len(self._flights) < self.depth:
            self._schedule(ReleaseReason.IDLE)

    def _schedule(self, reason: ReleaseReason) -> None:
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
        self._scheduled = True
        self.loop.call_soon(self._release, reason)

    def _release(self, reason: ReleaseReason) -> None:
        """Take the next batches and run them, as many as may be under way."""
        self._scheduled = False
        if self.inline:
            batch, reason = self._take(reason)
            if batch:
                begun_ns = perf_counter_ns()
                execution = self._execute(batch)
                self._learn(batch, begun_ns)
                if self._queues and not self._scheduled:
                    self._schedule(ReleaseReason.FREE)
                self._finish(batch, execution, reason)
            return
        while len(self._flights) < self.depth:
            batch, why = self._take(reason)
            if not batch:
                return
            self._run_on_thread(Flight(batch, why))

    def _take(self, reason: ReleaseReason) -> tuple[list[Entry], ReleaseReason]:
        """The next batch: highest priority, then longest waiting; deadlines passed and clients gone are left out."""
        now = perf_counter_ns()
        while self._queues:
            queues = self._queues
            key = (
                next(iter(queues)) if len(queues) == 1 else min(queues, key=lambda k: (k[0], queues[k][0].received_ns))
            )
            queue, limit = queues[key], self.max_rows
            batch: list[Entry] = []
            expired: list[Entry] = []
            gone: list[Entry] = []
            rows = 0
            while queue:
                entry = queue[0]
                if entry.cancelled:
                    gone.append(entry)
                elif entry.deadline_ns <= now:
                    expired.append(entry)
                else:
                    if rows + entry.plan.rows > limit and batch:
                        reason = ReleaseReason.FULL
                        break
                    rows += entry.plan.rows
                    batch.append(entry)
                queue.popleft()
                self.waiting_rows -= entry.plan.rows
            if not queue:
                del queues[key]
            if expired:
                self._drop(expired, _late())
            if gone:
                self._drop(gone, None)
            if batch:
                return batch, reason
        return [], reason

    def _run_on_thread(self, flight: Flight) -> None:
        loop = self.loop
        assert loop is not None  # _schedule set it
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.depth, thread_name_prefix="hardcase-batch")
        self._flights.append(flight)

        def hand_over(future: Future[E]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._landed, flight, future.result())

        self._executor.submit(self._execute, flight.batch).add_done_callback(hand_over)
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    def _landed(self, flight: Flight, execution: E) -> None:
        """A thread is free again: the next batch need not wait until this one's answers are written."""
        self._flights.remove(flight)
        self._learn(flight.batch, flight.begun_ns)
        if self._queues and not self._closed:
            self._release(ReleaseReason.FREE)
        self._finish(flight.batch, execution, flight.reason)

    def _learn(self, batch: list[Entry], begun_ns: int) -> None:
        rows = sum([entry.plan.rows for entry in batch])
        self._row_ns += 0.1 * ((perf_counter_ns() - begun_ns) / rows - self._row_ns)

    def _sweep(self) -> None:
        """While batches run on threads: answer what is past its deadline, waiting or running."""
        self._sweeper = None
        now = perf_counter_ns()
        late = [e for flight in self._flights for e in flight.batch if e.deadline_ns <= now and not e.answered]
        for key in list(self._queues):
            queue = self._queues[key]
            late_here = [e for e in queue if e.deadline_ns <= now]
            if late_here:
                self.waiting_rows -= sum(e.plan.rows for e in late_here)
                left = deque(e for e in queue if e.deadline_ns > now)
                if left:
                    self._queues[key] = left
                else:
                    del self._queues[key]
                late += late_here
        if late:
            self._drop(late, _late())
        if (self._flights or self._queues) and self.loop is not None:
            self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def _retry_after_s(self) -> int:
        """Seconds after which the rows that wait now will have run, at the present speed."""
        return max(1, min(60, round(self.waiting_rows * self._row_ns / self.depth / 1e9)))

    def on_loop(self, call: Callable[[], None]) -> Callable[[], None]:
        """What another thread may call so that `call` runs on the batcher's loop."""
        loop = self.loop

        def pass_on() -> None:
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(call)

        return pass_on

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
        return not self._queues and not self._flights

    def close(self) -> None:
        """Take nothing more, and answer what still waits with Unavailable. Call when idle, or when patience is over."""
        self._closed = True
        waiting = [entry for queue in self._queues.values() for entry in queue]
        self._queues.clear()
        self.waiting_rows = 0
        if waiting:
            self._drop(waiting, Unavailable("the version was unloaded"))
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._executor is not None:
            self._executor.shutdown(wait=False)


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the time limit passed before the answer was ready")
