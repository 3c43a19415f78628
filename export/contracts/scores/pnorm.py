"""MaxLogit-pNorm: the largest logit, measured against the length of all of them.

References:
    Cattelan & Silva, "How to Fix a Broken Confidence Estimator: Evaluating Post-hoc Methods for Selective
        Classification with Deep Neural Networks", UAI 2024, eq. 14 and section 4.2.
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import TINY, Float64s, Floats, flat_rows

PNORM_CHOICES = tuple(range(2, 11))  # whole numbers: their powers are products


def pnorm(logits: Floats, p: int) -> Float64s:
    """Largest centred logit over the p-norm of the centred logits, (rows, classes) → (rows,). High = sure.

    Which `p` serves a model best is found on held-out rows; where none beats MSP there, the paper falls back to MSP,
    and so does the reference: it then holds no p, and this score is left out.

    Example:
        >>> pnorm(np.array([[4.0, -2.0, -2.0]]), 2).round(4).tolist()
        [0.8165]
    """
    z = flat_rows(logits).astype(np.float64)  # (rows, classes)
    with np.errstate(invalid="ignore", over="ignore"):
        z -= z.mean(axis=1, keepdims=True)
        largest = z.max(axis=1)
        np.abs(z, out=z)
        scale = np.maximum(z.max(axis=1, keepdims=True), TINY)  # so that no power overflows
        z /= scale
        power = z.copy()
        for _ in range(p - 1):
            power *= z
        return np.asarray(largest / (scale[:, 0] * np.maximum(power.sum(axis=1), TINY) ** (1.0 / p)), dtype=np.float64)
