"""Bets against "the error rate is at most the tolerance", and what one audited label makes of each.

A bet multiplies its stake by 1 + lambda (z - tolerance) at every label. When the error rate is at most the tolerance,
no bet gains on average, however it is chosen beforehand, so a large stake is evidence (Waudby-Smith & Ramdas,
"Estimating means of bounded random variables by betting", JRSS-B 2024; Podkopaev & Ramdas, ICLR 2022).

z is the label itself (1 wrong, 0 right), or the label corrected by a proxy, y - eta (f - m): f is the failure
probability that the model was given without a label, m its mean over everything that the label was drawn from. The
correction has mean zero because the draw was uniform, and takes away the variance that the proxy explains
(Angelopoulos et al., "Prediction-powered inference", Science 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Alternatives as odds, relative to the tolerance's odds: from "a little worse" to "wrong four times as often".
ODDS = (1.4, 1.6, 1.9, 2.25, 3.0, 3.9, 6.0)
# How much of the proxy a bet takes in, and which share of the largest possible stake it risks.
_SHARES_OF_PROXY = (0.5, 0.8)
_SHARES_OF_LIMIT = (0.6, 0.95)


@dataclass(frozen=True, slots=True)
class Bets:
    """A fixed set of bets on one tolerance, and how the stake is spread over them.

    Attributes:
        tolerance: The largest error rate that is all right, in (0, 1).
        eta: (bets,) share of the proxy in z.
        stake: (bets,) lambda of bets without a proxy; share of the largest lambda of those with one.
        weights: (bets,) of the starting stake; they add up to 1.
    """

    tolerance: float
    eta: Floats
    stake: Floats
    weights: Floats

    def factors(
        self, wrong: npt.ArrayLike, proxy: npt.ArrayLike | None = None, mean: npt.ArrayLike | None = None
    ) -> Floats:
        """What each bet's stake is multiplied by.

        Args:
            wrong: (...) the label: 1 wrong, 0 right, or a loss between.
            proxy: (...) failure probability of the same input in [0, 1]. Without it no bet may use a proxy.
            mean: (...) mean of the proxy over the records from which this label was drawn uniformly.

        Returns:
            (..., bets), never negative.

        Raises:
            ValueError: a bet needs a proxy and there is none.
        """
        y = np.asarray(wrong, float)[..., None]
        if not self.eta.any():
            return 1.0 + self.stake * (y - self.tolerance)
        if proxy is None or mean is None:
            raise ValueError("these bets use a proxy, and none is given")
        f, m = np.asarray(proxy, float)[..., None], np.asarray(mean, float)[..., None]
        z = y - self.eta * (f - m)
        limit = 1.0 / (self.tolerance + self.eta * (1.0 - m))  # z is least where a right answer had proxy 1
        stake = np.where(self.eta > 0, self.stake * limit, self.stake)
        return np.maximum(0.0, 1.0 + stake * (z - self.tolerance))  # type: ignore[no-any-return]


def label_bets(tolerance: float, odds: Sequence[float] = ODDS) -> Bets:
    """Bets that use labels alone: the likelihood ratios against a range of higher error rates.

    A factor of q/p for an error and (1-q)/(1-p) otherwise is the bet lambda = (q - p) / (p (1 - p)). The weights favour
    small changes a little, (q - p)^-0.3, because those take the longest to see.

    Raises:
        ValueError: the tolerance is not between 0 and 1.
    """
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"the tolerance is {tolerance}: it must lie between 0 and 1")
    relative = np.asarray(odds) * tolerance / (1.0 - tolerance)
    worse = relative / (1.0 + relative)
    stake = (worse - tolerance) / (tolerance * (1.0 - tolerance))
    weights = (worse - tolerance) ** -0.3
    return Bets(tolerance, np.zeros_like(stake), stake, weights / weights.sum())


def proxy_bets(tolerance: float, share: float = 0.85) -> Bets:
    """Bets of both kinds, for models whose proxy has been seen to follow the truth.

    Args:
        tolerance: The largest error rate that is all right.
        share: Of the stake, for the bets that use the proxy. A useless proxy costs ln(1 / (1 - share)) of evidence.

    Raises:
        ValueError: tolerance or share is out of range.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"share is {share}: it must lie between 0 and 1")
    plain = label_bets(tolerance)
    eta, stake = (grid.ravel() for grid in np.meshgrid(_SHARES_OF_PROXY, _SHARES_OF_LIMIT, indexing="ij"))
    return Bets(
        tolerance,
        np.concatenate([plain.eta, eta]),
        np.concatenate([plain.stake, stake]),
        np.concatenate([plain.weights * (1.0 - share), np.full(eta.size, share / eta.size)]),
    )
