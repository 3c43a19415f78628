"""P(wrong) at export: fitted out of fold on the reference, kept only if it ranks no worse than MSP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.blas import one_blas_thread
from export.contracts.scores import PNORM_CHOICES, FailureModel, Float64s, ScoreName, pnorm
from export.contracts.scores.fitting import FOLDS, PULLS, CrossFit, cross_fit
from export.contracts.scores.ranking import augrc

MIN_ERRORS = 5
LOGITS_ONLY = (ScoreName.MSP, ScoreName.MARGIN, ScoreName.ENTROPY, ScoreName.GEN, ScoreName.PNORM, ScoreName.ENERGY)


@one_blas_thread
def fit_failure_model(
    values: Mapping[str, Float64s], wrong: npt.NDArray[np.bool_], seed: int
) -> tuple[FailureModel | None, Float64s]:
    """Fit P(wrong) and say what it predicts out of fold.

    The model over all scores is taken when its cross-validated AUGRC is no worse than MSP's, first pulled strongly
    towards the usual weights and then less; else the one over the scores of the logits, by the same rule; else MSP
    alone, calibrated, which ranks as MSP does.

    Args:
        values: Scores of each row, (rows,); what is fitted on the rows, out of fold.
        wrong: Whether the model's answer is wrong, (rows,).
        seed: Of the folds.

    Returns:
        The model, or None below `MIN_ERRORS` wrong (or right) rows; and P(wrong), (rows,): out of fold, or 1 - MSP.
    """
    plain = 1.0 - values[ScoreName.MSP.value]
    usable = np.asarray(np.isfinite(np.stack(list(values.values()))).all(axis=0))
    if min(int(wrong[usable].sum()), int((~wrong[usable]).sum())) < MIN_ERRORS:
        return None, plain
    kept = {name: column[usable] for name, column in values.items()}
    fold = folds(wrong[usable], seed)
    least = augrc(plain[usable], wrong[usable])
    for names, pull in _candidates(values):
        fitted = cross_fit(kept, names, wrong[usable], fold, pull=pull)
        if augrc(fitted.predicted, wrong[usable]) <= least + 1e-12:
            return fitted.model, _put(plain, usable, fitted)
    fitted = cross_fit(kept, (ScoreName.MSP.value,), wrong[usable], fold)
    return fitted.model, _put(plain, usable, fitted)


@one_blas_thread
def choose_norm(
    logits: npt.NDArray[np.floating[Any]], wrong: npt.NDArray[np.bool_], confidence: Float64s
) -> int | None:
    """The p with which MaxLogit-pNorm ranks these errors best, by AUGRC; None where none is better than MSP.

    One number is chosen among nine on all rows: too little to over-fit by more than the fusion's own check allows.
    """
    keep = np.isfinite(logits).all(axis=1)
    if not wrong[keep].any():
        return None
    areas = {p: augrc(-pnorm(logits[keep], p), wrong[keep]) for p in PNORM_CHOICES}
    best = min(areas, key=lambda p: (areas[p], p))
    return best if areas[best] < augrc(-confidence[keep], wrong[keep]) else None


def folds(wrong: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.int64]:
    """A fold for each row, errors spread evenly, (rows,)."""
    rng = np.random.default_rng(seed)
    out = np.empty(len(wrong), dtype=np.int64)
    out[np.lexsort((rng.random(len(wrong)), wrong))] = np.arange(len(wrong)) % FOLDS
    return out


def _candidates(values: Mapping[str, Float64s]) -> list[tuple[tuple[str, ...], float]]:
    every = tuple(name.value for name in ScoreName if name.value in values and name is not ScoreName.P_WRONG)
    logits = tuple(name.value for name in LOGITS_ONLY if name.value in values)
    return [(names, pull) for names in dict.fromkeys((every, logits)) for pull in PULLS]


def _put(plain: Float64s, usable: npt.NDArray[np.bool_], fitted: CrossFit) -> Float64s:
    out = plain.copy()
    out[usable] = fitted.predicted
    return out
