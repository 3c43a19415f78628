"""Fit P(wrong): penalised logistic regression that starts from what usually holds, and is told apart out of fold.

Three things keep it from doing harm where errors are few. The weights are pulled towards `USUAL`, which was found on
other networks and data than those that it is judged on (docs/decisions/0095), so that few errors change little. No
weight is negative: every score speaks of one direction only, and a sign that turns is noise. And the log odds are
rescaled on predictions out of fold, so that being sure in the sample does not make it sure outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.scores.arrays import Float64s, Floats
from export.contracts.scores.fusion import FailureModel, FusionForm, bounded, evidence
from export.contracts.scores.names import ScoreName

FOLDS = 5
PULL = 60.0  # how many rows the usual weights are worth, in units of standardised evidence
PULLS = (PULL, PULL / 3, PULL / 10)  # the first that passes is taken: data that say otherwise are listened to
RESCALE_PULL = 2.0  # the same for the scale of the log odds, towards 1
RESCALE_ERRORS = 10  # with fewer errors (or right answers) only the level is moved, not the scale
STEPS = 100
USUAL: dict[str, float] = {
    ScoreName.MSP.value: 1.0,
    ScoreName.MARGIN.value: 0.0,
    ScoreName.ENTROPY.value: 0.0,
    ScoreName.GEN.value: 0.3,
    ScoreName.PNORM.value: 0.0,
    ScoreName.ENERGY.value: 0.0,
    ScoreName.RMDS.value: 0.0,
    ScoreName.KNN.value: 0.3,
    ScoreName.TRUST.value: 0.7,
}
Array: TypeAlias = npt.NDArray[Any]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CrossFit:
    """A model, and what it may be judged by.

    Attributes:
        model: Fitted on all rows.
        folds: `folds[k]` never saw the rows of fold k.
        predicted: P(wrong) of each row from the model that did not see it, (rows,).
    """

    model: FailureModel
    folds: tuple[FailureModel, ...]
    predicted: Float64s


def cross_fit(
    values: Mapping[str, Floats],
    names: tuple[str, ...],
    wrong: Bools,
    fold: npt.NDArray[np.int64],
    *,
    weight: Floats | None = None,
    start: FailureModel | None = None,
    pull: float = PULL,
) -> CrossFit:
    """Fit on all rows, and once without each fold.

    Args:
        values: Scores, finite, (rows,) each.
        names: Which of them to use.
        wrong: (rows,), at least one of each kind.
        fold: 0 to `FOLDS` - 1, (rows,).
        weight: Rows of the population that each row stands for; only their proportions count.
        start: A model of the same features to be pulled towards, in place of the usual weights.
        pull: How many rows the usual weights, or those of `start`, are worth.
    """
    w = effective(np.ones(len(wrong)) if weight is None else np.asarray(weight, dtype=np.float64))
    members = [np.flatnonzero(fold == k) for k in range(FOLDS)]
    raw = [_fit(values, names, wrong, w, np.flatnonzero(fold != k), start, pull) for k in range(FOLDS)]
    odds = np.empty(len(wrong))
    for rows, model in zip(members, raw, strict=True):
        odds[rows] = model.log_odds(_rows(values, names, rows))
    # Each fold's model is rescaled on the other folds' predictions, so that none has seen the rows it is judged by.
    folds = tuple(_rescaled(model, odds, wrong, w, np.flatnonzero(fold != k)) for k, model in enumerate(raw))
    predicted = np.empty(len(wrong))
    for rows, model in zip(members, folds, strict=True):
        predicted[rows] = model.predict(_rows(values, names, rows))
    everything = np.arange(len(wrong))
    whole = _rescaled(_fit(values, names, wrong, w, everything, start, pull), odds, wrong, w, everything)
    return CrossFit(model=whole, folds=folds, predicted=predicted)


def effective(weight: Float64s) -> Float64s:
    """Weights scaled so that they add up to the rows that an unweighted sample of the same precision would have.

    References:
        Kish, "Survey Sampling", 1965, section 11.7: (Σw)² / Σw².

    Example:
        >>> effective(np.array([2.0, 2.0])).tolist(), effective(np.array([1.0, 0.0])).tolist()
        ([1.0, 1.0], [1.0, 0.0])
    """
    total, squares = float(weight.sum()), float((weight**2).sum())
    return weight * (total / squares) if squares > 0 else weight


def _rows(values: Mapping[str, Floats], names: tuple[str, ...], rows: Array) -> dict[str, Floats]:
    return {name: np.asarray(values[name])[rows] for name in names}


def _fit(
    values: Mapping[str, Floats], names: tuple[str, ...], wrong: Bools, w: Float64s, rows: Array,
    start: FailureModel | None, pull: float,
) -> FailureModel:  # fmt: skip
    x = np.stack([evidence(name, np.asarray(values[name])[rows]) for name in names], axis=1)  # (rows, scores)
    weight, y = w[rows], wrong[rows].astype(np.float64)
    if start is not None:
        mean, scale, usual = np.array(start.mean), np.array(start.scale), np.array(start.weights)
    else:
        share = weight / weight.sum()
        mean = share @ x
        scale = np.maximum(np.sqrt(share @ (x - mean) ** 2), 1e-9)
        # In units of what MSP says in this model: where it is calibrated, its log odds count once, as they are.
        unit = float(scale[names.index(ScoreName.MSP.value)]) if ScoreName.MSP.value in names else 1.0
        usual = unit * np.array([USUAL.get(name, 0.0) for name in names])
    weights, intercept = _solve(bounded((x - mean) / scale), y, weight, usual, pull)
    return FailureModel(
        features=names,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple(weights.tolist()),
        intercept=intercept,
        form=FusionForm.EVIDENCE,
    )


def _rescaled(model: FailureModel, odds: Float64s, wrong: Bools, w: Float64s, rows: Array) -> FailureModel:
    """Platt's two numbers, from log odds out of fold: what the in-sample fit says too surely, or at the wrong level.

    References:
        Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    """
    y, weight = wrong[rows].astype(np.float64), w[rows]
    few = min((weight * y).sum(), (weight * (1.0 - y)).sum()) < RESCALE_ERRORS
    slope, level = _solve(odds[rows][:, None], y, weight, np.ones(1), 1e9 if few else RESCALE_PULL)
    factor = float(slope[0])
    if factor <= 0.0:  # it ranks backwards in this sample: keep the order that is usual, move the level
        slope, level = _solve(odds[rows][:, None], y, weight, np.ones(1), 1e9)
        factor = float(slope[0])
    weights = tuple(factor * value for value in model.weights)
    return replace(model, weights=weights, intercept=factor * model.intercept + level)


def _solve(x: Float64s, y: Float64s, weight: Float64s, usual: Float64s, pull: float) -> tuple[Float64s, float]:
    """Weights (scores,) >= 0 and intercept that minimise Σ w·NLL + pull/2 · |weights - usual|²: projected Newton.

    References:
        Bertsekas, "Projected Newton Methods for Optimization Problems with Simple Constraints", SIAM J. Control 1982.
    """
    k = x.shape[1]
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    center = np.append(usual, 0.0)
    penalty = np.append(np.full(k, pull), 1e-3)  # the intercept is free but for an empty sample

    def loss(theta: Float64s) -> float:
        z = design @ theta
        d = theta - center
        return float((weight * (np.logaddexp(0.0, z) - y * z)).sum() + 0.5 * (penalty * d * d).sum())

    theta = center.copy()
    best = loss(theta)
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ theta, -500, 500)))
        gradient = design.T @ (weight * (p - y)) + penalty * (theta - center)
        held = np.append((theta[:k] <= 0.0) & (gradient[:k] > 0.0), False)
        if np.abs(gradient[~held]).max(initial=0.0) < 1e-8 * max(1.0, weight.sum()):
            break
        free = np.flatnonzero(~held)
        part = design[:, free]
        hessian = (part * (weight * p * (1.0 - p))[:, None]).T @ part + np.diag(penalty[free])
        step = np.zeros(k + 1)
        step[free] = np.linalg.solve(hessian, gradient[free])
        size = 1.0
        while size > 1e-10:
            trial = theta - size * step
            trial[:k] = np.maximum(trial[:k], 0.0)
            value = loss(trial)
            if value < best:
                break
            size *= 0.5
        else:
            break
        theta, best = trial, value
    return theta[:k], float(theta[k])
