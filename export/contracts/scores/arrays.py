"""Types and small helpers that the scores share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Float64s: TypeAlias = npt.NDArray[np.float64]
TINY = float(np.finfo(np.float32).tiny)


def flat_rows(array: Floats) -> Floats:
    """The array as (rows, everything else), also when it has no rows."""
    a = np.asarray(array)
    return a.reshape(len(a), int(np.prod(a.shape[1:], dtype=np.int64)))


def normalise(embedding: Floats) -> Float64s:
    """Rows scaled to Euclidean length 1, (rows, features); a zero row stays zero."""
    h = flat_rows(embedding).astype(np.float64, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.sqrt(np.einsum("ij,ij->i", h, h))[:, None]
        return np.asarray(h / np.maximum(length, TINY), dtype=np.float64)
