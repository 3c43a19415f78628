"""Class probabilities from logits or from other probabilities, at a temperature.

References:
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 9 (temperature).
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import TINY, Float64s, Floats


def softmax(logits: Floats, temperature: float = 1.0) -> Float64s:
    """Probabilities of `logits / temperature` along the last axis, (rows, classes) → (rows, classes).

    Example:
        >>> softmax(np.array([[0.0, np.log(3.0)]])).round(2).tolist()
        [[0.25, 0.75]]
    """
    z = np.asarray(logits, dtype=np.float64) / temperature
    with np.errstate(invalid="ignore", over="ignore"):
        z -= z.max(axis=-1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=-1, keepdims=True)
    return np.asarray(z, dtype=np.float64)


def temper(probabilities: Floats, temperature: float) -> Float64s:
    """Apply a temperature to probabilities whose logits are not known, (rows, classes) → (rows, classes)."""
    p = np.asarray(probabilities, dtype=np.float64)
    if temperature == 1.0:
        return p
    return softmax(np.log(np.maximum(p, TINY)), temperature)
