"""What the embeddings of held-out rows look like: Gaussians, a bank of neighbours, a kernel mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.scores import (
    Float64s,
    Floats,
    ScoreName,
    knn,
    likeness,
    normalise,
    random_fourier_features,
    relative_distance,
    trust,
)

MMD_LEVELS = (0.95, 0.99, 0.999)
Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingReference:
    """Embeddings (length-1 rows) on the reference. See `scores.rmds`, `scores.knn` and `scores.trust`.

    Attributes:
        factor: Precision factor of the shared within-class covariance, (features, rank), or (rank, rank) behind a
            `basis`; None without labels.
        centres: Class means times `factor`, (classes, rank); NaN for a class that the reference lacks.
        background_factor: The same for one Gaussian over everything.
        background_centre: (rank,).
        sample: Random rows, length 1, (<= 1000, features) float32.
        frequencies: Random Fourier frequencies, (features, D).
        feature_mean: Mean random Fourier features of the reference, (2·D,).
        bandwidth: Median distance between reference embeddings, which is the kernel's bandwidth.
        mmd_scaled: Quantiles at `MMD_LEVELS` of MMD² / (1/n + 1/N) between random splits of the reference.
        rows: N, rows behind `feature_mean`.
        class_features: Mean random Fourier features of each true class, (classes, 2·D) float32, NaN for a class that
            the reference lacks; None without labels, with very many classes, and in profiles made before 2026-11.
        basis: Leading directions of wide embeddings, (features, rank), in which everything else is measured; None
            where all directions are kept, and in references made before there was one.
        bank: A sample of projected rows of length 1, sorted by class, (<= 1000, rank) float32, or (..., rank + 1)
            behind a basis: the last column is what the basis leaves out.
        bank_classes: True class of each, ascending, (<= 1000,); None without labels.
    """

    output: str
    factor: Array | None
    centres: Array | None
    background_factor: Array
    background_centre: Array
    sample: Array
    frequencies: Array
    feature_mean: Array
    bandwidth: float
    mmd_scaled: Array
    rows: int
    class_features: Array | None = None
    basis: Array | None = None
    bank: Array | None = None
    bank_classes: Array | None = None

    def rmds(self, embedding: Floats) -> Float64s | None:
        """RMDS++ of each row, or None without class means."""
        return self._rmds(self.project(normalise(embedding)))

    def scores(self, embedding: Floats, predicted: npt.NDArray[np.int64] | None) -> dict[str, Float64s]:
        """Every score that the embedding gives, by `ScoreName`, (rows,) each.

        Args:
            embedding: (rows, features).
            predicted: Class index that the model answered, (rows,); None leaves the trust score out.
        """
        low = self.project(normalise(embedding))
        out: dict[str, Float64s] = {}
        distance = self._rmds(low)
        if distance is not None:
            out[ScoreName.RMDS.value] = distance
        if self.bank is not None and len(self.bank):
            out |= self.neighbour_scores(likeness(self.unit(low), self.bank), predicted)
        return out

    def neighbour_scores(self, cosines: Float64s, predicted: npt.NDArray[np.int64] | None) -> dict[str, Float64s]:
        """KNN distance and trust score from the cosines with every bank row, (rows, bank)."""
        out = {ScoreName.KNN.value: knn(cosines)}
        if predicted is not None and self.bank_classes is not None and len(set(self.bank_classes.tolist())) > 1:
            out[ScoreName.TRUST.value] = trust(cosines, self.bank_classes, predicted)
        return out

    def project(self, h: Float64s) -> Float64s:
        """Rows of length 1 in the basis, (rows, features) → (rows, rank)."""
        if self.basis is None:
            return h
        with np.errstate(invalid="ignore"):
            return np.asarray(h @ np.asarray(self.basis, dtype=np.float64), dtype=np.float64)

    def unit(self, low: Float64s) -> Float64s:
        """Projected rows with what the basis leaves out as one more column, so that they are of length 1 again."""
        if self.basis is None:
            return low
        with np.errstate(invalid="ignore"):
            rest = np.sqrt(np.maximum(1.0 - np.einsum("nr,nr->n", low, low), 0.0))
        return np.concatenate([low, rest[:, None]], axis=1)

    def _rmds(self, low: Float64s) -> Float64s | None:
        if self.factor is None or self.centres is None:
            return None
        return relative_distance(
            low,
            factor=self.factor,
            centres=self.centres,
            background_factor=self.background_factor,
            background_centre=self.background_centre,
        )

    def features(self, embedding: Floats) -> Float64s:
        """Random Fourier features (rows, 2·D); their mean over a window is what `mmd_squared` takes."""
        return random_fourier_features(embedding, self.frequencies)

    def mmd_squared(self, window_mean: Floats) -> float:
        """Squared maximum mean discrepancy (biased estimate) between a window and the reference.

        References:
            Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, eq. 5, with random Fourier features.
        """
        gap = np.asarray(window_mean, dtype=np.float64) - self.feature_mean
        return float(gap @ gap)

    def mmd_threshold(self, rows: int, level: float = 0.999) -> float:
        """Value that `mmd_squared` of a healthy window of `rows` exceeds with probability 1 - level.

        Raises:
            ValueError: `level` is not one of `MMD_LEVELS`, or `rows` is not positive.
        """
        if level not in MMD_LEVELS or rows < 1:
            raise ValueError(f"level must be one of {MMD_LEVELS} and rows positive")
        return float(self.mmd_scaled[MMD_LEVELS.index(level)] * (1.0 / rows + 1.0 / self.rows))
