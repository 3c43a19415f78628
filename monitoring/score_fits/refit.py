"""Whether a new P(wrong) takes the place of the present one: a pure function of labelled records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.scores import FailureModel, FusionForm, ScoreName
from export.contracts.scores.fitting import FOLDS, cross_fit, effective
from export.contracts.scores.ranking import augrc, auroc

Float64s: TypeAlias = npt.NDArray[np.float64]


class FitState(StrEnum):
    """What came of a refit."""

    ADOPTED = "adopted"  # it scores records from its time on
    KEPT = "kept"  # the present one stays: the new one ranks worse, or no better and is worse calibrated


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Labelled records of one version, (N,) each.

    Attributes:
        scores: By name; of the row that the record is judged by.
        wrong: Whether that row was answered wrong.
        weight: Records of the traffic that each stands for.
        fold: By the record's id, so that a record is in the same fold in every refit.
        audited: Labels of records drawn at random, or that came for a fair sample of the traffic.
        reviewed: Labels of records that the scores had picked.
        fresh: Labels given since the last refit.
        left_out: Labels that came by themselves, and so may say more of failures than of successes.
    """

    scores: Mapping[str, npt.NDArray[np.floating]]
    wrong: npt.NDArray[np.bool_]
    weight: Float64s
    fold: npt.NDArray[np.int64]
    audited: int
    reviewed: int
    fresh: int
    left_out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """How well one P(wrong) does on the labels, weighted: AUGRC and log loss want to be small, AUROC large."""

    augrc: float
    auroc: float
    log_loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What was compared. Every model is judged on records that it never saw.

    Attributes:
        effective: Labels that an unweighted sample of the same precision would have (Kish).
        error_rate: Of the traffic that the sample stands for.
        reason: The decision in words.
    """

    labels: int
    wrong: int
    audited: int
    reviewed: int
    left_out: int
    effective: float
    error_rate: float
    new: Judged
    present: Judged
    msp: Judged
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A P(wrong), and its brothers that each never saw one fold of the records."""

    model: FailureModel
    folds: tuple[FailureModel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A refit that was tried."""

    state: FitState
    fit: Fit
    evidence: Evidence


def refit(sample: Sample, present: Fit | None, exported: FailureModel | None) -> Decision:
    """Fit on the sample, compare out of fold with the present model and with MSP, and decide.

    Args:
        sample: With at least one wrong and one right record.
        present: The refit in force; None while the exported model is.
        exported: What the package came with; None: 1 - MSP.
    """
    start = present.model if present is not None else exported
    if start is not None and (start.form is not FusionForm.EVIDENCE or not _known(sample, start.features)):
        start = None
    every = tuple(n.value for n in ScoreName if n is not ScoreName.P_WRONG and _known(sample, (n.value,)))
    names = start.features if start is not None else every
    scores = {name: np.asarray(sample.scores[name], dtype=np.float64) for name in sample.scores}
    made = cross_fit(scores, names, sample.wrong, sample.fold, weight=sample.weight, start=start)
    plain = 1.0 - scores[ScoreName.MSP.value]
    new = _judge(made.predicted, sample)
    now = _judge(_present(scores, sample.fold, present, exported, plain), sample)
    msp = _judge(plain, sample)
    state, reason = decide(new, now, msp)
    weight = effective(sample.weight)
    return Decision(
        state=state,
        fit=Fit(model=made.model, folds=made.folds),
        evidence=Evidence(
            labels=len(sample.wrong),
            wrong=int(sample.wrong.sum()),
            audited=sample.audited,
            reviewed=sample.reviewed,
            left_out=sample.left_out,
            effective=round(float(weight.sum()), 1),
            error_rate=float((sample.weight * sample.wrong).sum() / sample.weight.sum()),
            new=new,
            present=now,
            msp=msp,
            reason=reason,
        ),
    )


def decide(new: Judged, present: Judged, msp: Judged) -> tuple[FitState, str]:
    """Adopt what ranks no worse than both others, and is better than the present one at ranking or at its level."""
    tie = 1e-9
    if new.augrc > msp.augrc + tie:
        return FitState.KEPT, "the new model ranks worse than MSP"
    if new.augrc > present.augrc + tie:
        return FitState.KEPT, "the new model ranks worse than the present one"
    if new.augrc < present.augrc - tie:
        return FitState.ADOPTED, "the new model ranks better than the present one, and no worse than MSP"
    if new.log_loss < present.log_loss - tie:
        return FitState.ADOPTED, "the new model ranks as the present one does, and its probabilities fit better"
    return FitState.KEPT, "the new model is no better than the present one"


def _known(sample: Sample, names: tuple[str, ...]) -> bool:
    return all(name in sample.scores and bool(np.isfinite(sample.scores[name]).all()) for name in names)


def _present(
    scores: Mapping[str, Float64s],
    fold: npt.NDArray[np.int64],
    present: Fit | None,
    exported: FailureModel | None,
    plain: Float64s,
) -> Float64s:
    """P(wrong) as the present model sees each record, had it not learnt from that record."""
    if present is None:
        return plain if exported is None or not set(exported.features) <= set(scores) else exported.predict(scores)
    out = np.empty(len(fold))
    for k in range(FOLDS):
        rows = np.flatnonzero(fold == k)
        out[rows] = present.folds[k].predict({name: column[rows] for name, column in scores.items()})
    return out


def _judge(p_wrong: Float64s, sample: Sample) -> Judged:
    p = np.clip(p_wrong, 1e-6, 1.0 - 1e-6)
    loss = -np.where(sample.wrong, np.log(p), np.log1p(-p))
    return Judged(
        augrc=augrc(p_wrong, sample.wrong, sample.weight),
        auroc=auroc(p_wrong, sample.wrong, sample.weight),
        log_loss=float((sample.weight * loss).sum() / sample.weight.sum()),
    )
