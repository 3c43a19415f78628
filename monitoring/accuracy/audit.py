"""The error rate from a random audit sample, sharpened by the label-free proxy: prediction-powered inference.

Each audited record gives z = y - eta (f - m): y is the label (1 wrong), f the proxy P(wrong), m the mean of f over all
records that the sample was drawn from. The mean of z is the error rate whatever the proxy is worth; its variance is
smaller the better the proxy follows the truth (PPI++, Angelopoulos, Duchi & Zrnic 2023, with the power-tuned eta).

The interval is Wilson's with the sample size n p (1 - p) / var(z). The normal one covers 63 % instead of 95 % when one
in fifty is wrong and fifty are audited (simulated; `tests/monitoring/accuracy`): rare errors have no bell curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri  # the quantile of the normal distribution; scipy.stats takes half a second to load

MIN_LABELS = 30
_MOST_ETA = 1.5
_LEAST_RATIO = 0.02  # the variance that a proxy takes away is itself estimated: never believe more than this
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRate:
    """An error rate with its interval, or why there is none.

    Attributes:
        value: In [0, 1]; None when there are not enough data.
        low, high: Ends of the interval; None as `value`.
        level: Its nominal coverage.
        labels: Audited labels behind it.
        gain: Variance with the proxy divided by the variance of labels alone; 1 for a useless proxy.
        missing: Why there is no value, for people; empty when there is one.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    labels: int
    gain: float = 1.0
    missing: str = ""


def error_rate(
    wrong: npt.ArrayLike,
    proxy: npt.ArrayLike | None = None,
    proxy_mean: float | None = None,
    level: float = 0.95,
    weights: npt.ArrayLike | None = None,
) -> ErrorRate:
    """Estimate the error rate of everything that an audit sample was drawn from.

    Args:
        wrong: (labels,) 1 wrong, 0 right; a share for a record of several rows.
        proxy: (labels,) P(wrong) of the same records; None, or not finite anywhere, uses the labels alone.
        proxy_mean: Mean of the proxy over all records, audited or not.
        level: Nominal coverage.
        weights: (labels,) 1 / chance of having been drawn, up to a factor (Hajek 1971); None: drawn uniformly. The
            sample then counts as Kish's effective number of labels, (sum w)**2 / sum w**2 (Survey Sampling 1965).

    Raises:
        ValueError: shapes differ, or `level` is not between 0 and 1.

    Example:
        >>> error_rate([0, 1]).missing
        'not enough data: 2 of 30 audited labels'
    """
    y = np.asarray(wrong, float)
    n = y.size
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}: it must lie between 0 and 1")
    if n < MIN_LABELS:
        missing = f"not enough data: {n} of {MIN_LABELS} audited labels"
        return ErrorRate(value=None, low=None, high=None, level=level, labels=n, missing=missing)
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    if w.shape != y.shape or not (w > 0).all():
        raise ValueError(f"{n} labels and {w.size} weights: one positive weight a label is expected")
    w = w * (n / w.sum())
    value, gain, effective = float((w * y).mean()), 1.0, n * n / float(w @ w)
    if proxy is not None and proxy_mean is not None:
        f = np.asarray(proxy, float)
        if f.shape != y.shape:
            raise ValueError(f"{n} labels and {f.size} proxies")
        if np.isfinite(f).all() and math.isfinite(proxy_mean):
            value, gain = _sharpened(y, f, proxy_mean, w)
    low, high = _wilson(value, effective / gain, level)
    return ErrorRate(value=value, low=low, high=high, level=level, labels=n, gain=gain)


def _sharpened(y: Floats, f: Floats, mean: float, w: Floats) -> tuple[float, float]:
    """The corrected estimate, and its variance relative to that of the labels alone. `w` has mean 1."""
    n = len(y)
    plain, centre = float((w * y).mean()), float((w * f).mean())
    spread, alone = float((w * (f - centre) ** 2).sum() / (n - 1)), plain * (1.0 - plain)
    if spread <= 0.0 or alone <= 0.0:  # no errors, or nothing but errors: the proxy has nothing to explain
        return plain, 1.0
    joint = float((w * (y - plain) * (f - centre)).sum() / (n - 1))
    eta = min(max(joint / spread, 0.0), _MOST_ETA)
    z = y - eta * (f - mean)
    value = float((w * z).mean())
    gain = min(max(float((w * (z - value) ** 2).sum() / (n - 2)) / alone, _LEAST_RATIO), 1.0)
    return min(max(value, 0.0), 1.0), gain


def _wilson(p: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's score interval (JASA 1927) for a share `p` of `n`, which may be an effective number."""
    q = float(ndtri(0.5 + level / 2.0))
    centre = (p + q * q / (2.0 * n)) / (1.0 + q * q / n)
    half = q * math.sqrt(p * (1.0 - p) / n + q * q / (4.0 * n * n)) / (1.0 + q * q / n)
    return max(0.0, centre - half), min(1.0, centre + half)
