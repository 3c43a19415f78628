"""What the monitor does from time to time, besides reading the log: a table of duties, and who is due.

A duty has transactions of its own and does a bounded piece of work a turn. One that fails is logged, counted and tried
again at its next turn; it stops neither the ingest nor the other duties.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

L = TypeVar("L")


@dataclass(frozen=True, kw_only=True)
class Duty(Generic[L]):
    """Periodic work.

    Attributes:
        name: Stable; the value of a metric's label.
        interval_s: From the end of one turn to the next.
        run: Does one bounded piece; returns True when there is more to do at once.
        while_behind: Whether its turn comes also while the log is not read to its end.
        aside: Takes longer than the log should wait: runs in a thread beside the loop, one such duty at a time.
        alone: Of an `aside` duty that mostly waits for others: it has a thread of its own and waits for no other.
    """

    name: str
    interval_s: float
    run: Callable[[L], bool | None]
    while_behind: bool = False
    aside: bool = False
    alone: bool = False


@dataclass(kw_only=True, slots=True)
class DutyState:
    """How a duty is doing. `due_at` is monotonic time; `seconds` is how long the last turn took."""

    due_at: float = float("-inf")
    turns: int = 0
    errors: int = 0
    seconds: float = 0.0
    failing: bool = False
    running: bool = False


class Roster(Generic[L]):
    """Runs duties when they are due. Everything but the work of `aside` duties happens in the caller's thread."""

    def __init__(self, duties: Sequence[Duty[L]], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._duties = tuple(duties)
        self._monotonic = monotonic
        self._beside: dict[str, threading.Thread] = {}  # by lane
        self.states = {duty.name: DutyState() for duty in self._duties}

    def run_due(self, loop: L, behind: bool = False) -> bool:
        """Give every duty that is due its turn; returns whether one of them wants another at once."""
        more = False
        for duty in self._duties:
            state = self.states[duty.name]
            if state.running or (behind and not duty.while_behind) or self._monotonic() < state.due_at:
                continue
            if not duty.aside:
                more = self._turn(duty, state, loop) or more
                continue
            lane = duty.name if duty.alone else ""
            if lane not in self._beside or not self._beside[lane].is_alive():
                state.running = True
                self._beside[lane] = threading.Thread(
                    target=self._turn, args=(duty, state, loop), name=f"hardcase-{duty.name}", daemon=True
                )
                self._beside[lane].start()
        return more

    def finish(self, loop: L) -> None:
        """Run every duty now, in this thread, until none has more to do.

        Raises:
            RuntimeError: a duty failed.
        """
        self.wait()
        for duty in self._duties:
            state = self.states[duty.name]
            while self._turn(duty, state, loop):
                pass
            if state.failing:
                raise RuntimeError(f"the monitor's duty '{duty.name}' failed; its log says why")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the duties that run beside the loop; returns whether they ended in time."""
        until = None if timeout_s is None else self._monotonic() + timeout_s
        for thread in self._beside.values():
            thread.join(None if until is None else max(0.0, until - self._monotonic()))
        return not any(thread.is_alive() for thread in self._beside.values())

    @property
    def problem(self) -> str | None:
        """Which duty failed at its last turn, in words; None when none did."""
        failing = [name for name, state in self.states.items() if state.failing]
        return f"the monitor's duty '{failing[0]}' failed; its log says why" if failing else None

    def _turn(self, duty: Duty[L], state: DutyState, loop: L) -> bool:
        started = self._monotonic()
        more = False
        try:
            more = bool(duty.run(loop))
            state.failing = False
        except Exception:
            # Its transaction was rolled back; the state it works on is as it was before the turn.
            logger.exception("the duty '%s' failed; it is tried again in %.1f s", duty.name, duty.interval_s)
            state.errors += 1
            state.failing = True
        now = self._monotonic()
        state.turns += 1
        state.seconds = now - started
        state.due_at = now if more else now + duty.interval_s
        state.running = False
        return more
