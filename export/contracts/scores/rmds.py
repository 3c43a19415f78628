"""Relative Mahalanobis distance on length-1 embeddings (RMDS++): the best novelty score over ResNet, ViT and Swin.

References:
    Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", arXiv:2106.09022, 2021, eq. 4.
    Mueller & Hein, "Mahalanobis++: Improving OOD Detection via Feature Normalization", ICML 2025 (length 1).
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import Float64s, Floats, normalise


def rmds(
    embedding: Floats, *, factor: Floats, centres: Floats, background_factor: Floats, background_centre: Floats
) -> Float64s:
    """Relative Mahalanobis distance of embeddings of any length, (rows, features) → (rows,). High = unlike every class.

    Args:
        embedding: (rows, features), not normalised.
        factor: F, (features, rank).
        centres: c_k, (classes, rank); a row of NaN is a class that the reference does not have.
        background_factor: F_0, (features, rank).
        background_centre: c_0, (rank,).
    """
    return relative_distance(
        normalise(embedding),
        factor=factor,
        centres=centres,
        background_factor=background_factor,
        background_centre=background_centre,
    )


def relative_distance(
    h: Float64s, *, factor: Floats, centres: Floats, background_factor: Floats, background_centre: Floats
) -> Float64s:
    """Least over classes k of (MD_k² - MD_0²), of rows that are of length 1, or were before projection, (rows,).

    MD_k² = |h·F - c_k|² where F·Fᵀ is the shared precision matrix and c_k the class mean times F; MD_0 is the same for
    one Gaussian fitted to all classes together.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        white = h @ np.asarray(factor, dtype=np.float64)  # (rows, rank)
        c = np.asarray(centres, dtype=np.float64)
        c = c[np.isfinite(c).all(axis=1)]
        near = np.einsum("kr,kr->k", c, c)[None, :] - 2.0 * (white @ c.T)  # (rows, classes), less |white|²
        nearest = near.min(axis=1) + np.einsum("nr,nr->n", white, white)
        back = h @ np.asarray(background_factor, dtype=np.float64) - np.asarray(background_centre, dtype=np.float64)
        return np.asarray(nearest - np.einsum("nr,nr->n", back, back), dtype=np.float64)
