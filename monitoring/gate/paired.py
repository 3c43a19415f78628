"""Two versions on the same inputs: what the inputs on which only one of them is right say, and what they can say.

Of n inputs, `gains` are those that only the candidate answers right and `losses` those that only the champion does. All
others cancel. When the two are equally good, a gain is as likely as a loss, whatever the inputs: so the number of gains
among the changed answers is binomial with one half, exactly (McNemar, Psychometrika 1947, in its exact form).

For differences and margins the changed answers alone do not do; there it is the score statistic with the nuisance
parameter at its restricted maximum (Tango, Statistics in Medicine 1998; Liu et al., Statistics in Medicine 2002).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # `scipy.stats` is loaded when it is first used: half a second

Floats = npt.NDArray[np.float64]
TEETH = 3  # steps in a row with enough power
MAX_LABELS = 10_000_000  # more than anybody labels: the search for a number of labels ends there


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """How two versions did on the same inputs.

    Attributes:
        n: Inputs.
        gains: Only the candidate is right.
        losses: Only the champion is right.
    """

    n: int
    gains: int
    losses: int

    def __post_init__(self) -> None:
        """Refuse impossible counts.

        Raises:
            ValueError: says which.
        """
        if min(self.n, self.gains, self.losses) < 0 or self.gains + self.losses > self.n:
            raise ValueError(f"{self.gains} gains and {self.losses} losses do not fit {self.n} inputs")

    @property
    def difference(self) -> float:
        """Accuracy of the candidate less the champion's; NaN without inputs."""
        return (self.gains - self.losses) / self.n if self.n else math.nan

    @property
    def changed(self) -> float:
        """Share of the inputs on which exactly one of the two is right; NaN without inputs."""
        return (self.gains + self.losses) / self.n if self.n else math.nan


def better_p(x: Paired) -> float:
    """Exact p-value against "the candidate is not better": the chance of as many gains among as many changes.

    Example:
        >>> better_p(Paired(n=100, gains=5, losses=0))
        0.03125
    """
    return float(scipy.stats.binom.sf(x.gains - 1, x.gains + x.losses, 0.5))


def worse_p(x: Paired) -> float:
    """Exact p-value against "the candidate is not worse"."""
    return better_p(Paired(n=x.n, gains=x.losses, losses=x.gains))


def inferior_p(x: Paired, margin: float) -> float:
    """P-value against "the candidate's accuracy is lower by `margin` or more": small proves that it is not.

    Args:
        x: What was counted.
        margin: In accuracy, 0 <= margin < 1.
    """
    return 1.0 if x.n == 0 else float(scipy.stats.norm.sf(_score(x, -margin)))


def interval(x: Paired, level: float) -> tuple[float, float]:
    """Tango's score interval for the difference of the accuracies; (-1, 1) without inputs."""
    if x.n == 0:
        return -1.0, 1.0
    limit = float(scipy.stats.norm.isf((1 - level) / 2))
    return _root(x, limit, -1.0, x.difference), _root(x, -limit, x.difference, 1.0)


def power(n: int, changed: float, effect: float, alpha: float) -> float:
    """The chance that `better_p` is at most `alpha` when the candidate is better by `effect`.

    Args:
        n: Inputs.
        changed: Share of inputs on which exactly one of the two is right; at least `effect`.
        effect: True difference of the accuracies.
        alpha: Of the test.
    """
    if n <= 0 or changed <= 0:
        return 0.0
    changed = max(changed, effect)
    low, high = scipy.stats.binom.interval(1 - 1e-9, n, changed)
    many = np.arange(int(low), int(high) + 1)
    # The smallest number of gains that convinces, for each number of changes.
    needed = scipy.stats.binom.isf(alpha, many, 0.5) + 1
    chance = scipy.stats.binom.sf(needed - 1, many, (changed + effect) / (2 * changed))
    return float(np.sum(scipy.stats.binom.pmf(many, n, changed) * chance))


def labels_needed(changed: float, effect: float, alpha: float, wanted: float = 0.9) -> int | None:
    """The smallest number of labelled inputs from which on the power is `wanted`; None: more than anybody has.

    Its limit for large numbers is (z_alpha + z_power)^2 changed / effect^2.
    """
    if effect <= 0:
        return None
    z = float(scipy.stats.norm.isf(alpha) + scipy.stats.norm.isf(1 - wanted))
    n = max(1, int(0.9 * (z / effect) ** 2 * max(changed, effect)))
    step, enough = max(1, n // 200), 0
    while n < MAX_LABELS:
        # The power of a discrete test goes up in teeth: a number holds when the next teeth's valleys do.
        enough = enough + 1 if power(n, changed, effect, alpha) >= wanted else 0
        if enough == TEETH:
            return n - (TEETH - 1) * step
        n += step
    return None


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's adjusted p-values (Scandinavian Journal of Statistics 1979), in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        (0.03, 0.06, 0.06)
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return tuple(adjusted)


def mean_worse_p(champion: Floats, candidate: Floats, allowed: float) -> float:
    """P-value against "the mean of the candidate's losses is higher by `allowed` or more" (paired t, one-sided).

    Args:
        champion: Losses, [n]; larger is worse.
        candidate: Losses on the same inputs, [n].
        allowed: In the unit of the losses.
    """
    differences = candidate - champion - allowed
    if len(differences) < 2 or not np.ptp(differences):
        return float(len(differences) < 2 or differences.mean() >= 0)
    statistic = differences.mean() / (differences.std(ddof=1) / math.sqrt(len(differences)))
    return float(scipy.stats.t.cdf(statistic, len(differences) - 1))


def mean_power(n: int, deviation: float, effect: float, alpha: float) -> float:
    """The chance that the paired t test sees a gain of `effect`, for many inputs.

    Args:
        n: Inputs.
        deviation: Standard deviation of the differences.
        effect: True gain.
        alpha: Of the test.
    """
    if n < 2:
        return 0.0
    if deviation <= 0:
        return 1.0
    return float(scipy.stats.norm.cdf(effect * math.sqrt(n) / deviation - scipy.stats.norm.isf(alpha)))


def mean_labels_needed(deviation: float, effect: float, alpha: float, wanted: float) -> int:
    """Inputs from which on `mean_power` is `wanted`."""
    z = float(scipy.stats.norm.isf(alpha) + scipy.stats.norm.isf(1 - wanted))
    return max(2, math.ceil((z * deviation / effect) ** 2))


def mean_interval(differences: Floats, level: float) -> tuple[float, float]:
    """Student's interval for the mean of paired differences, [n] with n >= 1; (-1, 1) for one alone."""
    if len(differences) < 2:
        return -1.0, 1.0
    half = float(scipy.stats.t.isf((1 - level) / 2, len(differences) - 1)) * float(differences.std(ddof=1))
    mean, half = float(differences.mean()), half / math.sqrt(len(differences))
    return mean - half, mean + half


def _score(x: Paired, difference: float) -> float:
    """Tango's score statistic against a true difference; positive when the data lie above it."""
    n, b, c = x.n, x.gains, x.losses
    # With q the share of losses under the restriction: 2n q^2 + B q + C = 0.
    linear = -b - c + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    q = (math.sqrt(max(linear * linear - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * (2 * q + difference * (1 - difference))
    distance = b - c - n * difference
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _root(x: Paired, wanted: float, low: float, high: float) -> float:
    """The difference at which the statistic, which falls, is `wanted`."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(x, middle) > wanted else (low, middle)
    return (low + high) / 2
