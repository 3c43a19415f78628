"""What a version's reference says about estimating accuracy without labels, and how a window is described for it.

At export the held-out rows are changed in many ways (`export.rehearsal`), the model answers them, and each group of
answers becomes a *rehearsed window*: its description, how accurate the model was, and how far off each estimate was.
A live window is described in the same way, from integer counts that merge exactly, and compared with those windows.

References:
    Guillory et al., "Predicting with Confidence on Unseen Distributions", ICCV 2021 (difference of confidences).
    Deng & Zheng, "Are Labels Always Necessary for Classifier Accuracy Evaluation?", CVPR 2021 (learning from synthetic
        shifts of a labelled set).
    Garg et al., "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance", ICLR 2022 (ATC).
    Lu et al., "Characterizing Out-of-Distribution Error via Optimal Transport", NeurIPS 2023 (COT).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.scores import Float64s, ScoreName, entropy

FIXED_ONE = 1 << 20  # fixed point of probabilities
CONFIDENCE_BINS = 4  # cells of one predicted class
MAX_TRANSPORT_CLASSES = 32  # 4 * 32 cells of 32 sums are 33 kB a window before compression
SCORE_BINS = 103  # of `histogram`: below the smallest, 101 percentiles' steps, above the largest
ATC_SCORES = (ScoreName.MSP.value, ScoreName.ENTROPY.value)
HEAD = 2 + len(ATC_SCORES)  # rows, sum of confidences, rows above each ATC threshold
NEIGHBOURS = 5  # rehearsed windows that an estimate is read from
JUDGES = 20  # ... and that its error is judged by
INTERVAL_SHARE = 0.9  # of those whose error lies within the stated interval
ESTIMATES = ("confidence", "p_wrong", "atc", "transport", "rehearsal")  # columns of `AccuracyReference.errors`
Array: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class AccuracyReference:
    """What estimates of accuracy compare a window with. W rehearsed windows, F features.

    Attributes:
        scores: Names of the scores whose histograms describe a window.
        atc: Thresholds of MSP and of entropy that as many reference rows pass as are answered right.
        atc_score: Which of the two was less wrong over the rehearsed windows.
        prior: Share of each class among the reference's labels, (C,).
        kinds: What was done to the rows of each rehearsed window, (W,) words such as "blur 2"; empty: not rehearsed.
        features: (W, F) float64.
        accuracy: (W,) share of right answers.
        errors: (W, 5) estimate minus truth by `ESTIMATES`, NaN where an estimate does not exist. Those of "rehearsal"
            were made without the windows of the same kind of change.
        reach: Distance to the nearest window of another kind that 99 % of the rehearsed windows keep within.
    """

    scores: tuple[str, ...]
    atc: tuple[float, float]
    atc_score: str
    prior: Array
    kinds: tuple[str, ...]
    features: Array
    accuracy: Array
    errors: Array
    reach: float

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.prior)

    @property
    def size(self) -> int:
        """Integers that describe how sure the model was in a window."""
        return HEAD + (cells_of(self.classes) * (1 + self.classes))


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """What the rehearsed windows say about a live one.

    Attributes:
        accuracy: Estimate in [0, 1].
        error: Mean absolute error of each estimate over the most similar rehearsed windows, by `ESTIMATES`.
        spread: Absolute error of "rehearsal" that 90 % of those windows keep within.
        like: What was done to the most similar one.
        distance: To it, in the unit of `reach`.
    """

    accuracy: float
    error: Mapping[str, float]
    spread: float
    like: str
    distance: float


def cells_of(classes: int) -> int:
    """Groups of rows by predicted class and confidence; 0 for a model with too many classes."""
    return CONFIDENCE_BINS * classes if 0 < classes <= MAX_TRANSPORT_CLASSES else 0


def score_edges(grid: Array) -> npt.NDArray[np.float32]:
    """Bin edges at the percentiles of a score's reference quantiles (1001,), (102,) float32, ascending."""
    edges = np.empty(SCORE_BINS - 1, dtype=np.float32)
    picked = np.asarray(grid)[np.linspace(0, len(grid) - 1, SCORE_BINS - 2).astype(np.int64)]
    edges[:-1] = np.maximum.accumulate(np.nan_to_num(picked.astype(np.float32), nan=0.0))
    edges[-1] = np.nextafter(edges[-2], np.float32(np.inf))
    return edges


def histogram(edges: Array, values: Array) -> Ints:
    """Rows by bin of one score, (103,); values that are not finite are left out."""
    kept = np.asarray(values, dtype=np.float32)
    kept = kept[np.isfinite(kept)]
    return np.bincount(np.searchsorted(edges, kept, side="right"), minlength=SCORE_BINS).astype(np.int64)


def count_sureness(reference: AccuracyReference, probabilities: Array, entropies: Array | None = None) -> Ints:
    """How sure the model was of some rows, as integers that add up: (`reference.size`,).

    Rows, the fixed-point sum of confidences, rows beyond each ATC threshold; then, by predicted class and quarter of
    confidence, rows and the fixed-point sum of their probability vectors. Rounded to float32 first, so that how a batch
    was cut does not show.

    Args:
        reference: Its thresholds and classes.
        probabilities: (rows, classes) calibrated; rows that are not finite are left out.
        entropies: (rows,), if they are known already.
    """
    p = np.asarray(probabilities, dtype=np.float32)
    e = entropy(probabilities) if entropies is None else np.asarray(entropies)
    sure = p.max(axis=1, initial=0.0)
    finite = np.isfinite(sure)  # a row with one NaN is NaN throughout
    if not finite.all():
        p, e, sure = p[finite], e[finite], sure[finite]
    out = np.zeros(reference.size, dtype=np.int64)
    out[0], out[1] = len(p), np.rint(sure.astype(np.float64) * FIXED_ONE).astype(np.int64).sum()
    out[2] = int((sure >= np.float32(reference.atc[0])).sum())
    out[3] = int((e.astype(np.float32) <= np.float32(reference.atc[1])).sum())
    cells = cells_of(reference.classes)
    if cells and len(p):
        step = np.minimum((sure * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
        cell = p.argmax(axis=1) * CONFIDENCE_BINS + step
        table = out[HEAD:].reshape(cells, 1 + reference.classes)
        table[:, 0] = np.bincount(cell, minlength=cells)
        fixed = np.rint(p.astype(np.float64) * FIXED_ONE)  # float64 adds these integers exactly: below 2**53
        for k in range(reference.classes):
            table[:, 1 + k] = np.bincount(cell, weights=fixed[:, k], minlength=cells).astype(np.int64)
    return out


def mean_confidence(sureness: Ints) -> float:
    """Mean of the largest calibrated probability."""
    return float(sureness[1] / (FIXED_ONE * sureness[0]))


def above_threshold(reference: AccuracyReference, sureness: Ints) -> float:
    """ATC: share of rows beyond the threshold that the right share of the reference passes."""
    return float(sureness[2 + ATC_SCORES.index(reference.atc_score)] / sureness[0])


def transport(reference: AccuracyReference, sureness: Ints) -> float | None:
    """COT: 1 - cost of moving the predicted probabilities to one-hot labels in the reference's class shares.

    Rows of the same predicted class and quarter of confidence move together, which keeps the problem small whatever the
    window's size. None for more than 32 classes.

    References:
        Lu et al., NeurIPS 2023, eq. 5, with the cost 1 - p_k of calling a row class k.
    """
    classes, cells = reference.classes, cells_of(reference.classes)
    if not cells:
        return None
    from scipy.optimize import linprog

    table = sureness[HEAD:].reshape(cells, 1 + classes)
    table = table[table[:, 0] > 0]
    weight = table[:, 0] / sureness[0]
    cost = 1.0 - table[:, 1:] / (FIXED_ONE * table[:, :1])  # (cells, classes)
    rows = np.kron(np.eye(len(table)), np.ones((1, classes)))
    columns = np.kron(np.ones((1, len(table))), np.eye(classes))
    solved = linprog(
        cost.ravel(),
        A_eq=np.concatenate([rows, columns])[:-1],  # both sides sum to 1: the last equation follows from the others
        b_eq=np.concatenate([weight, reference.prior])[:-1],
        method="highs",
    )
    return None if solved.fun is None else float(min(max(1.0 - solved.fun, 0.0), 1.0))


def describe(
    reference: AccuracyReference, histograms: Mapping[str, Ints], sureness: Ints, gap: float | None = None
) -> Float64s:
    """A window as features, (F,): ranks and tails of each score, confidence, transport, and how classes moved.

    Args:
        reference: Of the version.
        histograms: (103,) by name of score.
        sureness: As `count_sureness` makes it.
        gap: Squared maximum mean discrepancy of the embeddings from the reference's; None without embeddings.
    """
    made: list[float] = []
    for name in reference.scores:
        counts = histograms[name]
        share = counts / max(int(counts.sum()), 1)
        made += [float(share @ np.arange(SCORE_BINS) / (SCORE_BINS - 1)), share[:6].sum(), share[-6:].sum()]
    made.append(mean_confidence(sureness))
    moved = transport(reference, sureness)
    if moved is not None:
        table = sureness[HEAD:].reshape(-1, 1 + reference.classes)
        expected = table[:, 1:].sum(axis=0) / (FIXED_ONE * sureness[0])
        predicted = table[:, 0].reshape(reference.classes, -1).sum(axis=1) / sureness[0]
        made += [moved] + [float(np.abs(shares - reference.prior).sum() / 2) for shares in (expected, predicted)]
    return np.array(made if gap is None else [*made, float(np.sqrt(max(gap, 0.0)))])


def base_of(reference: AccuracyReference, features: Array) -> Array:
    """The feature that the rehearsed windows correct: transport, or mean confidence; (...) of (..., F)."""
    return np.asarray(features[..., 3 * len(reference.scores) + (1 if cells_of(reference.classes) else 0)])


def read(reference: AccuracyReference, features: Array, without: str | None = None) -> Read | None:
    """Read an estimate off the rehearsed windows nearest to a window.

    Two readings of the nearest rehearsed windows, weighted by 1 / distance in standardised features, are averaged: how
    accurate the model was on them, and the window's own transport estimate (mean confidence, for many classes) less
    what that was off by on them.

    Args:
        reference: Of the version.
        features: (F,) of the window.
        without: A kind of change whose windows are left out.

    Returns:
        None when nothing was rehearsed.
    """
    use = np.array([family(kind) != without for kind in reference.kinds], dtype=bool)
    if not use.any():
        return None
    known = reference.features[use]
    scale = np.maximum(reference.features.std(axis=0), 1e-3)
    away = np.sqrt((((known - features) / scale) ** 2).mean(axis=1))
    order = np.argsort(away, kind="stable")
    near = order[:NEIGHBOURS]
    weight = 1.0 / (away[near] + 1e-6)
    weight = weight / weight.sum()
    right = reference.accuracy[use][near]
    excess = base_of(reference, known[near]) - right
    value = float((base_of(reference, features) - weight @ excess + weight @ right) / 2.0)
    judges = np.abs(reference.errors[use][order[:JUDGES]])
    means = np.full(len(ESTIMATES), np.nan)
    there = np.isfinite(judges).any(axis=0)
    means[there] = np.nanmean(judges[:, there], axis=0)
    own = judges[:, ESTIMATES.index("rehearsal")]
    return Read(
        accuracy=min(max(value, 0.0), 1.0),
        error=dict(zip(ESTIMATES, means.tolist(), strict=True)),
        spread=float(np.quantile(own, INTERVAL_SHARE)) if np.isfinite(own).all() else float("nan"),
        like=np.array(reference.kinds)[use][order[0]],
        distance=float(away[order[0]] / reference.reach) if reference.reach > 0 else float("inf"),
    )


def family(kind: str) -> str:
    """Kind of change of a rehearsed window, without its strength and dose.

    Example:
        >>> family("blur 2")
        'blur'
    """
    return kind.split(" ", 1)[0]
