"""What waits at one priority: callers in the order of their turns, each with its requests by row shape."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from serving.entry import Entry
from serving.queueing.policy import LevelPolicy
from serving.request_plan import Shapes
from serving.stats import ReleaseReason


class Batch:
    """What runs next.

    Attributes:
        entries: The requests, in the order of their rows.
        rows: Rows of all of them, or of the part.
        full: The largest batch was reached.
        part: First row and row behind the last, when this is a part of one request that is larger than a batch.
        begun_ns: When it began to run (`perf_counter_ns`).
        ended_ns: When it had run.
        since_ns: From when its time counts: when the batch before it ended, if it had to wait for that.
        crowded: More rows waited than it could take.
        reason: Why it left the queue.
    """

    __slots__ = ("begun_ns", "crowded", "ended_ns", "entries", "full", "part", "reason", "rows", "since_ns")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.rows = 0
        self.full = False
        self.part: tuple[int, int] | None = None
        self.begun_ns = self.ended_ns = self.since_ns = 0
        self.crowded = False
        self.reason = ReleaseReason.IDLE


class Flow:
    """What one caller has waiting in one level, or its requests that are larger than a batch.

    Attributes:
        queues: Requests in order of arrival, by row shapes; one queue for large requests.
        rows: Rows of all of them; of a large request the rows that have not begun to run.
        begun_rows: Of the first large request: rows that have begun to run.
        credit: Rows that it may take before the next caller's turn; debts are negative.
    """

    __slots__ = ("begun_rows", "caller", "credit", "large", "quantum", "queues", "rows", "weight")

    def __init__(self, caller: str, weight: int, quantum: int, large: bool) -> None:
        self.caller = caller
        self.weight = weight
        self.quantum = quantum
        self.large = large
        self.queues: dict[Shapes | None, deque[Entry]] = {}
        self.rows = 0
        self.credit = 0
        self.begun_rows = 0

    def oldest(self) -> deque[Entry]:
        """The queue whose first request has waited longest."""
        queues = self.queues
        if len(queues) == 1:
            return next(iter(queues.values()))
        return min(queues.values(), key=lambda queue: queue[0].received_ns)


class Passed:
    """Requests that left the queue without being run, until somebody has answered them.

    Attributes:
        late: Past their time limit.
        gone: Without a client.
        shed: Waiting for too long.
    """

    __slots__ = ("gone", "late", "shed")

    def __init__(self) -> None:
        self.late: list[Entry] = []
        self.gone: list[Entry] = []
        self.shed: list[Entry] = []


class Level:
    """One priority level.

    Args:
        policy: What holds for its requests.
        max_rows: Rows of the largest batch.
        timeout_ns: The server's own time limit.
        passed: Where requests go that are not run.

    Attributes:
        flows: Every caller that was ever here; bounded, because callers are names of configured keys.
        ring: Those who have something waiting, in the order of their turns.
        weight: Their weights' sum.
        delayed: Requests past their time limit whose level says delay, in the order in which they passed it.
    """

    __slots__ = ("_max_rows", "_timeout_ns", "delayed", "flows", "passed", "policy", "ring", "rows", "weight")

    def __init__(self, policy: LevelPolicy, max_rows: int, timeout_ns: int, passed: Passed) -> None:
        self.policy = policy
        self.passed = passed
        self._max_rows = max_rows
        self._timeout_ns = timeout_ns
        self.flows: dict[tuple[str, bool], Flow] = {}
        self.ring: deque[Flow] = deque()
        self.rows = 0
        self.weight = 0
        self.delayed: deque[Entry] = deque()

    def entries(self) -> Iterator[Entry]:
        """Every request of the level that waits, the first of a large one's parts being enough."""
        for flow in self.ring:
            for queue in flow.queues.values():
                yield from queue
        yield from self.delayed

    def uncount(self, flow: Flow, rows: int) -> None:
        """Some rows of a flow are gone."""
        flow.rows -= rows
        self.rows -= rows
        if not flow.rows:
            self.leave(flow)

    def leave(self, flow: Flow) -> None:
        """A flow with nothing left gives up its turns. It keeps its debts for as long as anybody else waits."""
        ring = self.ring
        if ring[0] is flow:
            ring.popleft()
        else:
            ring.remove(flow)
        self.weight -= flow.weight
        flow.credit = min(flow.credit, 0)
        if not ring and len(self.flows) > 1:
            for other in self.flows.values():
                other.credit = 0

    def clear(self) -> None:
        """Forget everything that waits."""
        for flow in self.flows.values():
            flow.queues.clear()
            flow.rows = flow.credit = flow.begun_rows = 0
        self.ring.clear()
        self.delayed.clear()
        self.rows = self.weight = 0

    # ---- taking

    def fill(self, batch: Batch, now: int, shed_before_ns: int) -> None:
        """Add to the batch from one level, caller after caller."""
        ring, passed = self.ring, 0
        skipped: Flow | None = None
        while passed < len(ring) and not batch.full:
            flow = ring[0]
            alone = len(ring) == 1
            if not alone and flow.credit <= 0:
                flow.credit += flow.quantum
                if flow.credit <= 0:  # still in debt; this ends, because every visit pays some of it off
                    ring.rotate(-1)
                    passed = 0
                    continue
            if not batch.entries:
                queue = flow.oldest()
            elif flow.large:
                queue = None
            else:
                queue = flow.queues.get(batch.entries[0].plan.queue[1])
            if queue is None:
                skipped = skipped or flow
                ring.rotate(-1)
                passed += 1
                continue
            passed = 0
            if flow.large:
                self._part(flow, batch, now)
            else:
                self._draw(flow, queue, batch, now, shed_before_ns, alone)
        if skipped is not None and len(ring) > 1 and skipped.rows:
            ring.remove(skipped)  # it could not share this batch, so it chooses the next one
            ring.appendleft(skipped)
        if self.delayed and not batch.full:
            self._draw_delayed(batch, now)

    def _draw(self, flow: Flow, queue: deque[Entry], batch: Batch, now: int, shed_before_ns: int, alone: bool) -> None:
        """Move requests of one caller into the batch, as long as its credit and the batch's room last."""
        entries, limit, rows, credit, left = batch.entries, self._max_rows, batch.rows, flow.credit, 0
        delay, shapes = self.policy.delay, queue[0].plan.queue[1]
        while queue:
            entry = queue[0]
            count = entry.plan.rows
            if entry.cancelled or entry.deadline_ns <= now or entry.received_ns < shed_before_ns:
                if not self._passed_over(entry, now):
                    flow.rows -= count  # it is still in this level, and no longer its caller's turn
                    left -= count
            else:
                if rows + count > limit and entries:
                    batch.full = True
                    break
                entries.append(entry)
                rows += count
                credit -= count
                if delay:
                    entry.deadline_ns = entry.received_ns + self._timeout_ns
            queue.popleft()
            left += count
            if rows >= limit:
                batch.full = True
                break
            if credit <= 0 and not alone:
                break
        batch.rows = rows
        flow.rows -= left
        self.rows -= left
        if not queue:
            del flow.queues[shapes]
        if not alone:
            flow.credit = credit
        if not flow.rows:
            self.leave(flow)
        elif not alone and (credit <= 0 or not batch.full):
            self.ring.rotate(-1)

    def _passed_over(self, entry: Entry, now: int) -> bool:
        """Deal with a request that does not run now; False when it is delayed and may run later."""
        if entry.cancelled:
            self.passed.gone.append(entry)
        elif entry.deadline_ns > now:
            self.passed.shed.append(entry)
        elif self.policy.delay and now < entry.received_ns + self._timeout_ns:
            entry.deadline_ns = entry.received_ns + self._timeout_ns
            self.delayed.append(entry)
            return False
        else:
            self.passed.late.append(entry)
        return True

    def _draw_delayed(self, batch: Batch, now: int) -> None:
        """Move delayed requests into the batch: everything else of their level is in it, or does not fit its shape."""
        delayed = self.delayed
        while delayed and not batch.full:
            entry = delayed[0]
            count, live = entry.plan.rows, False
            if entry.cancelled:
                self.passed.gone.append(entry)
            elif entry.deadline_ns <= now:
                self.passed.late.append(entry)
            elif batch.entries and batch.entries[0].plan.queue[1] != entry.plan.queue[1]:
                return
            elif batch.rows + count > self._max_rows:
                batch.full = True
                return
            else:
                live = True
            delayed.popleft()
            self.rows -= count
            if live:
                batch.entries.append(entry)
                batch.rows += count
                batch.full = batch.rows >= self._max_rows

    def _part(self, flow: Flow, batch: Batch, now: int) -> None:
        """The next part of a caller's first large request as a batch of its own."""
        queue = flow.queues[None]
        entry = queue[0]
        begun, total = flow.begun_rows, entry.plan.rows
        if entry.cancelled or entry.answered or entry.deadline_ns <= now:
            count = total - begun  # what has begun to run is thrown away when it is done
            if not entry.answered:
                (self.passed.gone if entry.cancelled else self.passed.late).append(entry)
        else:
            count = min(self._max_rows, total - begun)
            batch.entries.append(entry)
            batch.rows = count
            batch.part = (begun, begun + count)
            batch.full = True
        if batch.entries and len(self.ring) > 1:
            flow.credit -= count
        flow.begun_rows += count
        if flow.begun_rows == total:
            queue.popleft()
            flow.begun_rows = 0
        flow.rows -= count
        self.rows -= count
        if not queue:
            del flow.queues[None]
            self.leave(flow)
        elif flow.credit <= 0:
            self.ring.rotate(-1)
