"""Distance to the nearest of a bank of reference embeddings.

The bank is a sub-sample taken at export; on at most a thousand rows an exact product with one BLAS call is quicker than
an index (docs/decisions/0096).

References:
    Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022, eq. 3; k = 1, as the paper
        chooses for small banks (section 4.3).
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import Float64s, Floats


def likeness(unit: Floats, bank: Floats) -> Float64s:
    """Cosines of rows of length 1 with bank rows of length 1, (rows, features) x (bank, features) → (rows, bank)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.asarray(unit, np.float64) @ np.asarray(bank, dtype=np.float64).T, dtype=np.float64)


def knn(cosines: Floats) -> Float64s:
    """Euclidean distance to the nearest bank row, (rows, bank) → (rows,); NaN without a bank. High = unlike the bank.

    Example:
        >>> knn(np.array([[1.0, 0.0], [0.5, 0.0]])).tolist()
        [0.0, 1.0]
    """
    c = np.asarray(cosines, dtype=np.float64)
    if c.shape[1] == 0:
        return np.full(len(c), np.nan)
    return chord(c.max(axis=1))


def chord(cosine: Float64s) -> Float64s:
    """Euclidean distance between two rows of length 1 of which the cosine is known."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(np.maximum(2.0 - 2.0 * cosine, 0.0)), dtype=np.float64)
