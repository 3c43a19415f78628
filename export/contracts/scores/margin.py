"""Margin between the two likeliest classes.

References:
    Scheffer, Decomain & Wrobel, "Active Hidden Markov Models for Information Extraction", IDA 2001, section 4.
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import Float64s, Floats


def margin(p: Floats) -> Float64s:
    """Largest minus second largest probability, (rows, classes) → (rows,); with one class, the probability itself.

    Example:
        >>> margin(np.array([[0.1, 0.3, 0.6]])).round(6).tolist()
        [0.3]
    """
    q = np.asarray(p, dtype=np.float64)
    if q.shape[-1] < 2:
        return q[..., 0].copy()
    top = np.partition(q, -2, axis=-1)
    return np.asarray(top[..., -1] - top[..., -2], dtype=np.float64)
