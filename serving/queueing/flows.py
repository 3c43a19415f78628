"""Who is next: requests by priority level, by caller, by row shape. Rows are counted, never requests.

Strict priorities: a level is served when no level above it has anything that fits the batch. A batch that a level does
not fill is filled from the levels below, so urgent requests that come singly do not cost throughput.

Within a level, callers (API keys) take turns by deficit round robin: at its turn a caller gets `weight` quanta of rows,
what it takes beyond them is a debt that its next turns pay off. A turn costs O(1), whoever waits. Turns are much
smaller than a batch, so a caller that has just come is in the very next batch, however many rows another one has
waiting. When one caller is alone, no accounts are kept.

A request of more rows than the largest batch takes part with one largest batch at a time, as if it were one more
caller, so that nobody else waits for all of it.

References:
    Shreedhar, Varghese (1995), "Efficient fair queueing using deficit round robin"; with debts instead of savings as
    in Adiseshu, Parulkar, Varghese (1996), "A reliable and scalable striping protocol" (surplus round robin).
"""

from __future__ import annotations

from collections import deque

from serving.entry import Entry
from serving.queueing.level import Batch, Flow, Level, Passed
from serving.queueing.policy import QueuePolicy
from serving.queueing.removal import NEVER_NS, earliest_ns, purge, push_out

TURNS_IN_A_BATCH = 16


class RowQueue:
    """All that waits for one version.

    Args:
        policy: Levels, weights.
        max_rows: Rows of the largest batch.

    Attributes:
        rows: Rows that wait.
        passed: Requests that `take` found and passed over for good; whoever called it answers them.
    """

    __slots__ = (
        "_earliest_ns",
        "_levels",
        "_max_rows",
        "_quantum",
        "_timeout_ns",
        "_weights",
        "passed",
        "rows",
    )

    def __init__(self, policy: QueuePolicy, max_rows: int) -> None:
        self.passed = Passed()
        self._levels = [Level(level, max_rows, policy.server_timeout_ns, self.passed) for level in policy.levels]
        self._weights = policy.weights
        self._max_rows = max_rows
        self._quantum = max(1, max_rows // TURNS_IN_A_BATCH)
        self._timeout_ns = policy.server_timeout_ns
        self._earliest_ns = NEVER_NS  # no waiting request's time limit is earlier
        self.rows = 0

    def put(self, entry: Entry) -> None:
        """Add a request."""
        priority, shapes = entry.plan.queue
        rows = entry.plan.rows
        level = self._levels[priority - 1]
        large = rows > self._max_rows
        limit_ns = entry.deadline_ns
        if level.policy.delay:
            limit_ns = entry.received_ns + self._timeout_ns
            if large:  # its parts would be delayed one by one
                entry.deadline_ns = limit_ns
        flow = level.flows.get((entry.caller, large))
        if flow is None:
            flow = self._new_flow(level, entry.caller, large)
        if not flow.rows:
            level.ring.append(flow)
            level.weight += flow.weight
        if large:
            shapes = None
        queue = flow.queues.get(shapes)
        if queue is None:
            queue = flow.queues[shapes] = deque()
        queue.append(entry)
        flow.rows += rows
        level.rows += rows
        self.rows += rows
        self._earliest_ns = min(self._earliest_ns, limit_ns)

    def _new_flow(self, level: Level, caller: str, large: bool) -> Flow:
        weight = self._weights.get(caller, 1)
        flow = level.flows[caller, large] = Flow(caller, weight, weight * self._quantum, large)
        return flow

    # ---- taking

    def take(self, now: int, shed_before_ns: int = 0) -> Batch | None:
        """The next batch, or None when nothing is left that may run.

        Args:
            now: `perf_counter_ns`.
            shed_before_ns: Requests that came before are not run.
        """
        batch = Batch()
        for level in self._levels:
            if waiting := level.rows:
                level.fill(batch, now, shed_before_ns)
                self.rows -= waiting - level.rows
                if batch.full:
                    break
        return batch if batch.entries else None

    # ---- looking

    def ahead(self, priority: int, caller: str) -> int:
        """Rows that will run before a request that comes now, if nobody else comes.

        Args:
            priority: Its level.
            caller: Whose it is: of the others at its level only as much counts as their turns allow.
        """
        rows = 0
        for above in self._levels[: priority - 1]:
            rows += above.rows
        level = self._levels[priority - 1]
        flow = level.flows.get((caller, False))
        if flow is not None and flow.rows:
            own, weight, total = flow.rows, flow.weight, level.weight
        else:
            own, weight = 0, self._weights.get(caller, 1)
            total = level.weight + weight
        return rows + min(level.rows, own * total // weight + self._quantum * total)

    def share(self, caller: str) -> float:
        """How many times longer a row of this caller takes when its share of the model is all it gets; 1 when alone.

        The levels in which it has nothing waiting do not count.
        """
        weight = self._weights.get(caller, 1)
        totals = [
            level.weight
            for level in self._levels
            if (flow := level.flows.get((caller, False))) is not None and flow.rows
        ]
        return max(totals, default=weight) / weight

    def level_rows(self, priority: int) -> int:
        """Rows that wait in a level."""
        return self._levels[priority - 1].rows

    # ---- removing

    def make_room(self, priority: int, caller: str, rows: int, needed: int) -> list[Entry]:
        """Push out the newest requests of those who have more waiting than their share, for one who has less.

        Args:
            priority: Level of the request that needs room.
            caller: Whose it is.
            rows: Its rows.
            needed: Rows that have to go.

        Returns:
            The requests pushed out; none, and nothing is changed, when they would not be enough.
        """
        flow = self._levels[priority - 1].flows.get((caller, False))
        waiting = flow.rows if flow is not None else 0
        out = push_out(self._levels, priority, (waiting + rows) / self._weights.get(caller, 1), needed)
        freed = sum([entry.plan.rows for entry in out])
        self.rows -= freed
        if freed >= needed:
            return out
        for entry in reversed(out):
            self.put(entry)
        return []

    def purge(self, now: int) -> tuple[list[Entry], list[Entry]]:
        """Remove requests past their time limit, and those whose client is gone.

        Looks at the waiting requests only when the earliest time limit of all has passed.

        Returns:
            Late requests, and gone ones.
        """
        late: list[Entry] = []
        gone: list[Entry] = []
        if now >= self._earliest_ns:
            for level in self._levels:
                purge(level, now, self._timeout_ns, late, gone)
            self.rows = sum([level.rows for level in self._levels])
            self._earliest_ns = earliest_ns(self._levels, self._timeout_ns)
        return late, gone

    def clear(self) -> list[Entry]:
        """Remove and return everything."""
        waiting = [entry for level in self._levels for entry in level.entries()]
        for level in self._levels:
            level.clear()
        self.rows = 0
        return waiting
