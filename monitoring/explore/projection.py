"""From embeddings to two coordinates, in a way that stays put.

The axes are the first two principal components of the *reference's* embeddings, so the same input lies at the same
place today and next month, whatever traffic came in between, and clusters that the reference does not have show up
beside it rather than moving everything else. A component's sign, which the mathematics leaves open, is chosen so that
its largest loading is positive.

UMAP or t-SNE would draw tighter islands; their axes mean nothing, distances between islands mean nothing, and a new
point has no place without fitting again (docs/decisions/0165-a-map-that-stays-put.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitoring.vectors import Floats, Int8s, to_units

FIT_ROWS = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """A plane in the space of embeddings.

    Attributes:
        centre: (width,).
        axes: (width, 2), of length 1 and at right angles.
        explained: Share of the variance of what it was fitted on that lies along each axis, (2,).
        fitted_on: "reference", or "records" where there is no reference.
        rows: How many rows it was fitted on.
    """

    centre: Floats
    axes: Floats
    explained: tuple[float, float]
    fitted_on: str
    rows: int

    def place(self, vectors: Int8s) -> Floats:
        """Where kept vectors lie, (rows, 2) float32; NaN for rows of zeros, which have no direction."""
        if not len(vectors) or vectors.shape[1] != len(self.centre):
            return np.full((len(vectors), 2), np.nan, dtype=np.float32)
        placed = (to_units(vectors) - self.centre) @ self.axes
        placed[~vectors.any(axis=1)] = np.nan
        return np.asarray(placed, dtype=np.float32)


def fit_projection(vectors: Int8s, fitted_on: str) -> Projection | None:
    """The plane of the largest variance; None of fewer than three rows.

    Args:
        vectors: Kept vectors, (rows, width) int8.
        fitted_on: What they are, for people.

    Example:
        >>> rows = np.array([[127, 0, 9], [0, 127, 9], [-127, 0, 9], [0, -127, 9]], np.int8)
        >>> made = fit_projection(rows, "reference")
        >>> made.place(rows[:1]).shape, [round(share, 2) for share in made.explained]
        ((1, 2), [0.5, 0.5])

    References:
        Jolliffe, "Principal Component Analysis", 2nd ed., 2002, ch. 1.
    """
    known = vectors[vectors.any(axis=1)] if len(vectors) else vectors
    if len(known) < 3 or known.shape[1] < 2:
        return None
    units = to_units(known[:FIT_ROWS]).astype(np.float64)
    centre = units.mean(axis=0)
    _, sizes, directions = np.linalg.svd(units - centre, full_matrices=False)
    axes = directions[:2].T.copy()
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    variance = sizes**2
    total = float(variance.sum()) or 1.0
    return Projection(
        centre=centre.astype(np.float32),
        axes=axes.astype(np.float32),
        explained=(float(variance[0]) / total, float(variance[1]) / total),
        fitted_on=fitted_on,
        rows=len(units),
    )
