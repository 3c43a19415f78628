"""Bets against "the error rate is at most p0", and what one audited label makes of each.

A bet multiplies its stake by B(y, f): y is the label (1 wrong, 0 right, or a loss between), f the proxy, the failure
probability that the model was given without any label. When the error rate is at most p0 no bet gains on average,
however it is chosen beforehand, so a large stake is evidence (Waudby-Smith & Ramdas, "Estimating means of bounded
random variables by betting", JRSS-B 2024; Podkopaev & Ramdas, ICLR 2022).

What is used of the proxy is only that the label was drawn uniformly from records whose proxies are all known, as in
prediction-powered inference (Angelopoulos et al., Science 2023). With F the distribution of those proxies,

    B(y, f) = a(f) + b y,    sum_f F(f) a(f) + b p0 = 1

has mean at most 1 for every way in which errors may depend on f, as long as p0 bounds their share. Among these the bet
that grows fastest when errors have the chance pi(f) takes, in each f, the positive root of

    a^2 + (b - 1) a - (1 - pi(f)) b = 0

and the b that meets the constraint (the Lagrange condition of growth-rate optimality: Grünwald, de Heide & Koolen,
"Safe testing", JRSS-B 2024; the multiplier is 1). Without a proxy it is the likelihood ratio of pi against p0. A proxy
that moves while the errors do not gains nothing: F is what it is, only labels speak.

Where the draw itself prefers some bins, with chances in proportion to d(f), labels come from D(f) ~ F(f) d(f), and

    B(y, f) = a(f) + b (F(f) / D(f)) y,    sum_f D(f) a(f) + b p0 = 1

keeps the same promise (Horvitz & Thompson 1952); the root above is then taken with b F(f) / D(f) in place of b.

The proxy enters in bins, so that the mean over F is exact from counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Alternatives as odds, relative to p0's odds: from "a little worse" to "wrong many times as often".
WORSE = (1.4, 1.6, 1.9, 2.25, 3.0, 3.9, 6.0)
# ... and for "it is better than p0 again".
BETTER = (0.7, 0.5, 0.35, 0.2, 0.1)
# How far a bet trusts the differences between the proxies' log-odds, and its share of the stake.
TRUST = ((0.0, 0.2), (1.0, 0.2), (2.0, 0.35), (3.0, 0.25))
DOUBT = 0.02  # of pi that does not depend on the proxy: no single label may cost a bet everything
_STEP = 0.5  # width of a bin of the proxy in log-odds
_EDGES = 1.0 / (1.0 + np.exp(-np.arange(-6.0, 6.0 + _STEP / 2, _STEP)))
_CENTRES = np.arange(-6.0 - _STEP / 2, 6.0 + _STEP, _STEP)  # log-odds that stand for each bin
BINS = len(_CENTRES)
BIN_CHANCES = 1.0 / (1.0 + np.exp(-_CENTRES))  # P(wrong) that stands for each bin
_HALVINGS = 60


def proxy_bins(proxy: npt.ArrayLike) -> Ints:
    """Bin of each proxy, as its shape; one that is not known goes with the lowest.

    Example:
        >>> proxy_bins([0.0, 0.5, 1.0, float("nan")]).tolist()
        [0, 13, 25, 0]
    """
    known = np.nan_to_num(np.asarray(proxy, float), nan=0.0)
    return np.asarray(np.searchsorted(_EDGES, known, side="right"), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Table:
    """Bets made for one population of proxies: `a` and `b`, both (bets, bins)."""

    a: Floats
    b: Floats  # equal in all bins where the draw was uniform

    def factors(
        self, wrong: npt.ArrayLike, proxy_bin: npt.ArrayLike | None = None, weight: npt.ArrayLike = 1.0
    ) -> Floats:
        """What each bet's stake is multiplied by.

        Args:
            wrong: (...) the label.
            proxy_bin: (...) of the same record; None only where the table was made without proxies.
            weight: (...) in (0, 1]: the least probability with which a record of the population was kept, over this
                record's. It makes a draw that prefers some records count as a uniform one (Horvitz & Thompson 1952).

        Returns:
            (..., bets), never negative.
        """
        y, w = np.asarray(wrong, float)[..., None], np.asarray(weight, float)[..., None]
        bins = 0 if proxy_bin is None else np.asarray(proxy_bin)
        return np.asarray(np.maximum(0.0, 1.0 + w * (self.a.T[bins] + self.b.T[bins] * y - 1.0)))


@dataclass(frozen=True, slots=True)
class Bets:
    """A fixed set of bets on one boundary, and how the stake is spread over them.

    Attributes:
        boundary: p0, in (0, 1).
        rates: (bets,) error rates that the bets are made for; all on one side of the boundary.
        trust: (bets,) see `TRUST`.
        weights: (bets,) of the starting stake; they add up to 1.
    """

    boundary: float
    rates: Floats
    trust: Floats
    weights: Floats

    def table(self, population: npt.ArrayLike | None = None, draw: npt.ArrayLike | None = None) -> Table:
        """The bets for labels drawn from such a population.

        Args:
            population: (BINS,) how many records, or their weights, in each bin of the proxy. None or all zero: no proxy
                is known, and every bet is one on the label alone.
            draw: (BINS,) chances of the bins to be drawn, up to a factor, all above 0; None: drawn uniformly.
        """
        counts = None if population is None else np.asarray(population, float)
        if counts is None or counts.sum() <= 0:
            chances = np.repeat(self.rates[:, None], 1 if counts is None else BINS, axis=1)
            share = np.full(chances.shape[1], 1.0 / chances.shape[1])
        else:
            share = counts / counts.sum()
            chances = self._chances(share)
        return fastest(chances, share, self.boundary, self.rates > self.boundary, draw)

    def _chances(self, share: Floats) -> Floats:
        """Pi, (bets, bins): the proxy's log-odds stretched by the trust and moved until the mean is the bet's rate."""
        stretched = self.trust[:, None] * _CENTRES
        low, high = np.full(self.rates.size, -60.0), np.full(self.rates.size, 60.0)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            mean = (_sigmoid(stretched + middle[:, None]) * share).sum(axis=1)
            low, high = np.where(mean < self.rates, middle, low), np.where(mean < self.rates, high, middle)
        tilted = _sigmoid(stretched + ((low + high) / 2.0)[:, None])
        return np.asarray((1.0 - DOUBT) * tilted + DOUBT * self.rates[:, None])


def worse_bets(boundary: float, odds: Sequence[float] = WORSE, trust: Sequence[tuple[float, float]] = TRUST) -> Bets:
    """Bets that the error rate is above the boundary.

    The weights favour small changes a little, (q - p0)^-0.3, because those take the longest to see.

    Raises:
        ValueError: the boundary is not between 0 and 1.
    """
    return _bets(boundary, odds, trust)


def better_bets(boundary: float, odds: Sequence[float] = BETTER, trust: Sequence[tuple[float, float]] = TRUST) -> Bets:
    """Bets that the error rate is below the boundary. Errors as `worse_bets`."""
    return _bets(boundary, odds, trust)


def _bets(boundary: float, odds: Sequence[float], trust: Sequence[tuple[float, float]]) -> Bets:
    if not 0.0 < boundary < 1.0:
        raise ValueError(f"the tolerance is {boundary}: it must lie between 0 and 1")
    relative = np.asarray(odds, float) * boundary / (1.0 - boundary)
    rates = relative / (1.0 + relative)
    weights = np.abs(rates - boundary) ** -0.3
    kinds, shares = np.asarray(trust, float).T
    return Bets(
        boundary,
        np.repeat(rates, kinds.size),
        np.tile(kinds, rates.size),
        np.outer(weights / weights.sum(), shares / shares.sum()).ravel(),
    )


def fastest(
    chances: Floats,
    share: Floats,
    boundary: float,
    worse: npt.NDArray[np.bool_],
    draw: npt.ArrayLike | None = None,
) -> Table:
    """The bets that grow fastest if `chances` (bets, bins) are true, by halving for b. `draw` as in `Bets.table`."""
    ratio = np.ones(share.size)  # F / D
    if draw is not None:
        preferred = np.asarray(draw, float)
        ratio = float(share @ preferred) / preferred
        share = share / ratio

    def a_of(b: Floats) -> Floats:
        c = b[:, None] * ratio
        return np.asarray(((1.0 - c) + np.sqrt((1.0 - c) ** 2 + 4.0 * (1.0 - chances) * c)) / 2.0)

    near = np.where(worse, 1e-12, -1e-12)
    far = np.where(worse, 1.0 / boundary, -1.0 / (1.0 - boundary))
    for _ in range(_HALVINGS):
        b = (near + far) / 2.0
        short = (a_of(b) * share).sum(axis=1) + b * boundary < 1.0
        near, far = np.where(short, b, near), np.where(short, far, b)
    a = a_of(near)
    # What halving left over goes to nobody: the mean is at most 1, never above it.
    total = (a * share).sum(axis=1) + near * boundary
    keep = 1.0 / np.maximum(total, 1.0)
    return Table(a * keep[:, None], (near * keep)[:, None] * ratio)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0))))
