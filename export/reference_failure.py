"""P(wrong): a logistic model over the scores, fitted on the reference, kept only if it ranks no worse than MSP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.blas import one_blas_thread
from export.contracts.scores import FailureModel, Float64s, ScoreName

MIN_ERRORS = 20
FOLDS = 5
CANDIDATES: tuple[tuple[ScoreName, ...], ...] = (
    (ScoreName.MSP, ScoreName.MARGIN, ScoreName.ENTROPY, ScoreName.GEN, ScoreName.RMDS),
    (ScoreName.MSP, ScoreName.MARGIN, ScoreName.ENTROPY, ScoreName.GEN),
    (ScoreName.MSP,),
)
Array: TypeAlias = npt.NDArray[Any]


@one_blas_thread
def fit_failure_model(
    values: Mapping[str, Float64s], wrong: npt.NDArray[np.bool_], seed: int
) -> tuple[FailureModel | None, Float64s]:
    """Fit P(wrong) and say what it predicts out of fold.

    Among the candidates the one with the best cross-validated AUGRC is taken, and none that ranks worse than MSP alone.

    Args:
        values: Scores of each row, (rows,); RMDS++ out of fold.
        wrong: Whether the model's answer is wrong, (rows,).
        seed: Of the folds.

    Returns:
        The model, or None below `MIN_ERRORS` wrong (or right) rows; and P(wrong), (rows,): out of fold, or 1 - MSP.
    """
    plain = 1.0 - values[ScoreName.MSP.value]
    usable = np.isfinite(np.stack(list(values.values()))).all(axis=0)
    if min(int(wrong[usable].sum()), int((~wrong[usable]).sum())) < MIN_ERRORS:
        return None, plain
    best: tuple[float, tuple[ScoreName, ...], Float64s] | None = None
    for names in CANDIDATES:
        if any(name.value not in values for name in names):
            continue
        predicted = plain.copy()
        predicted[usable] = _out_of_fold(_columns(values, names)[usable], wrong[usable], seed)
        area = augrc(predicted[usable], wrong[usable])
        if best is None or area < best[0]:
            best = (area, names, predicted)
    assert best is not None  # MSP is always a candidate
    _, names, predicted = best
    if augrc(predicted[usable], wrong[usable]) > augrc(plain[usable], wrong[usable]) + 1e-12:
        names = (ScoreName.MSP,)  # one monotone score: ranks as MSP does, and is calibrated
        predicted[usable] = _out_of_fold(_columns(values, names)[usable], wrong[usable], seed)
    return _fit(_columns(values, names)[usable], wrong[usable], names), predicted


def augrc(suspicion: Array, wrong: npt.NDArray[np.bool_]) -> float:
    """Area under the generalised risk-coverage curve: smaller is better, 0 for no errors. Ties share their risk.

    The mean over coverages k/n of (errors among the k least suspicious) / n.

    References:
        Traub et al., "Overcoming Common Flaws in the Evaluation of Selective Classification Systems", NeurIPS 2024.

    Example:
        >>> augrc(np.array([0.1, 0.9]), np.array([False, True])), augrc(np.array([0.9, 0.1]), np.array([False, True]))
        (0.25, 0.5)
    """
    order = np.argsort(suspicion, kind="stable")
    sorted_wrong, s = wrong[order].astype(np.float64), np.asarray(suspicion)[order]
    _, start, counts = np.unique(s, return_index=True, return_counts=True)
    shared = np.add.reduceat(sorted_wrong, start) / counts
    return float(np.cumsum(np.repeat(shared, counts)).mean() / len(s))


def _columns(values: Mapping[str, Float64s], names: tuple[ScoreName, ...]) -> Array:
    return np.stack([values[name.value] for name in names], axis=1)


def _fit(x: Array, wrong: npt.NDArray[np.bool_], names: tuple[ScoreName, ...]) -> FailureModel:
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit((x - mean) / scale, wrong)
    return FailureModel(
        features=tuple(name.value for name in names),
        mean=tuple(float(v) for v in mean),
        scale=tuple(float(v) for v in scale),
        weights=tuple(float(v) for v in fitted.coef_[0]),
        intercept=float(fitted.intercept_[0]),
    )


def _out_of_fold(x: Array, wrong: npt.NDArray[np.bool_], seed: int) -> Float64s:
    from sklearn.model_selection import StratifiedKFold

    out = np.empty(len(x))
    names = tuple(ScoreName)[: x.shape[1]]
    for inside, outside in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, wrong):
        model = _fit(x[inside], wrong[inside], names)
        out[outside] = model.predict({n.value: x[outside, i] for i, n in enumerate(names)})
    return out
