"""Trust score: does the neighbourhood of the embedding agree with the answer?

Of all scores here the one that adds most to MSP: it knows the true labels of the reference, so it sees where the model
is sure and its own neighbours say otherwise (docs/decisions/0095).

References:
    Jiang, Kim, Guan & Gupta, "To Trust Or Not To Trust A Classifier", NeurIPS 2018, section 3. Here as a logarithm, on
        embeddings, with the nearest row of each class (the paper's alpha = 0).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.contracts.scores.arrays import Float64s, Floats
from export.contracts.scores.knn import chord

NEAR = 1e-3  # distances below it count as it: a repeated input is not infinitely trusted


def trust(cosines: Floats, bank_classes: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> Float64s:
    """Log of the distance to the answered class over the distance to the nearest other one, (rows,). High = unsure.

    Args:
        cosines: With every bank row, (rows, bank).
        bank_classes: True class of each bank row, (bank,), ascending.
        predicted: The model's answer, (rows,).

    Returns:
        NaN for every row when the bank has fewer than two classes. A class without a bank row is at right angles to
        everything (distance √2).

    Example:
        >>> trust(np.array([[0.995, 0.5]]), np.array([0, 1]), np.array([0])).round(2).tolist()
        [-2.3]
    """
    c = np.asarray(cosines, dtype=np.float64)
    classes, starts = np.unique(bank_classes, return_index=True)
    if len(classes) < 2:
        return np.full(len(c), np.nan)
    nearest = np.maximum.reduceat(c, starts, axis=1)  # (rows, classes in the bank)
    return trust_by_class(nearest, classes, predicted)


def trust_by_class(nearest: Float64s, classes: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> Float64s:
    """The same from the largest cosine with each class, (rows, classes in the bank), which is written over."""
    at = np.minimum(np.searchsorted(classes, predicted), len(classes) - 1)
    rows = np.arange(len(nearest))
    there = classes[at] == predicted
    own = np.where(there, nearest[rows, at], np.where(np.isnan(nearest[rows, at]), np.nan, 0.0))
    nearest[rows[there], at[there]] = -1.0
    other = nearest.max(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.log(np.maximum(chord(own), NEAR) / np.maximum(chord(other), NEAR)), dtype=np.float64)
