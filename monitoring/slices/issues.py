"""What people and the loop do about slices, and which state each of these leads to. Pure; `acts` and `turn` write."""

from __future__ import annotations

from enum import StrEnum

from export.contracts.errors import Conflict
from monitoring.slices.found import SliceState

LOOP = "hardcase"  # who did what the loop did
GROWS = 2.0  # an ignored slice comes back when it has so many times its excess failures


class SliceAct(StrEnum):
    """What was done about a slice."""

    ACKNOWLEDGE = "acknowledge"
    OWN = "own"  # somebody takes it, or gives it to somebody
    BATCH = "batch"  # a labelling batch was made of it
    TEST_SET = "test_set"  # a protected test set was made of it
    FIX = "fix"  # said to be fixed in a version
    IGNORE = "ignore"
    REOPEN = "reopen"
    MERGE = "merge"
    UNMERGE = "unmerge"
    SPLIT = "split"
    COMMENT = "comment"
    WATCH = "watch"  # an alert on its failure rate
    UNWATCH = "unwatch"
    REGRESS = "regress"  # the loop: found again on the version that fixed it, or a later one
    WAKE = "wake"  # the loop: ignored, and has grown
    FIRE = "fire"  # the loop: surely above the limit of its watch
    CALM = "calm"  # the loop: no longer


class WatchState(StrEnum):
    """Whether the limit of a watch is passed."""

    QUIET = "quiet"
    FIRING = "firing"  # the whole interval of the failure rate was above the limit


_ANY = frozenset(SliceState) - {SliceState.MERGED, SliceState.SPLIT}
_LEADS: dict[SliceAct, tuple[frozenset[SliceState], SliceState]] = {
    SliceAct.ACKNOWLEDGE: (_ANY - {SliceState.FIXED}, SliceState.ACKNOWLEDGED),
    SliceAct.BATCH: (_ANY, SliceState.BATCHED),
    SliceAct.FIX: (_ANY, SliceState.FIXED),
    SliceAct.IGNORE: (_ANY - {SliceState.FIXED}, SliceState.IGNORED),
    SliceAct.REOPEN: (_ANY, SliceState.NEW),
    SliceAct.MERGE: (_ANY, SliceState.MERGED),
    SliceAct.UNMERGE: (frozenset({SliceState.MERGED}), SliceState.NEW),
    SliceAct.SPLIT: (_ANY, SliceState.SPLIT),
    SliceAct.REGRESS: (frozenset({SliceState.FIXED}), SliceState.REGRESSED),
    SliceAct.WAKE: (frozenset({SliceState.IGNORED}), SliceState.NEW),
}
OPEN = (SliceState.REGRESSED, SliceState.NEW, SliceState.ACKNOWLEDGED, SliceState.BATCHED)


def state_after(state: SliceState, act: SliceAct) -> SliceState:
    """Where an act leads.

    Raises:
        Conflict: this cannot be done to a slice in that state.

    Example:
        >>> state_after(SliceState.FIXED, SliceAct.REGRESS).value
        'regressed'
        >>> state_after(SliceState.NEW, SliceAct.COMMENT).value
        'new'
    """
    if act not in _LEADS:
        return state
    allowed, after = _LEADS[act]
    if state not in allowed:
        raise Conflict(f"a slice that is {state.value} cannot be changed by '{act.value}'")
    return after


def excess(failure_rate: float, overall_rate: float, rows: int) -> float:
    """Failures beyond what as many requests usually have."""
    return max(0.0, (failure_rate - overall_rate) * rows)
