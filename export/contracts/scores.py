"""Scores that say how sure a model is, one number a row, as pure vectorised functions.

The reference compiler and the monitor call the same code, so a score means the same at export and in production.
Inputs are `(rows, classes)` or `(rows, features)`; a row with a value that is not finite scores NaN, and only that row.

References:
    Hendrycks & Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples", ICLR 2017 (MSP).
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 9 (temperature).
    Liu, Lochman & Zach, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection", CVPR 2023, eq. 3.
    Ren et al., "A Simple Fix to Mahalanobis Distance", arXiv:2106.09022, 2021 (relative Mahalanobis distance).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Float64s: TypeAlias = npt.NDArray[np.float64]
TINY = float(np.finfo(np.float32).tiny)


class ScoreName(StrEnum):
    """Names of scores in profiles, windows, cases and metrics."""

    MSP = "msp"  # largest probability: high = sure
    MARGIN = "margin"  # largest minus second largest probability: high = sure
    ENTROPY = "entropy"  # nats: high = unsure
    GEN = "gen"  # generalised entropy: high = unsure
    RMDS = "rmds"  # relative Mahalanobis distance of the embedding: high = unlike the reference
    P_WRONG = "p_wrong"  # probability that the answer is wrong: what cases are ranked by

    @property
    def high_is_suspicious(self) -> bool:
        """Whether the upper tail is the suspicious one."""
        return self not in (ScoreName.MSP, ScoreName.MARGIN)


def softmax(logits: Floats, temperature: float = 1.0) -> Float64s:
    """Probabilities of `logits / temperature` along the last axis, (rows, classes) → (rows, classes).

    Example:
        >>> softmax(np.array([[0.0, np.log(3.0)]])).round(2).tolist()
        [[0.25, 0.75]]
    """
    z = np.asarray(logits, dtype=np.float64) / temperature
    with np.errstate(invalid="ignore", over="ignore"):
        z = z - z.max(axis=-1, keepdims=True)
        p = np.exp(z)
        p /= p.sum(axis=-1, keepdims=True)
    return np.asarray(p, dtype=np.float64)


def temper(probabilities: Floats, temperature: float) -> Float64s:
    """Apply a temperature to probabilities whose logits are not known, (rows, classes) → (rows, classes)."""
    p = np.asarray(probabilities, dtype=np.float64)
    if temperature == 1.0:
        return p
    return softmax(np.log(np.maximum(p, TINY)), temperature)


def msp(p: Floats) -> Float64s:
    """Maximum softmax probability, (rows,).

    Example:
        >>> msp(np.array([[0.2, 0.8]])).tolist()
        [0.8]
    """
    return np.asarray(np.max(p, axis=-1), dtype=np.float64)


def margin(p: Floats) -> Float64s:
    """Largest minus second largest probability, (rows,); with one class, the probability itself.

    Example:
        >>> margin(np.array([[0.1, 0.3, 0.6]])).round(6).tolist()
        [0.3]
    """
    q = np.asarray(p, dtype=np.float64)
    if q.shape[-1] < 2:
        return q[..., 0].copy()
    top = np.partition(q, -2, axis=-1)
    return np.asarray(top[..., -1] - top[..., -2], dtype=np.float64)


def entropy(p: Floats) -> Float64s:
    """Shannon entropy in nats, (rows,); 0 for a one-hot row.

    Example:
        >>> float(entropy(np.array([[0.5, 0.5]]))[0].round(4))
        0.6931
    """
    q = np.asarray(p, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(-(q * np.log(np.maximum(q, TINY))).sum(axis=-1), dtype=np.float64)


def gen(p: Floats, gamma: float = 0.1, top: int = 100) -> Float64s:
    """Generalised entropy over the `top` largest probabilities, (rows,): Σ p^g (1 - p)^g with g = gamma. High = unsure.

    The paper's score is the negative of this; `gamma` and `top` are its defaults (CVPR 2023, eq. 3 and section 4).

    Example:
        >>> bool(gen(np.array([[0.5, 0.5]]))[0] > gen(np.array([[0.99, 0.01]]))[0])
        True
    """
    q = np.asarray(p, dtype=np.float64)
    if q.shape[-1] > top:
        q = np.partition(q, -top, axis=-1)[..., -top:]
    with np.errstate(invalid="ignore"):
        q = np.clip(q, 0.0, 1.0)  # keeps NaN
        return np.asarray((q**gamma * (1.0 - q) ** gamma).sum(axis=-1), dtype=np.float64)


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


def rmds(
    embedding: Floats, *, factor: Floats, centres: Floats, background_factor: Floats, background_centre: Floats
) -> Float64s:
    """Relative Mahalanobis distance on length-1 embeddings (RMDS++), (rows,). High = unlike every class.

    min over classes k of (MD_k² - MD_0²), with MD_k² = |h·F - c_k|² where F·Fᵀ is the shared precision matrix and c_k
    the class mean times F; MD_0 is the same for one Gaussian fitted to all classes together.

    Args:
        embedding: (rows, features), not normalised.
        factor: F, (features, rank).
        centres: c_k, (classes, rank); a row of NaN is a class that the reference does not have.
        background_factor: F_0, (features, rank).
        background_centre: c_0, (rank,).
    """
    h = normalise(embedding)
    with np.errstate(invalid="ignore", over="ignore"):
        white = h @ np.asarray(factor, dtype=np.float64)  # (rows, rank)
        c = np.asarray(centres, dtype=np.float64)
        c = c[np.isfinite(c).all(axis=1)]
        near = np.einsum("kr,kr->k", c, c)[None, :] - 2.0 * (white @ c.T)  # (rows, classes), less |white|²
        nearest = near.min(axis=1) + np.einsum("nr,nr->n", white, white)
        back = h @ np.asarray(background_factor, dtype=np.float64) - np.asarray(background_centre, dtype=np.float64)
        return np.asarray(nearest - np.einsum("nr,nr->n", back, back), dtype=np.float64)


def random_fourier_features(embedding: Floats, frequencies: Floats) -> Float64s:
    """Features whose inner product approximates a Gaussian kernel on length-1 embeddings.

    (rows, features) → (rows, 2·D), for `frequencies` of (features, D) drawn from N(0, 1/bandwidth²).

    References:
        Rahimi & Recht, "Random Features for Large-Scale Kernel Machines", NeurIPS 2007.
    """
    angle = normalise(embedding) @ np.asarray(frequencies, dtype=np.float64)
    scale = 1.0 / np.sqrt(angle.shape[1])
    with np.errstate(invalid="ignore"):
        return np.asarray(np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * scale, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureModel:
    """Logistic P(wrong) over standardised scores: sigmoid(intercept + Σ wᵢ (sᵢ - meanᵢ) / scaleᵢ)."""

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def predict(self, scores: Mapping[str, Floats]) -> Float64s:
        """P(wrong) of each row, (rows,).

        Raises:
            KeyError: a score that the model was fitted on is not in `scores`.
        """
        x = np.stack([np.asarray(scores[name], dtype=np.float64) for name in self.features], axis=-1)
        with np.errstate(invalid="ignore", over="ignore"):
            z = ((x - np.array(self.mean)) / np.array(self.scale)) @ np.array(self.weights) + self.intercept
            return np.asarray(1.0 / (1.0 + np.exp(-z)), dtype=np.float64)


def softmax_scores(p: Floats) -> dict[str, Float64s]:
    """MSP, margin, entropy and GEN of calibrated probabilities (rows, classes), by `ScoreName`."""
    return {
        ScoreName.MSP.value: msp(p),
        ScoreName.MARGIN.value: margin(p),
        ScoreName.ENTROPY.value: entropy(p),
        ScoreName.GEN.value: gen(p),
    }
