"""Who is turned away, when more comes than the model can do: at once, the least deserving first, told when to return.

Three rules, in this order:

1. **Expected wait.** A request is let in when the rows ahead of it, at the measured pace, will have run within
   `target_queue_ms` and within its own time limit. Rows ahead are those of higher priorities and, at its own priority,
   as many of other callers as their turns let pass: a caller with little waiting is let in while one with much is not.
2. **Room.** At most `queue_rows` rows wait. When they do, a request of somebody with less than a fair share pushes out
   the newest requests of a lower priority, or of the caller with the most.
3. **Standing queue** (the idea of CoDel). When requests that begin to run have waited longer than one and a half
   targets for `interval_ms`, the expectation was wrong: what has waited for so long is shed until it holds again.

Waiting as long as `Retry-After` says is enough to be let in (`serving.queueing.pace.ComeBack`).

References:
    Nichols, Jacobson (2012), "Controlling queue delay"; Maurer (2015), "Fail at scale" (the same for requests).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from export.contracts.errors import Overloaded
from serving.entry import Entry
from serving.queueing.flows import RowQueue
from serving.queueing.pace import ComeBack, Pace
from serving.queueing.policy import QueuePolicy

_NEVER = 1 << 62
_TARGET_BATCHES = 4  # the target is never below so many largest batches: a queue must be able to fill them
_TOLERANCE = 1.5  # what has been let in may wait so many targets: callers that come later take their turns, too
_EASY_SHARE = 0.25  # of the target: up to so much may wait without a closer look
_SLACK = 1.1  # who is told when to come back finds the queue a little emptier than it must be
_FORGET_NS = 1_000_000_000
_PRIORITY = b"priority"


class ShedReason(StrEnum):
    """Why a request was turned away. Values are the labels of `hardcase_shed_total`."""

    WAIT = "wait"  # it would have waited longer than the target
    DEADLINE = "deadline"  # it would have waited longer than its own time limit
    FULL = "full"  # there was no room
    PUSHED_OUT = "pushed_out"  # it had to make room for a higher priority, or for a caller with less waiting
    STANDING = "standing"  # it had waited much longer than the target, and so had others for a while


_TEXTS = {
    ShedReason.WAIT: "overloaded: the request would wait too long",
    ShedReason.DEADLINE: "overloaded: the request would wait past its time limit",
    ShedReason.FULL: "overloaded: the queue is full",
    ShedReason.PUSHED_OUT: "overloaded: the request made room for others",
    ShedReason.STANDING: "overloaded: the request has waited too long",
}


class Gate:
    """Decides about requests that come while others wait.

    Args:
        queue: What waits.
        policy: Target and interval.
        max_rows: Rows of the largest batch.
        queue_rows: Rows that may wait.
        batch_ns: Time of one largest batch, measured before; infinite when it is not known.

    Attributes:
        easy_rows: While no more rows than this wait, everybody is let in without being looked at.
        crowded: Somebody was turned away since the last batch was taken.
        refused_ns: When somebody was turned away last (`perf_counter_ns`).
        shed: Requests turned away, by reason.
    """

    __slots__ = (
        "_above_since_ns",
        "_back",
        "_bounded",
        "_max_rows",
        "_policy",
        "_queue",
        "_standing",
        "_target_ns",
        "crowded",
        "easy_rows",
        "pace",
        "queue_rows",
        "refused_ns",
        "shed",
    )

    def __init__(
        self, queue: RowQueue, policy: QueuePolicy, *, max_rows: int, queue_rows: int, batch_ns: float
    ) -> None:
        self._queue = queue
        self._policy = policy
        self._max_rows = max_rows
        self.queue_rows = queue_rows
        self.pace = Pace(batch_ns, max_rows)
        self._back = ComeBack()
        self._bounded = min([level.max_rows for level in policy.levels if level.max_rows], default=queue_rows)
        self._above_since_ns = 0
        self._standing = False
        self.crowded = False
        self.refused_ns = 0
        self.shed: dict[ShedReason, int] = dict.fromkeys(ShedReason, 0)
        self._target_ns = _NEVER
        self.easy_rows = 0
        self._set_target()

    def admit(self, entry: Entry) -> list[Entry]:
        """Let a request in, or not.

        Returns:
            Requests that were pushed out for it; the caller answers them.

        Raises:
            Overloaded: it is turned away.
        """
        priority, rows = entry.plan.queue[0], entry.plan.rows
        excess_ns = self._too_long(priority, entry.caller, entry.received_ns, entry.deadline_ns)
        if excess_ns is not None:
            late = entry.deadline_ns - entry.received_ns < self._target_ns
            reason = ShedReason.DEADLINE if late else ShedReason.WAIT
            raise self._refusal(reason, entry.caller, rows, excess_ns, entry.received_ns)
        missing = self._missing(priority, rows)
        if missing <= 0:
            return []
        pushed_out = (
            self._queue.make_room(priority, entry.caller, rows, missing) if self._level_has_room(priority, rows) else []
        )
        if not pushed_out:
            excess_ns = missing * self.pace.row_ns
            raise self._refusal(ShedReason.FULL, entry.caller, rows, excess_ns, entry.received_ns)
        return pushed_out

    def refuse_unread(self, caller: str, body: bytes, header_length: bytes | None, now: int) -> None:
        """Turn a request away before its body is parsed, when whatever is in it would be turned away.

        Worth asking only when `crowded`. It must not name a priority, because that could let it in.

        Raises:
            Overloaded: it is turned away.
        """
        length = int(header_length) if header_length is not None and header_length.isdigit() else len(body)
        if body.find(_PRIORITY, 0, length) >= 0:
            return
        excess_ns = self._too_long(self._policy.default_level, caller, now, _NEVER)
        if excess_ns is not None:
            raise self._refusal(ShedReason.WAIT, caller, 1, excess_ns, now)

    def _too_long(self, priority: int, caller: str, now: int, deadline_ns: int) -> float | None:
        """By how many nanoseconds the expected wait is too long; None when it is not."""
        wait_ns = self._queue.ahead(priority, caller) * self.pace.row_ns
        delay = self._policy.levels[priority - 1].delay
        limit_ns = self._target_ns if delay else min(self._target_ns, deadline_ns - now)
        return wait_ns - limit_ns if wait_ns > limit_ns else None

    def _missing(self, priority: int, rows: int) -> int:
        """How many rows too few there is room for. An empty queue takes anything."""
        queue, bound = self._queue, self._policy.levels[priority - 1].max_rows
        missing = queue.rows + rows - self.queue_rows if queue.rows else 0
        waiting = queue.level_rows(priority) if bound else 0
        return max(missing, waiting + rows - bound) if waiting else missing

    def _level_has_room(self, priority: int, rows: int) -> bool:
        bound = self._policy.levels[priority - 1].max_rows
        return not bound or self._queue.level_rows(priority) + rows <= bound

    def _refusal(self, reason: ShedReason, caller: str, rows: int, excess_ns: float, now: int) -> Overloaded:
        self.crowded = True
        self.shed[reason] += 1
        if now - self.refused_ns > _FORGET_NS:  # what was promised before is over: nobody has been turned away since
            self._back = ComeBack()
        self.refused_ns = now
        row_ns = self.pace.row_ns
        # as many may come back in one second as are let in at once
        at_once = min(self.queue_rows, self._target_ns / row_ns) if row_ns else self.queue_rows
        slot_ns = max(row_ns * self._queue.share(caller), 1e9 / at_once) * _SLACK
        excess_ns += self._max_rows * row_ns
        return Overloaded(_TEXTS[reason], self._back.after_s(caller, now, excess_ns, rows, slot_ns))

    def overloaded(self, reason: ShedReason, entries: Sequence[Entry], now: int) -> Overloaded:
        """The error for requests that had been let in, and are turned away after all."""
        self.shed[reason] += len(entries) - 1
        rows = sum([entry.plan.rows for entry in entries])
        return self._refusal(reason, entries[0].caller, rows, 0.0, now)

    # ---- what is learnt from batches

    def learn(self, rows: int, cycle_ns: int) -> None:
        """A batch of `rows` rows ended `cycle_ns` after the one before it, while enough waited to fill it."""
        self.pace.learn(rows, cycle_ns)
        self._set_target()

    def taken(self, now: int, received_ns: int) -> None:
        """A batch was taken whose first request came at `received_ns`."""
        self.crowded = False
        if now - received_ns <= self._target_ns * _TOLERANCE:
            self._above_since_ns = 0
            self._standing = False
        elif not self._above_since_ns:
            self._above_since_ns = now
        elif now - self._above_since_ns >= self._policy.interval_ns:
            self._standing = True

    def shed_before_ns(self, now: int) -> int:
        """Requests that came before this are shed instead of run; 0 for none."""
        return now - int(self._target_ns * _TOLERANCE) if self._standing else 0

    @property
    def expected_wait_s(self) -> float:
        """Seconds until all that waits now will have begun to run."""
        return self._queue.rows * self.pace.row_ns / 1e9

    def _set_target(self) -> None:
        row_ns = self.pace.row_ns
        easy_rows = self.queue_rows // 4
        if self._policy.target_ns and row_ns:
            self._target_ns = max(self._policy.target_ns, int(_TARGET_BATCHES * self._max_rows * row_ns))
            easy_rows = min(easy_rows, int(_EASY_SHARE * self._target_ns / row_ns))
        if self.easy_rows >= 0:  # closed otherwise
            self.easy_rows = min(self.queue_rows, self._bounded, max(self._max_rows, easy_rows))
