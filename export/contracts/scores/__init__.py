"""Scores that say how sure a model is, one number a row, as pure vectorised functions; one small module each.

The reference compiler and the monitor call the same code, so a score means the same at export and in production.
Inputs are `(rows, classes)` or `(rows, features)`; a row with a value that is not finite scores NaN, and only that row.
"""

from __future__ import annotations

from export.contracts.scores.arrays import TINY, Float64s, Floats, flat_rows, normalise
from export.contracts.scores.energy import energy
from export.contracts.scores.entropy import entropy
from export.contracts.scores.fourier import random_fourier_features
from export.contracts.scores.fusion import FailureModel, FusionForm
from export.contracts.scores.gen import gen
from export.contracts.scores.knn import knn, likeness
from export.contracts.scores.margin import margin
from export.contracts.scores.msp import msp
from export.contracts.scores.names import ScoreName
from export.contracts.scores.pnorm import PNORM_CHOICES, pnorm
from export.contracts.scores.rmds import relative_distance, rmds
from export.contracts.scores.softmax import softmax, temper
from export.contracts.scores.trust import trust

__all__ = [
    "PNORM_CHOICES",
    "TINY",
    "FailureModel",
    "Float64s",
    "Floats",
    "FusionForm",
    "ScoreName",
    "energy",
    "entropy",
    "flat_rows",
    "gen",
    "knn",
    "likeness",
    "margin",
    "msp",
    "normalise",
    "pnorm",
    "random_fourier_features",
    "relative_distance",
    "rmds",
    "softmax",
    "softmax_scores",
    "temper",
    "trust",
]


def softmax_scores(p: Floats) -> dict[str, Float64s]:
    """MSP, margin, entropy and GEN of calibrated probabilities (rows, classes), by `ScoreName`."""
    return {
        ScoreName.MSP.value: msp(p),
        ScoreName.MARGIN.value: margin(p),
        ScoreName.ENTROPY.value: entropy(p),
        ScoreName.GEN.value: gen(p),
    }
