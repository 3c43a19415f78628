"""The embedding's part of a reference profile: Gaussians for RMDS++, a sample, and random features for MMD."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.blas import one_blas_thread
from export.contracts.reference import MAX_ARRAY_BYTES, MMD_LEVELS, EmbeddingReference
from export.contracts.scores import Float64s, likeness, normalise, random_fourier_features, relative_distance

MAX_RANK = 256
SAMPLE_ROWS = 1000
BANK_ROWS = 1000
CLASS_ROWS = 3
FREQUENCIES = 128
PERMUTATIONS = 4000
FOLDS, FOLDS_MANY, MANY_ROWS = 20, 5, 4000  # see docs/decisions/0012: few folds bias the quantiles of few rows
MIN_MMD_ROWS = 40  # below it the permutation threshold is NaN: not enough data
_MMD_ROWS = 4000
Array: TypeAlias = npt.NDArray[Any]


@one_blas_thread
def compile_embedding(
    output: str, embedding: Array, targets: npt.NDArray[np.int64] | None, classes: int, rng: np.random.Generator
) -> EmbeddingReference | None:
    """Compile embeddings (rows, features); rows that are not finite are left out; None when none is left."""
    flat = np.asarray(embedding, dtype=np.float64).reshape(len(embedding), -1)
    keep = np.isfinite(flat).all(axis=1)
    h = normalise(flat[keep])
    if len(h) < 2:
        return None
    y = targets[keep] if targets is not None else None
    width = h.shape[1]
    sample_rows = min(SAMPLE_ROWS, max(1, MAX_ARRAY_BYTES // (4 * width)), len(h))
    sample = h[np.sort(rng.permutation(len(h))[:sample_rows])]
    bandwidth = median_distance(sample)
    frequencies = (rng.standard_normal((width, FREQUENCIES)) / bandwidth).astype(np.float32)
    features = random_fourier_features(h, frequencies)
    basis = leading_directions(h, classes)
    low = h if basis is None else h @ basis
    gaussians: dict[str, Any] = {
        name: None if array is None else array.astype(np.float32)
        for name, array in fit_gaussians(low, y, classes).items()
    }
    return EmbeddingReference(
        output=output,
        **gaussians,
        basis=None if basis is None else basis.astype(np.float32),
        sample=sample.astype(np.float32),
        frequencies=frequencies,
        feature_mean=features.mean(axis=0),
        bandwidth=bandwidth,
        mmd_scaled=permutation_quantiles(features, rng),
        rows=len(h),
        class_features=_class_features(features, y, classes),
    )


def _class_features(features: Array, targets: npt.NDArray[np.int64] | None, classes: int) -> Array | None:
    """Mean features of each class, (classes, 2·D), so that a shift can be said to go towards one of them."""
    if targets is None or classes * features.shape[1] * 4 > MAX_ARRAY_BYTES:
        return None
    means = np.full((classes, features.shape[1]), np.nan, dtype=np.float32)
    for k in np.unique(targets):
        means[k] = features[targets == k].mean(axis=0)
    return means


@one_blas_thread
def with_bank(
    made: EmbeddingReference, embedding: Array, targets: npt.NDArray[np.int64] | None, rng: np.random.Generator
) -> tuple[EmbeddingReference, npt.NDArray[np.int64]]:
    """Add the bank of neighbours; returns also which of the rows (rows, features) it holds.

    A uniform sample, so that distances mean density; but a class keeps `CLASS_ROWS` rows where it has them.
    """
    flat = np.asarray(embedding, dtype=np.float64).reshape(len(embedding), -1)
    usable = np.flatnonzero(np.isfinite(flat).all(axis=1))
    order = usable[rng.permutation(len(usable))]
    if targets is not None:
        early = np.zeros(len(flat), dtype=bool)
        for k in np.unique(targets[order]):
            early[order[targets[order] == k][:CLASS_ROWS]] = True
        order = np.concatenate([order[early[order]], order[~early[order]]])
    width = flat.shape[1] if made.basis is None else made.basis.shape[1] + 1
    chosen = np.sort(order[: max(1, min(BANK_ROWS, MAX_ARRAY_BYTES // (4 * width)))])
    if targets is not None:
        chosen = chosen[np.argsort(targets[chosen], kind="stable")]
    bank = made.unit(made.project(normalise(flat[chosen])))
    classes = None if targets is None else targets[chosen].astype(np.int32)
    return replace(made, bank=bank.astype(np.float32), bank_classes=classes), chosen


@one_blas_thread
def neighbours_left_out(
    made: EmbeddingReference, embedding: Array, predicted: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]
) -> dict[str, Float64s]:
    """KNN distance and trust score of the reference's own rows, no row being its own neighbour, by `ScoreName`."""
    assert made.bank is not None
    flat = np.asarray(embedding, dtype=np.float64).reshape(len(embedding), -1)
    cosines = likeness(made.unit(made.project(normalise(flat))), made.bank)
    cosines[chosen, np.arange(len(chosen))] = -1.0
    return made.neighbour_scores(cosines, predicted)


def fit_gaussians(low: Array, targets: npt.NDArray[np.int64] | None, classes: int) -> dict[str, Any]:
    """Arguments of `scores.rmds` from length-1 embeddings, (rows, rank), which may be projected.

    Covariances are shrunk towards a multiple of the identity (Ledoit & Wolf 2004), because there are often fewer rows
    than a covariance has entries. Above `MAX_RANK` features they must be projected (`leading_directions`).
    """
    background = _precision_factor(low - low.mean(axis=0))
    out: dict[str, Any] = {
        "background_factor": background,
        "background_centre": low.mean(axis=0) @ background,
        "factor": None,
        "centres": None,
    }
    if targets is not None:
        means = np.full((classes, low.shape[1]), np.nan)
        for k in np.unique(targets):
            means[k] = low[targets == k].mean(axis=0)
        within = _precision_factor(low - means[targets])
        out["factor"] = within
        out["centres"] = means @ within
    return out


@one_blas_thread
def out_of_fold_rmds(
    embedding: Array, targets: npt.NDArray[np.int64], classes: int, rng: np.random.Generator
) -> Float64s:
    """RMDS++ of each row under Gaussians fitted without it, (rows,).

    In-sample distances are too small, by much when rows are few: thresholds taken from them would call healthy traffic
    novel. NaN where the embedding is not finite, or there are too few rows to fit anything.
    """
    flat = np.asarray(embedding, dtype=np.float64).reshape(len(embedding), -1)
    out = np.full(len(flat), np.nan)
    rows = np.flatnonzero(np.isfinite(flat).all(axis=1))
    folds = min(FOLDS if len(rows) < MANY_ROWS else FOLDS_MANY, len(rows) // 2)
    if folds < 2:
        return out
    h = normalise(flat[rows])
    basis = leading_directions(h, classes)  # knows no labels: once is enough
    low = h if basis is None else h @ basis
    fold = np.empty(len(rows), dtype=np.int64)
    # Spread every class over the folds: order by class, random within it, then deal the rows out.
    fold[np.lexsort((rng.random(len(rows)), targets[rows]))] = np.arange(len(rows)) % folds
    for k in range(folds):
        inside, outside = fold != k, fold == k
        fitted = fit_gaussians(low[inside], targets[rows[inside]], classes)
        out[rows[outside]] = relative_distance(low[outside], **fitted)
    return out


def median_distance(h: Array) -> float:
    """Median Euclidean distance between rows: the usual kernel bandwidth (Gretton et al. 2012, section 8)."""
    part = h[:500]
    gram = part @ part.T
    square = np.diag(gram)
    distance = np.sqrt(np.maximum(square[:, None] + square[None, :] - 2 * gram, 0.0))
    upper = distance[np.triu_indices(len(part), 1)]
    median = float(np.median(upper)) if len(upper) else 0.0
    return median if median > 1e-6 else 1.0


def permutation_quantiles(features: Array, rng: np.random.Generator) -> Float64s:
    """Quantiles at `MMD_LEVELS` of ‖mean_A - mean_B‖² / (1/|A| + 1/|B|) over random halves A, B of the rows.

    Under the null the scaled statistic has one limit for all sizes (a weighted sum of chi-squares; Gretton et al. 2012,
    theorem 12), so one set of quantiles serves windows of any size. NaN below `MIN_MMD_ROWS` rows.
    """
    f = features[rng.permutation(len(features))[:_MMD_ROWS]]
    n = len(f)
    if n < MIN_MMD_ROWS:
        return np.full(len(MMD_LEVELS), np.nan)
    half, total = n // 2, f.sum(axis=0)
    values = []
    for _ in range(PERMUTATIONS // 200):
        order = np.argsort(rng.random((200, n)), axis=1)[:, :half]
        chosen = np.zeros((200, n))
        np.put_along_axis(chosen, order, 1.0, axis=1)
        inside = chosen @ f  # (permutations, 2·D)
        gap = inside / half - (total - inside) / (n - half)
        values.append(np.einsum("ij,ij->i", gap, gap) / (1.0 / half + 1.0 / (n - half)))
    return np.asarray(np.quantile(np.concatenate(values), MMD_LEVELS), dtype=np.float64)


def leading_directions(h: Array, classes: int) -> Array | None:
    """Principal directions (features, rank) of length-1 embeddings, or None when all can be kept."""
    rank = max(1, min(MAX_RANK, MAX_ARRAY_BYTES // (4 * max(classes, h.shape[1]))))
    if h.shape[1] <= rank:
        return None
    centred = h - h.mean(axis=0)
    if len(h) >= h.shape[1]:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        return np.asarray(vectors[:, ::-1][:, :rank])
    values, left = np.linalg.eigh(centred @ centred.T)  # fewer rows than features: the smaller problem
    kept = np.flatnonzero(values > values.max() * 1e-10)[::-1][:rank]
    return np.asarray(centred.T @ left[:, kept] / np.sqrt(values[kept]))


def _precision_factor(centred: Array) -> Array:
    """F with F·Fᵀ = inverse of the shrunk covariance of centred rows, (rank, rank)."""
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(centred, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    floor = max(float(values.max()) * 1e-6, 1e-12)
    return np.asarray(vectors / np.sqrt(np.maximum(values, floor)))
