"""Groups of points on the map that can be reached without pointing: the keyboard's way to a selection.

Lloyd's algorithm on the embeddings themselves (not on the two coordinates), begun from points that are far from each
other, so that the same points always make the same groups.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from monitoring.vectors import Floats, Int8s, to_units

CLUSTERS = 16
FIT_POINTS = 4000
ROUNDS = 12
_BLOCK = 8192


def cluster(vectors: Int8s, count: int = CLUSTERS) -> npt.NDArray[np.int16]:
    """The group of each row, biggest first, (rows,); -1 for rows of zeros.

    Args:
        vectors: Kept vectors, (rows, width).
        count: Groups at most; there are fewer where there are fewer than ten rows a group.

    References:
        Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985 (where it begins);
        Lloyd, "Least squares quantization in PCM", 1982.
    """
    made = np.full(len(vectors), -1, dtype=np.int16)
    known = np.flatnonzero(vectors.any(axis=1)) if len(vectors) else np.empty(0, dtype=np.int64)
    count = min(count, len(known) // 10)
    if count < 2:
        made[known] = 0
        return made
    chosen = known[np.linspace(0, len(known) - 1, min(len(known), FIT_POINTS)).astype(np.int64)]
    units = to_units(vectors[chosen])
    centres = _far_apart(units, count)
    for _ in range(ROUNDS):
        nearest = _nearest(units, centres)
        moved = np.stack([_mean(units[nearest == k], centres[k]) for k in range(len(centres))])
        if np.allclose(moved, centres, atol=1e-5):
            break
        centres = moved
    for start in range(0, len(known), _BLOCK):
        block = known[start : start + _BLOCK]
        made[block] = _nearest(to_units(vectors[block]), centres)
    sizes = np.bincount(made[known], minlength=len(centres))
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(centres), dtype=np.int16)
    rank[order] = np.arange(len(centres), dtype=np.int16)
    made[known] = rank[made[known]]
    return made


def _far_apart(units: Floats, count: int) -> Floats:
    """Rows each of which is the farthest from those before it; the first is the farthest from the mean."""
    picked = [int(np.argmin(units @ units.mean(axis=0)))]
    alike = units @ units[picked[0]]
    while len(picked) < count:
        farthest = int(np.argmin(alike))
        picked.append(farthest)
        alike = np.maximum(alike, units @ units[farthest])
    return units[picked]


def _nearest(units: Floats, centres: Floats) -> npt.NDArray[np.int16]:
    apart = np.einsum("ij,ij->i", centres, centres)[None, :] - 2.0 * (units @ centres.T)
    return np.asarray(apart.argmin(axis=1), dtype=np.int16)


def _mean(rows: Floats, otherwise: Floats) -> Floats:
    return np.asarray(rows.mean(axis=0), dtype=np.float32) if len(rows) else otherwise
