"""The shadow: a challenger that runs on what the champion has just answered; its answers are compared, never sent.

The champion's batches are offered when their answers are out, with the arrays that were gathered for them: no second
parse, no second gather. They wait a little, so that a pass of the challenger takes many of them at once, and run on a
thread of its own. Whatever is short, the shadow gives way: its queue is bounded, it takes nothing while the champion
has a backlog, and it rests while the event loop is busy. Everything here runs on the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic_ns, perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING

import numpy as np

from export.contracts.traffic import Variant
from serving.assignment import Assignment
from serving.comparison import Comparator, InputMap
from serving.entry import Entry
from serving.evidence import Evidence, ShadowResult
from serving.execution import Execution
from serving.options import ChallengerOptions
from serving.runtime.base import Array
from serving.shadow_pass import Passed, Waiting, record_pass, run_pass

if TYPE_CHECKING:
    from serving.version import LoadedVersion

_BUSY_SHARE = 0.9  # of the loop thread's time: above it no core is free for what the shadow does on the interpreter
_REST_S = 1.0  # pause between passes while the loop is that busy


class Shadow:
    """A challenger in the shadow of a champion.

    Args:
        champion: Its batches are offered.
        challenger: A READY version.
        share: Which requests are mirrored.
        options: Bounds.
        evidence: Counted here.
    """

    def __init__(
        self,
        champion: LoadedVersion,
        challenger: LoadedVersion,
        share: Assignment,
        *,
        options: ChallengerOptions,
        evidence: Evidence,
    ) -> None:
        self.champion = champion
        self.challenger = challenger
        self.share = share
        self.evidence = evidence
        self._options = options
        self._inputs = InputMap(champion.signature, challenger.signature)
        self._comparator = Comparator(champion.signature, challenger.signature)
        self._queue: deque[Waiting] = deque()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._running: list[Waiting] = []
        self._executor: ThreadPoolExecutor | None = None
        self._looked = (monotonic_ns(), thread_time_ns())
        self._closed = False
        self._rest_until_ns = 0  # what the last pass spent is earned back by then
        # the challenger may answer requests that name it at the same time: its runtime says how many may
        challenger.turns = threading.Semaphore(max(1, challenger.runtime.concurrency))
        self._mirror = self.offer
        champion.mirror = self._mirror

    @property
    def idle(self) -> bool:
        """Whether no pass is under way: the challenger may be unloaded."""
        return not self._running

    def close(self) -> None:
        """Take nothing more and drop what waits; a pass that is under way is finished and counted."""
        self._closed = True
        if self.champion.mirror is self._mirror:
            self.champion.mirror = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiting in self._queue:
            self._count(ShadowResult.DROPPED_CLOSED, len(waiting.entries), queued=True)
        self._queue.clear()
        self._queued_rows = self._queued_bytes = 0
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        if not self._running:
            self.challenger.turns = None

    # ---- in

    def offer(self, entries: list[Entry], execution: Execution) -> None:
        """Take a batch that the champion has just answered. Never blocks, never raises."""
        outputs = execution.outputs
        if outputs is None:
            return
        if self._queued_rows >= self._options.shadow_queue_rows:  # the common way to give way, and the cheapest
            self._count(ShadowResult.DROPPED_FULL, len([e for e in entries if e.variant is Variant.CHAMPION]))
            return
        mirrored: list[Entry] = entries
        rows: Array | None = None
        total = sum([e.plan.rows for e in entries])
        if not self.share.all or any([e.variant is not Variant.CHAMPION for e in entries]):
            mirrored, rows = self._select(entries)
            if not mirrored:
                return
        count = total if rows is None else len(rows)
        nbytes = sum([a.nbytes for a in execution.inputs]) + sum([a.nbytes for a in outputs.arrays if a is not None])
        result = self._refusal(execution.inputs, count, nbytes)
        if result is not None:
            self._count(result, len(mirrored))
            return
        infer_ns = execution.infer_ns * count // total
        self._queue.append(
            Waiting(
                entries=mirrored,
                rows=rows,
                row_count=count,
                inputs=self._inputs.pick(execution.inputs),
                outputs=outputs,
                infer_ns=infer_ns,
                nbytes=nbytes,
            )
        )
        self._queued_rows += count
        self._queued_bytes += nbytes
        self.evidence.waiting += len(mirrored)
        if self._timer is None and not self._running:
            self._later(self._options.shadow_delay_ms / 1000)

    def _select(self, entries: list[Entry]) -> tuple[list[Entry], Array]:
        """The champion's requests that are mirrored, and their rows; those left out are counted."""
        chosen: list[Entry] = []
        rows: list[int] = []
        start = others = 0
        for entry in entries:
            if entry.variant is Variant.CHAMPION:
                if self.share.takes(entry.call.sticky or entry.id):
                    chosen.append(entry)
                    rows.extend(range(start, start + entry.plan.rows))
                else:
                    others += 1
            start += entry.plan.rows
        if others:
            self._count(ShadowResult.NOT_SAMPLED, others)
        return chosen, np.array(rows, np.intp)

    def _refusal(self, inputs: Sequence[Array], rows: int, nbytes: int) -> ShadowResult | None:
        if not self._inputs.fits(inputs):
            return ShadowResult.DROPPED_INCOMPATIBLE
        batcher, options = self.champion.batcher, self._options
        if batcher.waiting_rows > batcher.max_rows:
            return ShadowResult.DROPPED_BUSY
        too_many = self._queued_rows + rows > options.shadow_queue_rows and self._queue
        if too_many or self._queued_bytes + nbytes > options.shadow_queue_bytes:
            return ShadowResult.DROPPED_FULL
        return None

    def _count(self, result: ShadowResult, requests: int, *, queued: bool = False) -> None:
        self.evidence.shadow[result] += requests
        if queued:
            self.evidence.waiting -= requests

    # ---- run

    def _later(self, delay_s: float) -> None:
        rest_s = (self._rest_until_ns - perf_counter_ns()) / 1e9
        self._timer = asyncio.get_running_loop().call_later(max(delay_s, rest_s), self._release)

    def _release(self) -> None:
        """Start a pass over what waits, unless the loop has no time to spare."""
        self._timer = None
        if self._closed or not self._queue:
            return
        if self._loop_is_busy():
            self._later(_REST_S)
            return
        batch = self._take()
        self._running = batch
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="hardcase-shadow")
        loop = asyncio.get_running_loop()

        def hand_over(future: Future[Passed]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._done, batch, future.result())

        self._executor.submit(run_pass, self.challenger, self._comparator, batch).add_done_callback(hand_over)

    def _loop_is_busy(self) -> bool:
        """Whether the loop's thread has been computing nearly all the time since the last look."""
        (wall, cpu), self._looked = self._looked, (monotonic_ns(), thread_time_ns())
        elapsed = self._looked[0] - wall
        # after a rest one pass runs whatever the load: evidence trickles instead of ending
        rested = elapsed >= _REST_S * 0.9e9
        return not rested and self._looked[1] - cpu > _BUSY_SHARE * elapsed

    def _take(self) -> list[Waiting]:
        """Batches for one pass: equal row shapes, at most the challenger's largest batch together."""
        first = self._queue[0]
        shapes = [a.shape[1:] for a in first.inputs]
        batch: list[Waiting] = []
        rows = 0
        while self._queue:
            head = self._queue[0]
            alike = self.challenger.signature.batched and [a.shape[1:] for a in head.inputs] == shapes
            if batch and (not alike or rows + head.row_count > self.challenger.batcher.max_rows):
                break
            batch.append(self._queue.popleft())
            rows += head.row_count
            self._queued_rows -= head.row_count
            self._queued_bytes -= head.nbytes
        return batch

    def _done(self, batch: list[Waiting], passed: Passed) -> None:
        """Count and record a pass, then go on with what has gathered meanwhile."""
        begun_ns = perf_counter_ns()
        self._running = []
        entries = [entry for waiting in batch for entry in waiting.entries]
        evidence = self.evidence
        evidence.passes += 1
        comparison = passed.comparison
        if comparison is not None:
            champion_ns = sum(w.infer_ns for w in batch)
            evidence.rows += comparison.rows
            evidence.champion_ns += champion_ns
            evidence.shadow_ns += passed.infer_ns
            evidence.slower_passes += passed.infer_ns > champion_ns
            evidence.max_abs_difference = max(evidence.max_abs_difference, comparison.max_abs_difference)
            for kind, rows in comparison.different.items():
                evidence.different[kind] += rows
        self._count(ShadowResult.COMPARED if comparison else ShadowResult.FAILED, len(entries), queued=True)
        record_pass(self.challenger, entries, passed)
        spent_ns = passed.spent_ns + perf_counter_ns() - begun_ns
        self._rest_until_ns = perf_counter_ns() + int(spent_ns / self._options.shadow_time_share)
        if self._closed:
            self.challenger.turns = None
        elif self._queue:
            full = self._queued_rows >= self.challenger.batcher.max_rows
            self._later(0.0 if full else self._options.shadow_delay_ms / 1000)
