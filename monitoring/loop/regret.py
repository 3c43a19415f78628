"""What waiting has cost since the champion began: the estimate behind `monitoring.triggers.contracts.RegretCondition`.

As in `benchmarks/triggers.py`: the first labels after a training say what a training reaches; what the later ones have
beyond that is the excess; the present rate counts only where it is certain, over the largest of several spans.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from monitoring.triggers.contracts import Regret

FRESH = 60  # audited labels after a training by which the attainable error is judged
SPANS = (40, 80, 160, 320)  # labels over which the present error is looked at
DOUBT = 2.6  # standard errors that the excess must exceed: one-sided 0.5 %, four spans
LEAST_VARIANCE = 0.02  # of one label: an error of zero in sixty labels is no proof of none

Floats = npt.NDArray[np.float64]


def regret_of(wrong: Floats, weight: Floats, answered: float, best: float | None = None) -> Regret | None:
    """What waiting has cost.

    Args:
        wrong: Of every audited label since the champion began, the share of its rows answered wrong; [n], in order.
        weight: One over the chance with which each was drawn, [n].
        answered: Requests answered since the champion began.
        best: Error rate of the best fresh training so far; None where this is the first.

    Returns:
        None while there are too few labels to know.
    """
    if len(wrong) < FRESH + SPANS[0]:
        return None
    fresh = _mean(wrong[:FRESH], weight[:FRESH])
    attainable = fresh if best is None else (fresh + min(fresh, best)) / 2
    later, heavy = wrong[FRESH:], weight[FRESH:]
    share = len(later) / len(wrong)
    excess = max(0.0, (_mean(later, heavy) - attainable) * answered * share)
    return Regret(answered=answered, excess=excess, rate=rate_now(later, heavy, attainable))


def rate_now(wrong: Floats, weight: Floats, attainable: float) -> float:
    """Errors a request beyond what is attainable, where that is certain: the largest over several spans."""
    found = 0.0
    for span in SPANS:
        if len(wrong) < span:
            break
        w = weight[-span:]
        now = _mean(wrong[-span:], w)
        effective = float(w.sum()) ** 2 / float((w**2).sum())  # Kish's size: unequal weights are worth fewer labels
        error = math.sqrt(max(attainable * (1 - attainable), LEAST_VARIANCE) / effective)
        if now - attainable > DOUBT * error:
            found = max(found, now - attainable)
    return found


def _mean(values: Floats, weight: Floats) -> float:
    return float(np.average(values, weights=weight))
