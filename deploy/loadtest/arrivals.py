"""When requests of an open loop are meant to leave: a schedule that does not care how the server is doing."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np

_BLOCK = 1024


class Arrivals(StrEnum):
    """How the gaps between requests are distributed."""

    POISSON = "poisson"  # exponential gaps: many independent callers, as in real traffic
    CONSTANT = "constant"  # equal gaps: a metronome; kinder to a server than callers are


def schedule(kind: Arrivals, per_s: float, start_ns: int, *, seed: int, phase: float = 0.0) -> Iterator[int]:
    """Endless send times in nanoseconds, never going back.

    Args:
        kind: Distribution of the gaps.
        per_s: Mean rate, requests a second, > 0.
        start_ns: When the schedule begins.
        seed: Of the random gaps.
        phase: For equal gaps: share of a gap by which the schedule is late, so that several processes interleave.

    Example:
        >>> times = schedule(Arrivals.CONSTANT, 1000.0, 5_000, seed=0)
        >>> [next(times) for _ in range(3)]
        [5000, 1005000, 2005000]
    """
    if per_s <= 0:
        raise ValueError(f"a rate must be positive, not {per_s}")
    gap_ns = 1e9 / per_s
    if kind is Arrivals.CONSTANT:
        number = 0
        while True:
            yield start_ns + round((number + phase) * gap_ns)
            number += 1
    random = np.random.default_rng(seed)
    at = float(start_ns)
    while True:
        for gap in random.exponential(gap_ns, _BLOCK).tolist():
            at += gap
            yield round(at)
