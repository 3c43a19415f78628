"""Requests without bodies, for tests of the queue alone, and a reply that takes what becomes of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from export.contracts.errors import HardcaseError, Overloaded
from export.contracts.traffic import Variant
from serving.call import Call
from serving.entry import Entry
from serving.queueing.flows import RowQueue
from serving.queueing.gate import Gate
from serving.queueing.level import Batch
from serving.queueing.policy import QueuePolicy
from serving.request_plan import RequestPlan, Shapes

CALL = Call(model="queued")
FOREVER_NS = 1 << 60


class Forgotten:
    """A reply that nobody reads."""

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        """Nothing."""

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        """Nothing."""


def waiting(
    rows: int = 1,
    *,
    priority: int = 2,
    caller: str = "anonymous",
    shapes: Shapes | None = None,
    received_ns: int = 0,
    deadline_ns: int = FOREVER_NS,
    name: str = "",
) -> Entry:
    """A request as the queue sees it."""
    plan = RequestPlan(
        id=name.encode(),
        rows=rows,
        queue=(priority, shapes),
        shapes=((rows, 1),),
        sizes=(rows,),
        order=(0,),
        answer=cast(Any, None),
        timeout_ns=0,
        params=None,
    )
    return Entry(
        plan,
        (memoryview(bytes(rows)),),
        Variant.CHAMPION,
        name.encode(),
        name.encode(),
        received_ns,
        received_ns,
        deadline_ns,
        Forgotten(),
        CALL,
        caller,
    )


@dataclass(kw_only=True)
class Ran:
    """A request that ran: who sent it, when it came, and how long it waited."""

    entry: Entry
    waited_ns: int


@dataclass(kw_only=True)
class Simulation:
    """The queue, its gate and a model that takes a fixed time a batch, on a clock of their own.

    Attributes:
        batch_ns: Time of a batch, however many rows it has.
        learns: Whether the gate hears how long batches take.
        shed: Requests shed from a standing queue.
        ran: Requests that ran, in order.
        refused: Requests that were turned away, with what they were told.
    """

    policy: QueuePolicy
    max_rows: int
    batch_ns: int
    queue_rows: int = 4096
    learns: bool = True
    now: int = 0
    shed: int = 0
    ran: list[Ran] = field(default_factory=list)
    refused: list[tuple[Entry, Overloaded]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = RowQueue(self.policy, self.max_rows)
        self.gate = Gate(
            self.queue, self.policy, max_rows=self.max_rows, queue_rows=self.queue_rows, batch_ns=self.batch_ns
        )
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._busy = False
        self._freed_ns = 0

    def at(self, when_ns: int, do: Callable[[], None]) -> None:
        """Plan something."""
        self._count += 1
        heapq.heappush(self._events, (when_ns, self._count, do))

    def run(self, until_ns: int) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until_ns:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = until_ns

    def send(self, entry: Entry) -> Overloaded | None:
        """A request comes now; returns what it is told when it is turned away."""
        entry.received_ns, entry.deadline_ns = self.now, self.now + entry.deadline_ns
        try:
            if self.queue.rows + entry.plan.rows > self.gate.easy_rows:
                self._turn_away(self.gate.admit(entry))
        except Overloaded as error:
            self.refused.append((entry, error))
            return error
        self.queue.put(entry)
        self.at(self.now, self._next)
        return None

    def _turn_away(self, entries: list[Entry]) -> None:
        self.refused += [(entry, Overloaded("pushed out")) for entry in entries]

    def _next(self) -> None:
        if self._busy or not self.queue.rows:
            return
        crowded = self.queue.rows >= self.max_rows
        batch = self.queue.take(self.now, self.gate.shed_before_ns(self.now))
        self.shed += len(self.queue.passed.shed)
        self._turn_away(self.queue.passed.shed)
        self.queue.passed.shed = []
        if batch is None:
            return
        self.gate.taken(self.now, batch.entries[0].received_ns)
        self.ran += [Ran(entry=e, waited_ns=self.now - e.received_ns) for e in batch.entries]
        self._busy = True
        self.at(self.now + self.batch_ns, lambda: self._done(batch, crowded))

    def _done(self, batch: Batch, crowded: bool) -> None:
        self._busy = False
        if crowded and self.learns:
            self.gate.learn(batch.rows, self.now - max(self._freed_ns, self.now - self.batch_ns))
        self._freed_ns = self.now
        self._next()
