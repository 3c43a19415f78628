"""How far an embedding lies from the reference, for models without classes.

References:
    Mahalanobis, "On the Generalised Distance in Statistics", 1936; on length-1 features: Mueller & Hein 2025.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.scores import normalise

Array: TypeAlias = npt.NDArray[Any]
Float64s: TypeAlias = npt.NDArray[np.float64]


class Background(Protocol):
    """One Gaussian over the reference's embeddings (`export.contracts.reference.EmbeddingReference`)."""

    @property
    def basis(self) -> Array | None: ...  # noqa: D102
    @property
    def background_factor(self) -> Array: ...  # noqa: D102  # described where it is implemented
    @property
    def background_centre(self) -> Array: ...  # noqa: D102


def distance_from(reference: Background | None, embedding: Array | None) -> Float64s | None:
    """`distance` of live rows from a profile's embedding part, (rows,); None where either is missing."""
    if reference is None or embedding is None:
        return None
    return distance(embedding, reference.background_factor, reference.background_centre, reference.basis)


def distance(embedding: Array, factor: Array, centre: Array, basis: Array | None = None) -> Float64s:
    """Mahalanobis distance from one Gaussian over the reference, on length-1 rows, (rows,).

    Args:
        embedding: (rows, features).
        factor: F with F·Fᵀ the precision matrix, (rank, rank).
        centre: The mean times F, (rank,).
        basis: Directions onto which rows are projected first, (features, rank); None keeps all.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        h = normalise(embedding)
        low = h if basis is None else h @ np.asarray(basis, dtype=np.float64)
        white = low @ np.asarray(factor, dtype=np.float64) - np.asarray(centre, dtype=np.float64)
        return np.asarray(np.sqrt(np.einsum("nr,nr->n", white, white)), dtype=np.float64)
