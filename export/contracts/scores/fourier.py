"""Random Fourier features: a Gaussian kernel as an inner product, which windows can sum.

References:
    Rahimi & Recht, "Random Features for Large-Scale Kernel Machines", NeurIPS 2007.
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import Float64s, Floats, normalise


def random_fourier_features(embedding: Floats, frequencies: Floats) -> Float64s:
    """Features whose inner product approximates a Gaussian kernel on length-1 embeddings.

    (rows, features) → (rows, 2·D), for `frequencies` of (features, D) drawn from N(0, 1/bandwidth²).
    """
    return fourier_of(normalise(embedding), frequencies)


def fourier_of(h: Float64s, frequencies: Floats) -> Float64s:
    """The same for rows that are of length 1 already, (rows, features) → (rows, 2·D)."""
    with np.errstate(invalid="ignore"):
        angle = h @ np.asarray(frequencies, dtype=np.float64)
        out = np.empty((len(angle), 2 * angle.shape[1]))
        np.cos(angle, out=out[:, : angle.shape[1]])
        np.sin(angle, out=out[:, angle.shape[1] :])
        out /= np.sqrt(max(angle.shape[1], 1))
    return np.asarray(out, dtype=np.float64)
