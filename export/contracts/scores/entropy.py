"""Shannon entropy of the class probabilities.

References:
    Hendrycks & Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples", ICLR 2017 (compared).
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import TINY, Float64s, Floats


def entropy(p: Floats) -> Float64s:
    """Entropy in nats, (rows, classes) → (rows,); 0 for a one-hot row. High = unsure.

    Example:
        >>> float(entropy(np.array([[0.5, 0.5]]))[0].round(4))
        0.6931
    """
    q = np.asarray(p, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(-np.einsum("...c,...c->...", q, np.log(np.maximum(q, TINY))) + 0.0, dtype=np.float64)
