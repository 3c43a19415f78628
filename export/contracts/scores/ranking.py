"""How well a suspicion ranks wrong answers before right ones: AUGRC (smaller is better) and AUROC (larger is better).

Both take weights, so that a biased sample can speak for the traffic that it was drawn from.

References:
    Traub et al., "Overcoming Common Flaws in the Evaluation of Selective Classification Systems", NeurIPS 2024, eq. 6.
    Hanley & McNeil, "The Meaning and Use of the Area under a ROC Curve", Radiology 1982 (AUROC as a probability).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from export.contracts.scores.arrays import Float64s

Array = npt.NDArray[Any]


def augrc(suspicion: Array, wrong: npt.NDArray[np.bool_], weight: Array | None = None) -> float:
    """Area under the generalised risk-coverage curve: 0 for no errors, NaN for no rows. Ties share their risk.

    The mean over coverages k/n of (errors among the k least suspicious) / n.

    Args:
        suspicion: High = thought wrong, (rows,).
        wrong: Whether it was, (rows,).
        weight: Rows of the population that each row stands for, (rows,); None is one each.

    Example:
        >>> augrc(np.array([0.1, 0.9]), np.array([False, True])), augrc(np.array([0.9, 0.1]), np.array([False, True]))
        (0.25, 0.5)
    """
    s, e, w = _sorted(suspicion, wrong, weight)
    if not len(s):
        return float("nan")
    _, start, counts = np.unique(s, return_index=True, return_counts=True)
    shared = np.add.reduceat(e * w, start) / np.add.reduceat(w, start)
    return float((np.cumsum(np.repeat(shared, counts) * w) * w).sum() / w.sum() ** 2)


def auroc(suspicion: Array, wrong: npt.NDArray[np.bool_], weight: Array | None = None) -> float:
    """Chance that a wrong answer is more suspicious than a right one, ties counting half; NaN without both kinds.

    Example:
        >>> auroc(np.array([0.1, 0.9, 0.5, 0.5]), np.array([False, True, True, False]))
        0.875
    """
    s, e, w = _sorted(suspicion, wrong, weight)
    bad, good = e * w, (1.0 - e) * w
    if not len(s) or bad.sum() == 0 or good.sum() == 0:
        return float("nan")
    _, start = np.unique(s, return_index=True)
    bad, good = np.add.reduceat(bad, start), np.add.reduceat(good, start)
    below = np.cumsum(good) - good
    return float((bad * (below + 0.5 * good)).sum() / (bad.sum() * good.sum()))


def _sorted(suspicion: Array, wrong: Array, weight: Array | None) -> tuple[Float64s, Float64s, Float64s]:
    s = np.asarray(suspicion, dtype=np.float64)
    w = np.ones(len(s)) if weight is None else np.asarray(weight, dtype=np.float64)
    order = np.argsort(s, kind="stable")
    return s[order], np.asarray(wrong)[order].astype(np.float64), w[order]
