"""Who else hears how requests ended: access log and traces. They get one small object a batch, and work on threads."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from export.contracts.errors import HardcaseError
from export.contracts.traffic import Variant
from monitoring.records.record import Outcome
from serving.call import Call
from serving.entry import Entry

_log = logging.getLogger("hardcase.observers")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ended:
    """Requests of one version that ended together. Times are nanoseconds; the entries no longer hold their tensors.

    Attributes:
        time_ns: Wall clock when they ended.
        queue_ns: Waiting time of each; empty when none of them left the queue.
        total_ns: From the last byte to the answer, of each.
        input_ns: What their batch took to gather its inputs; 0 for requests that ran in none.
        infer_ns: What it spent in the runtime.
        output_ns: What it took to split its answers.
        error: None for success, and for clients that went away.
    """

    model: str
    version: str
    outcome: Outcome
    entries: Sequence[Entry]
    time_ns: int
    total_ns: Sequence[int]
    queue_ns: Sequence[int] = ()
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    error: HardcaseError | None = None


@dataclass(frozen=True, slots=True)
class Turned:
    """A request that was refused before it was one: it has a head, and no tensors.

    Attributes:
        version: Version that it was meant for, empty when none was found.
        id: The client's id, or the one that its record got.
        time_ns: Wall clock.
    """

    call: Call
    version: str
    variant: Variant
    outcome: Outcome
    caller: str
    id: bytes
    time_ns: int
    error: HardcaseError


class Observer(Protocol):
    """Hears of every inference request, once. Called on the loop: must return at once and never raise.

    Attributes:
        name: Label of its metrics.
    """

    name: str

    @property
    def dropped(self) -> int:
        """Bunches that it missed."""
        ...

    def ended(self, ended: Ended) -> None:
        """Requests were answered, failed, or were given up."""
        ...

    def turned(self, turned: Turned) -> None:
        """A request was refused before it reached a queue."""
        ...


def tell(observers: Sequence[Observer], ended: Ended) -> None:
    """Let everybody hear of requests that ended, without keeping their tensors in memory until then."""
    for entry in ended.entries:
        entry.buffers = ()
    for observer in observers:
        observer.ended(ended)


class Backlog(Generic[T]):
    """Hands items from the loop to a thread, in bunches. Bounded: what finds no place is dropped and counted.

    Args:
        name: Of the thread.
        work: Called on the thread with everything that has gathered; what it raises is logged, and the bunch is lost.
        interval_s: How long items may gather.
        places: Items that may wait.
    """

    def __init__(self, name: str, work: Callable[[list[T]], None], interval_s: float = 0.1, places: int = 65_536):
        self._work = work
        self._interval_s = interval_s
        self._items: deque[T] = deque()
        self._places = places
        self._stop = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Take an item, or count it as dropped. Never blocks."""
        if len(self._items) < self._places:
            self._items.append(item)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Work off what waits, and end the thread."""
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        bunch = [self._items.popleft() for _ in range(len(self._items))]
        if bunch:
            try:
                self._work(bunch)
            except Exception:
                _log.exception("%s: a bunch of %d items is lost", self._thread.name, len(bunch))
                self.dropped += len(bunch)
