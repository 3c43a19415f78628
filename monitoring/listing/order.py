"""Sorts of the case list, and cutting a page out of a million slots without sorting them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.listing.columns import Columns
from monitoring.listing.words import Bools, Ints


class Sort(StrEnum):
    """How cases are listed; ties go by id, the highest first."""

    RANK = "rank"  # most probably wrong first
    QUEUE = "queue"  # what to look at next: by priority, then different failures, audits dealt in
    TIME = "time"  # newest first
    OLDEST = "oldest"  # oldest first
    UNSURE = "unsure"  # least confident first
    DECIDED = "decided"  # decided last first


class Format(StrEnum):
    """Kinds of file."""

    JSONL = "jsonl"  # one JSON object a line
    CSV = "csv"  # RFC 4180, UTF-8


PRIORITY_STEP = 1e6  # more than any place in the queue
SAMPLE, SAMPLED_FROM = 10_000, 50_000  # values looked at to guess where a page ends, and from how many on


def places(columns: Columns, sort: Sort) -> npt.NDArray[Any]:
    """What a list goes by, highest first, for every slot."""
    if sort is Sort.RANK:
        return columns["rank"]
    if sort is Sort.QUEUE:
        return columns["queue"] + columns["priority"] * PRIORITY_STEP
    if sort is Sort.TIME:
        return columns["time_ns"]
    if sort is Sort.OLDEST:
        return -columns["time_ns"]
    if sort is Sort.UNSURE:
        return np.nan_to_num(1.0 - columns["confidence"], nan=-1.0)
    return columns["decided_ns"]


def after(columns: Columns, sort: Sort, value: float, identity: str) -> Bools:
    """Which slots come after this place."""
    place = places(columns, sort)
    behind = (place == value) & (columns["id"] < np.uint64(int(identity, 16)))
    return np.asarray((place < value) | behind, dtype=np.bool_)


def first(columns: Columns, sort: Sort, fits: Bools, count: int) -> Ints:
    """The first `count` of the slots that fit, in order.

    Nothing but the page is sorted: `_edge` finds the value at its end, a partition the ids among its ties.
    """
    slots = np.flatnonzero(fits)
    place = places(columns, sort)[slots]
    ids = columns["id"]
    if len(slots) > count:
        edge = _edge(place, count)
        above, ties = slots[place > edge], slots[place == edge]
        wanted = count - len(above)
        if wanted < len(ties):
            tied = ids[ties]
            ties = ties[tied >= np.partition(tied, len(tied) - wanted)[len(tied) - wanted]]
        slots = np.concatenate([above, ties])
        place = places(columns, sort)[slots]
    return np.asarray(slots[np.lexsort((ids[slots], place))[::-1]], dtype=np.int64)


def _edge(place: npt.NDArray[Any], count: int) -> Any:
    """The value that the `count`-th highest of more than `count` values has.

    NumPy's partition takes twenty times as long where most values are equal, as the times of decisions are while most
    cases have none. So a sample says about where the edge is, and only what is above that is partitioned.
    """
    if len(place) > SAMPLED_FROM:
        sample = np.sort(place[:: len(place) // SAMPLE])
        near = sample[len(sample) - 1 - min(len(sample) - 1, 8 + 4 * count * len(sample) // len(place))]
        above = place[place > near]
        if len(above) >= count:
            place = above
        elif len(above) + int(np.count_nonzero(place == near)) >= count:
            return near
    return np.partition(place, len(place) - count)[len(place) - count]
