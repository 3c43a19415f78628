"""Asking again: with growing, random pauses, within a time, and within a budget that all calls of a process share.

The budget is what keeps a struggling bucket from being asked three times as often by everybody: each repetition takes
from it, each success gives a little back, and when it is empty the first failure is the answer.

References:
    M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full jitter).
    AWS SDKs and Tools Reference Guide, "Retry behavior", standard mode (the token bucket and its costs).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from export.storage.objects import StorageUnavailable

T = TypeVar("T")


class TryAgain(Exception):
    """An attempt failed in a way that may pass: a 5xx, a cut connection, a body that was not whole."""


class Budget:
    """Tokens for repetitions, shared by threads.

    Example:
        >>> budget = Budget(capacity=10)
        >>> budget.take(), budget.take(), budget.take()
        (True, True, False)
        >>> budget.give(); budget.left
        1
    """

    def __init__(self, capacity: int = 500, cost: int = 5) -> None:
        self.left = capacity
        self._capacity, self._cost = capacity, cost
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Pay for one repetition; False when there is not enough left."""
        with self._lock:
            if self.left < self._cost:
                return False
            self.left -= self._cost
            return True

    def give(self) -> None:
        """After a success."""
        with self._lock:
            self.left = min(self._capacity, self.left + 1)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often, and for how long.

    Attributes:
        attempts: At most, the first one included.
        total_s: No attempt begins later than this after the first.
        first_pause_s: Bound of the first pause; each later one is twice the one before, up to `longest_pause_s`.
    """

    attempts: int = 6
    total_s: float = 60.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0
    budget: Budget = field(default_factory=Budget)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: random.Random = field(default_factory=random.Random)

    def call(self, attempt: Callable[[], T]) -> T:
        """Attempt until it works.

        Raises:
            StorageUnavailable: attempts, time or budget are used up.
        """
        begun = self.clock()
        for number in range(self.attempts):
            try:
                result = attempt()
            except TryAgain as error:
                pause = self.chance.uniform(0, min(self.longest_pause_s, self.first_pause_s * 2**number))
                late = self.clock() + pause - begun > self.total_s
                if number + 1 == self.attempts or late or not self.budget.take():
                    raise StorageUnavailable(
                        f"the bucket does not answer properly ({error}), asked {number + 1} times"
                    ) from error
                self.sleep(pause)
            else:
                self.budget.give()
                return result
        raise AssertionError("there is always a first attempt")
