"""What is known about a challenger on this replica: plain counters, changed on the loop, read by metrics and status."""

from __future__ import annotations

from enum import StrEnum

from export.contracts.traffic import ChallengerMode
from serving.breaker import Breaker


class Fallback(StrEnum):
    """Why the champion answered a request of the challenger's share. Label of `hardcase_canary_fallbacks_total`."""

    INVALID = "invalid"  # the challenger's signature does not take what the champion's does
    OVERLOADED = "overloaded"  # the challenger's queue was full
    UNAVAILABLE = "unavailable"  # the challenger was being unloaded
    FAILED = "failed"  # the challenger failed on it
    NON_FINITE = "non_finite"  # the challenger answered NaN or infinity to finite inputs


class ShadowResult(StrEnum):
    """What became of a request that the champion answered while a challenger was in the shadow.

    Label of `hardcase_shadow_requests_total`. Their sum, and what still waits, is every request that was offered.
    """

    COMPARED = "compared"  # the challenger ran on it; answers were compared and recorded
    FAILED = "failed"  # the challenger raised
    NOT_SAMPLED = "not_sampled"  # outside the share that is mirrored
    DROPPED_BUSY = "dropped_busy"  # the champion had a backlog
    DROPPED_FULL = "dropped_full"  # the shadow's own queue was full
    DROPPED_INCOMPATIBLE = "dropped_incompatible"  # the challenger takes other inputs
    DROPPED_CLOSED = "dropped_closed"  # the challenger was withdrawn first


class Difference(StrEnum):
    """How a row of the challenger's answer differs. Label of `hardcase_shadow_different_rows_total`."""

    ARGMAX = "argmax"  # another class is the most likely one
    NON_FINITE = "non_finite"  # NaN or infinity where the champion's answer is finite
    VALUE = "value"  # an output that is not a float differs
    SHAPE = "shape"  # an output has another shape, or is missing


class Evidence:
    """Counters of one challenger in one mode, from the moment at which it went on duty here.

    Attributes:
        challenger: Its version.
        mode: What it does.
        since_ns: Wall clock.
        canary_requests: Requests that the challenger answered, or tried to.
        fallbacks: Requests of its share that the champion answered, by reason.
        shadow: Offered requests by what became of them.
        waiting: Offered requests that the shadow has not come to.
        rows: Rows that were compared.
        different: Rows that differ, by how. A row may differ in several ways.
        max_abs_difference: Largest absolute difference of a finite float output, over all answered outputs.
        passes, slower_passes: Executions in the shadow, and those that took longer than the champion took for the same
            rows. The shadow joins the champion's batches, which favours it: what is slower here is slower.
        champion_ns, shadow_ns: Time in the runtime for the rows that were compared.
        breaker: Sees how the canary's requests end.
        tripped: Why the challenger was taken out on this replica; empty while it is in.
        tripped_revision: The plan's revision at that moment: a later one is a reason to try again.
    """

    __slots__ = (
        "breaker",
        "canary_requests",
        "challenger",
        "champion_ns",
        "different",
        "fallbacks",
        "max_abs_difference",
        "mode",
        "passes",
        "rows",
        "shadow",
        "shadow_ns",
        "since_ns",
        "slower_passes",
        "tripped",
        "tripped_revision",
        "waiting",
    )

    def __init__(self, challenger: str, mode: ChallengerMode, since_ns: int, breaker: Breaker) -> None:
        self.challenger = challenger
        self.mode = mode
        self.since_ns = since_ns
        self.canary_requests = 0
        self.fallbacks: dict[Fallback, int] = dict.fromkeys(Fallback, 0)
        self.shadow: dict[ShadowResult, int] = dict.fromkeys(ShadowResult, 0)
        self.waiting = 0
        self.rows = 0
        self.different: dict[Difference, int] = dict.fromkeys(Difference, 0)
        self.max_abs_difference = 0.0
        self.passes = 0
        self.slower_passes = 0
        self.champion_ns = 0
        self.shadow_ns = 0
        self.breaker = breaker
        self.tripped = ""
        self.tripped_revision = 0
