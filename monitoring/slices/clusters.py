"""Slices that have no name yet: neighbourhoods in the embedding in which a version fails more than elsewhere.

The embeddings' leading principal components are cut by k-means at several resolutions, without a look at the failures,
so that "fails more than a random group of its size" stays a valid test of every piece. Of all pieces, coarse and fine,
those with the strongest evidence are taken that do not share records: so the failures choose how large a slice is.
Domino (Eyuboglu et al., ICLR 2022) lets them shape the clusters; that made slices out of failures at random
(`docs/decisions/0094-slices-by-embedding.md`).

Slices keep their identity: the next run recognises a slice by its centre (`Known`), so that trend, owner and state stay
with it while its members change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOptions:
    """How finely the embedding is cut, and what counts.

    Attributes:
        rows_per_piece: Records that a piece has on average, one number a resolution.
        most_pieces: Of one resolution.
        components: Principal components that are kept.
        min_rows: Records of a slice at least.
        surprise: Largest corrected chance that a random group has as many failures.
        overlap: A piece that shares more than this of its records with a better one is not another slice.
        same_within: Cosine similarity of centres from which two runs speak of the same slice.
    """

    rows_per_piece: tuple[int, ...] = (400, 150, 50)
    most_pieces: int = 200
    components: int = 24
    min_rows: int = 15
    surprise: float = 0.01
    overlap: float = 0.3
    same_within: float = 0.75
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """A slice of an earlier run, with its `ClusterSlice.centre`."""

    identity: str
    centre: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSlice:
    """A neighbourhood that fails.

    Attributes:
        identity: Stable over runs that are told of each other's slices.
        rows: Indices of its records, the most typical first.
        centre: Its mean embedding less that of all records, scaled to length 1: where it lies, seen from the middle.
        failure_rate: Mean failure in it. `overall_rate`: of all records.
        p_value: Chance of as many failures in a random group of the size, times the number of pieces.
    """

    identity: str
    rows: npt.NDArray[np.int64]
    centre: Floats
    failure_rate: float
    overall_rate: float
    p_value: float


def find_clusters(
    embedding: npt.ArrayLike,
    failure: npt.ArrayLike,
    known: Sequence[Known] = (),
    options: ClusterOptions | None = None,
) -> list[ClusterSlice]:
    """Find neighbourhoods that fail, the worst first.

    Args:
        embedding: (n, features); rows are scaled to length 1.
        failure: (n,) 1 failed, 0 not, or P(wrong).
        known: Slices of earlier runs, to be recognised.
        options: What counts.

    Raises:
        ValueError: shapes differ, or a value is not finite.
    """
    options = options or ClusterOptions()
    x, e = np.asarray(embedding, np.float32), np.asarray(failure, float)
    if x.ndim != 2 or x.shape[0] != e.size:
        raise ValueError(f"{e.size} failures and an embedding of shape {list(x.shape)}: (records, features) is needed")
    if not (np.isfinite(x).all() and np.isfinite(e).all()):
        raise ValueError("embeddings and failures must be finite")
    if e.size < 2 * options.min_rows or not 0.0 < e.mean() < 1.0:
        return []
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    space = _leading(x, options)
    pieces = [rows for rows in _pieces(space, options) if rows.size >= options.min_rows]
    ranked = sorted((_chance(e, rows) * len(pieces), i) for i, rows in enumerate(pieces))
    free, slices = np.ones(e.size, bool), []
    for chance, i in ranked:
        rows = pieces[i]
        if chance > options.surprise:
            break
        if free[rows].mean() >= 1.0 - options.overlap:
            free[rows] = False
            slices.append(_slice(x, e, space, rows, chance))
    return _recognised(slices, known, options)


def _leading(x: Floats, options: ClusterOptions) -> Floats:
    """(n, components) leading principal components."""
    from sklearn.decomposition import PCA

    kept = min(options.components, x.shape[1], x.shape[0] - 1)
    leading: Floats = PCA(kept, svd_solver="randomized", random_state=options.seed).fit_transform(x)
    return leading


def _pieces(space: Floats, options: ClusterOptions) -> Iterator[npt.NDArray[np.int64]]:
    """Row indices of every cluster of every resolution."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    make = KMeans if len(space) <= 20_000 else MiniBatchKMeans
    for rows in options.rows_per_piece:
        clusters = max(2, min(options.most_pieces, len(space) // rows))
        labels = make(clusters, n_init=1, random_state=options.seed).fit_predict(space)
        order = np.argsort(labels, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _chance(e: Floats, rows: npt.NDArray[np.int64]) -> float:
    """Chance that a random group of that size has as many failures."""
    failures, total = round(float(e[rows].sum())), round(float(e.sum()))
    return float(scipy.stats.hypergeom.sf(failures - 1, e.size, total, rows.size))


def _slice(x: Floats, e: Floats, space: Floats, rows: npt.NDArray[np.int64], chance: float) -> ClusterSlice:
    away = x[rows].mean(axis=0) - x.mean(axis=0)
    centre = away / max(float(np.linalg.norm(away)), 1e-12)
    typical = np.argsort(((space[rows] - space[rows].mean(axis=0)) ** 2).sum(axis=1), kind="stable")
    return ClusterSlice(
        identity=hashlib.sha256(np.round(centre, 4).astype("<f4").tobytes()).hexdigest()[:12],
        rows=rows[typical],
        centre=centre,
        failure_rate=float(e[rows].mean()),
        overall_rate=float(e.mean()),
        p_value=min(1.0, chance),
    )


def _recognised(slices: list[ClusterSlice], known: Sequence[Known], options: ClusterOptions) -> list[ClusterSlice]:
    """Give slices the identities of the known ones that they are: the best assignment, above the threshold."""
    if not slices or not known:
        return slices
    alike = np.stack([s.centre for s in slices]) @ np.stack([k.centre for k in known]).T
    names = {
        int(new): known[int(old)].identity
        for new, old in zip(*scipy.optimize.linear_sum_assignment(-alike), strict=True)
        if alike[new, old] >= options.same_within
    }
    return [replace(s, identity=names[i]) if i in names else s for i, s in enumerate(slices)]
