"""Free energy of the logits. It collapses on some transformers: one feature among others, never a rank by itself.

References:
    Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020, eq. 4.
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import Float64s, Floats, flat_rows


def energy(logits: Floats, temperature: float = 1.0) -> Float64s:
    """-T·log Σ exp(z / T), (rows, classes) → (rows,). High = unlike what was trained on.

    Says nothing of probabilities, whose sum is 1 for every row; it needs the logits.

    Example:
        >>> energy(np.array([[0.0, 0.0]])).round(4).tolist()
        [-0.6931]
    """
    z = flat_rows(logits).astype(np.float64) / temperature
    with np.errstate(invalid="ignore", over="ignore"):
        top = z.max(axis=1)
        z -= top[:, None]
        np.exp(z, out=z)
        return np.asarray(-temperature * (top + np.log(z.sum(axis=1))), dtype=np.float64)
