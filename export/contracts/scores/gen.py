"""Generalised entropy: the best novelty score that needs logits only, over many architectures.

References:
    Liu, Lochman & Zach, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection", CVPR 2023, eq. 3.
"""

from __future__ import annotations

import numpy as np

from export.contracts.scores.arrays import Float64s, Floats


def gen(p: Floats, gamma: float = 0.1, top: int = 100) -> Float64s:
    """Generalised entropy over the `top` largest probabilities, (rows, classes) → (rows,). High = unsure.

    Σ p^g (1 - p)^g with g = gamma. The paper's score is the negative of this; `gamma` and `top` are its defaults
    (section 4).

    Example:
        >>> bool(gen(np.array([[0.5, 0.5]]))[0] > gen(np.array([[0.99, 0.01]]))[0])
        True
    """
    q = np.asarray(p, dtype=np.float64)
    if q.shape[-1] > top:
        q = np.partition(q, -top, axis=-1)[..., -top:]
    with np.errstate(invalid="ignore"):
        q = np.clip(q, 0.0, 1.0)  # keeps NaN
        return np.asarray(((q * (1.0 - q)) ** gamma).sum(axis=-1), dtype=np.float64)
