"""Evidence that accumulates label by label: for a promise over a whole life, and for one over run lengths.

Both are sums of bets that began at different times, kept in constant memory: a bet's stakes of all starts are one
number, because they are multiplied by the same factor from then on.

- `LifeEvidence`: the stake is divided over all starts beforehand, so the sum is an e-process: under the null it reaches
  1/alpha with probability at most alpha, ever (Ville 1939). Later starts keep it able to see a change after a long
  healthy history, in which a stake that began at the beginning has been lost. A renewal (another version, a resolved
  alarm) throws away what has begun and begins again with a part of the stake that was kept for renewals: throwing away
  only lowers the sum, so the promise covers the model's whole life, all versions and alarms together.
- `RunEvidence`: every start has the full stake, so the sum is an e-detector of Shiryaev-Roberts type: under the null
  the mean number of labels until it reaches c is at least c (Shin, Ramdas & Rinaldo, "E-detectors", NEJSDS 2023). It is
  faster, and false alarms do come, once in c labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from monitoring.alarms.bets import Floats

START_EVERY = 50  # labels between two starts of `LifeEvidence`
FIRST_SHARE = 0.7  # of its stake that begins with the first label
LATER_SHARE = 0.2  # ... with the later starts
RENEWAL_SHARE = 0.1  # ... at renewals
_MOST = 1e200  # evidence beyond this says nothing more, and must not overflow
# Shares of the later starts fall as 1 / (k ln^2(k + 1)), whose sum converges slowly; this is its limit.
_STARTS_SUM = sum(1.0 / (k * math.log(k + 1.0) ** 2) for k in range(1, 200_001)) + 1.0 / math.log(200_001.5)


def start_share(number: int) -> float:
    """Share of the stake that the start after `number` * START_EVERY labels gets; they add up to 1 - RENEWAL_SHARE.

    Example:
        >>> start_share(0), start_share(1) > start_share(2) > 0
        (0.7, True)
    """
    if number == 0:
        return FIRST_SHARE
    return LATER_SHARE / (number * math.log(number + 1.0) ** 2 * _STARTS_SUM)


def renewal_share(number: int) -> float:
    """Share of the stake that renewal `number` (from 1) gets; all of them add up to RENEWAL_SHARE.

    Example:
        >>> round(renewal_share(1), 4), round(renewal_share(2), 4)
        (0.0608, 0.0152)
    """
    return RENEWAL_SHARE * 6.0 / (math.pi * number) ** 2


@dataclass
class LifeEvidence:
    """An e-process against "the error rate is at most the tolerance".

    Attributes:
        weights: (bets,) how a stake is spread over the bets.
        stakes: (..., bets) sum of all starts; leading axes are independent streams.
        labels: Seen so far.
        waiting: Share of the stake that has not begun.
        renewals: So far.
    """

    weights: Floats
    stakes: Floats = field(default_factory=lambda: np.empty(0))
    labels: int = 0
    waiting: float = 1.0
    renewals: int = 0

    def __post_init__(self) -> None:
        """Begin empty."""
        if not self.stakes.size:
            self.stakes = np.zeros_like(self.weights)

    def update(self, factors: Floats) -> None:
        """Take one label a stream: the (..., bets) `factors` that it makes (`monitoring.alarms.bets.Table`)."""
        if self.labels % START_EVERY == 0:
            self._begin(start_share(self.labels // START_EVERY))
        self.stakes = np.minimum(self.stakes * factors, _MOST)
        self.labels += 1

    def renew(self) -> None:
        """Forget what was gathered; the promise goes on."""
        self.renewals += 1
        self.stakes = np.zeros_like(self.stakes)
        self._begin(renewal_share(self.renewals))

    def _begin(self, share: float) -> None:
        self.stakes = self.stakes + share * self.weights
        self.waiting -= share

    @property
    def value(self) -> Floats:
        """(...) the evidence: 1 at first; 1/alpha or more is an alarm whose lifetime chance of being false is alpha."""
        return np.asarray(self.stakes.sum(axis=-1) + max(0.0, self.waiting))


@dataclass
class RunEvidence:
    """An e-detector for "the error rate has crossed the boundary". Attributes as in `LifeEvidence`."""

    weights: Floats
    stakes: Floats = field(default_factory=lambda: np.empty(0))
    labels: int = 0

    def __post_init__(self) -> None:
        """Begin empty."""
        if not self.stakes.size:
            self.stakes = np.zeros_like(self.weights)

    def update(self, factors: Floats) -> None:
        """Take one label a stream; see `LifeEvidence.update`."""
        self.stakes = np.minimum((self.stakes + self.weights) * factors, _MOST)
        self.labels += 1

    def renew(self) -> None:
        """Forget what was gathered."""
        self.stakes = np.zeros_like(self.stakes)

    @property
    def value(self) -> Floats:
        """(...) the evidence: 0 at first; c or more is an alarm that is false once in c labels, on average, at most."""
        return np.asarray(self.stakes.sum(axis=-1))
