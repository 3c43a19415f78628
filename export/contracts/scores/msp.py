"""Maximum softmax probability: the baseline.

References:
    Hendrycks & Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples", ICLR 2017.
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import Float64s, Floats


def msp(p: Floats) -> Float64s:
    """Largest of the probabilities, (rows, classes) → (rows,). High = sure.

    Example:
        >>> msp(np.array([[0.2, 0.8]])).tolist()
        [0.8]
    """
    return np.asarray(np.max(p, axis=-1), dtype=np.float64)
