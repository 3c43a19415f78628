"""How fast a version works its queue off, and so how long a request would wait and when to come back."""

from __future__ import annotations

import math

MAX_RETRY_S = 30
_SMOOTHING = 0.2
_SECOND_NS = 1_000_000_000


class Pace:
    """Time that a waiting row takes, measured while there is enough waiting to fill batches.

    Measured from the end of one batch to the end of the next, so it holds everything that the queue really waits for:
    the model, the other work of the event loop, and several batches under way at once.

    Args:
        batch_ns: Time of one largest batch, measured before the first request; infinite when it is not known.
        max_rows: Rows of the largest batch.

    Attributes:
        row_ns: Nanoseconds a row; 0 while nothing is known.
    """

    __slots__ = ("_cycle_ns", "_measured", "_rows", "row_ns")

    def __init__(self, batch_ns: float, max_rows: int) -> None:
        self._measured = False
        self._cycle_ns = 0.0
        self._rows = 0.0
        self.row_ns = batch_ns / max_rows if math.isfinite(batch_ns) else 0.0

    def learn(self, rows: int, cycle_ns: int) -> None:
        """A batch of `rows` rows was done `cycle_ns` after the one before it, and enough waited to fill it."""
        if not self._measured:
            self._measured, self._cycle_ns, self._rows = True, float(cycle_ns), float(rows)
        else:
            self._cycle_ns += _SMOOTHING * (cycle_ns - self._cycle_ns)
            self._rows += _SMOOTHING * (rows - self._rows)
        self.row_ns = self._cycle_ns / self._rows


class ComeBack:
    """Says when to come back, so that who waits that long is let in.

    Who is turned away together must not come back together: each gets the next free place of a schedule that is worked
    off at the speed of the queue. `Retry-After` has whole seconds only, so the places of one second are never more than
    the queue lets in at once. A caller has a schedule of its own, at its own share of the speed.

    The schedule is a promise to callers that keep to it. Those who come earlier are not kept out, and take places.
    """

    __slots__ = ("_next_ns",)

    def __init__(self) -> None:
        self._next_ns: dict[str, float] = {}

    def after_s(self, caller: str, now: int, excess_ns: float, rows: int, row_ns: float) -> int:
        """Seconds after which a request that is turned away now will be let in; 1..MAX_RETRY_S.

        Args:
            caller: Whose request.
            now: `perf_counter_ns`.
            excess_ns: How long it would take, if nobody came, until it were let in.
            rows: Its rows.
            row_ns: Time that a row of this caller takes of its schedule.
        """
        place = max(now + excess_ns, self._next_ns.get(caller, 0.0)) + rows * row_ns
        after_s = max(1, -int(-(place - now) // _SECOND_NS))
        if after_s > MAX_RETRY_S:
            return MAX_RETRY_S
        self._next_ns[caller] = place
        return after_s
