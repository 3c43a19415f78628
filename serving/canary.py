"""The canary: a challenger that answers its share of the requests, and never costs a client an answer.

A request of the share is queued at the challenger. When the challenger cannot take it, fails on it, hangs, or answers
NaN to finite inputs, the champion answers after all, within the request's own time limit. The champion's signature is
the contract meanwhile: a request that it refuses is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from export.contracts.errors import DeadlineExceeded, HardcaseError, Overloaded, Unavailable
from export.contracts.traffic import Variant
from serving.assignment import Assignment
from serving.entry import Entry
from serving.evidence import Evidence, Fallback
from serving.execution import Execution
from serving.grpc.scan import InferMessage

if TYPE_CHECKING:
    from serving.served import ServedModel
    from serving.version import LoadedVersion

_FAIR_BATCHES = 20  # a time limit of fewer champion batches than this says nothing about the challenger
_FAIR_NS = 10_000_000  # nor does one below this
_STALL_BATCHES = 50  # a batch that takes longer than this many of the challenger's own, and than _STALL_NS, hangs
_STALL_NS = 1_000_000_000
_LOOK_S = 0.25  # how often the running batch is looked at while requests wait for it


class Canary:
    """A challenger on duty. Made and ended by the pool, on the loop.

    Args:
        served: The model; its champion answers whoever the challenger fails.
        challenger: A READY version.
        share: Whose requests it gets.
        evidence: Counted here; its breaker sees every outcome.
        trip: Called with the reason when the challenger must go, on the loop.
    """

    def __init__(
        self,
        served: ServedModel,
        challenger: LoadedVersion,
        share: Assignment,
        *,
        evidence: Evidence,
        trip: Callable[[str], None],
    ) -> None:
        self.served = served
        self.challenger = challenger
        self.share = share
        self.evidence = evidence
        self._trip = trip
        self._stall_ns = max(_STALL_NS, _ns(challenger.batch_us) * _STALL_BATCHES)
        self._under_way: set[_Attempt] = set()
        self._looker: asyncio.TimerHandle | None = None
        self._inspector = self._inspect
        challenger.inspect = self._inspector

    def close(self) -> None:
        """Send nothing more. What is queued at the challenger still gets its answer."""
        if self.challenger.inspect is self._inspector:
            self.challenger.inspect = None

    def divert(self, entry: Entry, body: bytes | InferMessage) -> bool:
        """Queue a request of the share at the challenger.

        Args:
            entry: The request as the champion would take it; its `reply` hears of the answer, whoever gives it.
            body: As `DataPlane.accept` got it: each version has its own parser.

        Returns:
            False when the challenger does not take it: the champion must.
        """
        try:
            attempt = _Attempt(entry, self, self.challenger, Variant.CANARY, body)
            self.challenger.batcher.submit(attempt)
        except Overloaded:
            reason = Fallback.OVERLOADED
        except Unavailable:
            reason = Fallback.UNAVAILABLE
        except HardcaseError:
            reason = Fallback.INVALID
        else:
            self.evidence.canary_requests += 1
            self._under_way.add(attempt)
            if self._looker is None:
                self._look_later()
            return True
        self.evidence.fallbacks[reason] += 1
        return False

    # ---- what attempts tell

    def ended(self, attempt: _Attempt) -> None:
        """An attempt is over at the challenger, however it ended."""
        self._under_way.discard(attempt)

    def note(self, *, failed: bool, reason: str = "") -> None:
        """Let the breaker see how a request ended."""
        seen = self.evidence.breaker
        if seen.note(failed=failed):
            self._trip(f"{seen.failures} of {seen.requests} requests failed; the last one: {reason}")

    def late(self, attempt: _Attempt) -> None:
        """A time limit passed at the challenger. It counts when the champion would have met it with ease."""
        champion = self.served.champion
        needed_ns = max(_FAIR_NS, _ns(champion.batch_us) * _FAIR_BATCHES) if champion is not None else 0
        if attempt.deadline_ns - attempt.received_ns >= needed_ns:
            self.note(failed=True, reason="the time limit passed before the answer was ready")

    # ---- looking at the challenger

    def _look_later(self) -> None:
        self._looker = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        """While requests wait: a batch that hangs must not hold them until their time limit."""
        self._looker = None
        if not self._under_way:
            return
        since = self.challenger.batcher.busy_since_ns
        if since and perf_counter_ns() - since > self._stall_ns:
            self._trip(f"a batch has been running for more than {self._stall_ns / 1e9:.0f} s")
            for attempt in list(self._under_way):
                attempt.withdraw()
        self._look_later()

    def _inspect(self, entries: list[Entry], execution: Execution) -> None:
        """Mark requests whose answer is NaN or infinite although their inputs are finite. Before they are answered."""
        outputs = execution.outputs
        if outputs is None:
            return
        arrays = [array for array in outputs.arrays if array is not None and array.dtype.kind == "f"]
        if all(bool(np.isfinite(array).all()) for array in arrays):
            return
        inputs = [array for array in execution.inputs if array.dtype.kind == "f"]
        batched, start = self.challenger.signature.batched, 0
        for entry in entries:
            span = slice(start, start + entry.plan.rows) if batched else slice(None)
            start += entry.plan.rows
            if isinstance(entry, _Attempt) and not all(np.isfinite(array[span]).all() for array in arrays):
                entry.non_finite = all(bool(np.isfinite(array[span]).all()) for array in inputs)


class _Attempt(Entry):
    """One version's try at a request, and the reply that hears how it went.

    Args:
        primary: The request, as the transport knows it.
        canary: Whose it is.
        version: Who tries.
        variant: As what.
        body: As `DataPlane.accept` got it.
        after: Why the challenger's try before this one failed; None on the challenger's own.

    Raises:
        HardcaseError: the version refuses the body.
    """

    __slots__ = ("_after", "_body", "_canary", "_primary", "_withdrawn", "non_finite")

    def __init__(
        self,
        primary: Entry,
        canary: Canary,
        version: LoadedVersion,
        variant: Variant,
        body: bytes | InferMessage,
        after: Fallback | None = None,
    ) -> None:
        if isinstance(body, bytes):
            parsed = version.parser.parse(body, primary.call.header_length)
        else:
            parsed = version.message_parser.parse(body)
        self._primary = primary
        self._canary = canary
        self._body = body
        self._after = after
        self._withdrawn = False
        self.non_finite = False
        super().__init__(
            parsed.plan,
            parsed.buffers,
            variant,
            primary.id,
            primary.id_json,
            primary.received_ns,
            primary.time_ns,
            primary.deadline_ns,
            self,
            primary.call,
            primary.caller,
        )
        self.trace, self.trace_id = primary.trace, primary.trace_id

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this try any more."""
        return self._primary.cancelled or self._withdrawn

    @cancelled.setter
    def cancelled(self, gone: bool) -> None:
        self._withdrawn = gone

    def withdraw(self) -> None:
        """Take the request away from the version, which has not answered, and let the champion have it."""
        self._withdrawn = self.answered = True
        self._rescue(Fallback.FAILED)

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        """The version has answered."""
        if self.non_finite and self._after is None:
            self._rescue(Fallback.NON_FINITE)
            return
        self._canary.ended(self)
        if self._after is None:
            self._canary.note(failed=False)
        elif self._after is not Fallback.UNAVAILABLE:  # the champion can do it: the challenger is at fault
            text = "the model failed" if self._after is Fallback.FAILED else "the answer is not finite"
            self._canary.note(failed=True, reason=text)
        self._primary.answered = True
        self._primary.reply.answer(self._primary, headers, body)

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        """The version has failed. When it was the challenger, the client need not know."""
        if self._after is None and not isinstance(error, DeadlineExceeded):
            self._rescue(Fallback.UNAVAILABLE if isinstance(error, Unavailable) else Fallback.FAILED)
            return
        self._canary.ended(self)
        if self._after is None:
            self._canary.late(self)
        self._finish(error)

    def _rescue(self, reason: Fallback) -> None:
        """Let the champion answer."""
        canary = self._canary
        canary.ended(self)
        canary.evidence.fallbacks[reason] += 1
        try:
            champion, variant = canary.served.choose(None)
            champion.batcher.submit(_Attempt(self._primary, canary, champion, variant, self._body, reason))
        except HardcaseError as error:
            self._finish(error)

    def _finish(self, error: HardcaseError) -> None:
        self._primary.answered = True
        self._primary.reply.fail(self._primary, error)


def _ns(batch_us: float) -> int:
    """A batch's time in nanoseconds; what could not be measured counts as 0.2 s."""
    return int(batch_us * 1000) if batch_us < float("inf") else 200_000_000
