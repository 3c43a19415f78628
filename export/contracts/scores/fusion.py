"""P(wrong): a logistic model over the scores.

Every score is turned so that high means suspicious, standardised on the rows that the model was fitted on, and bounded
softly, so that an input unlike anything seen is very suspicious and not infinitely so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from export.contracts.scores.arrays import Float64s, Floats
from export.contracts.scores.names import ScoreName

SURE = 1e-9  # a confidence closer to 0 or 1 counts as this close
BOUND = 4.0  # standard deviations beyond which evidence grows with the logarithm only


class FusionForm(StrEnum):
    """How scores enter the model."""

    RAW = "raw"  # as they are: models made before forms had names
    EVIDENCE = "evidence"  # as `evidence` turns them, standardised, softly bounded


def evidence(name: str, values: Floats) -> Float64s:
    """A score with high = suspicious; of MSP the log odds of being wrong, which is linear where MSP is calibrated.

    Example:
        >>> evidence("msp", np.array([0.5])).tolist(), evidence("margin", np.array([0.2])).tolist()
        ([0.0], [-0.2])
    """
    v = np.asarray(values, dtype=np.float64)
    if name == ScoreName.MSP.value:
        with np.errstate(invalid="ignore"):
            v = np.clip(v, SURE, 1.0 - SURE)
            return np.asarray(np.log1p(-v) - np.log(v), dtype=np.float64)
    return v if ScoreName(name).high_is_suspicious else -v


def bounded(standard: Float64s) -> Float64s:
    """Identity up to `BOUND`, then logarithmic: keeps the order, and tames what lies far outside.

    Example:
        >>> bounded(np.array([-1.0, 4.0])).tolist(), bounded(np.array([1e9])).round(0).tolist()
        ([-1.0, 4.0], [25.0])
    """
    with np.errstate(invalid="ignore"):
        over = np.maximum(np.abs(standard) - BOUND, 0.0)
        inside = np.clip(standard, -BOUND, BOUND)
        return np.asarray(inside + np.sign(standard) * np.log1p(over), dtype=np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureModel:
    """Logistic P(wrong) over standardised scores: sigmoid(intercept + Σ wᵢ b((sᵢ - meanᵢ) / scaleᵢ)).

    `s` is the score itself and b the identity in the raw form; `evidence` of the score and `bounded` in the other.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    form: FusionForm = FusionForm.RAW

    def log_odds(self, scores: Mapping[str, Floats]) -> Float64s:
        """Log odds of being wrong of each row, (rows,).

        Raises:
            KeyError: a score that the model was fitted on is not in `scores`.
        """
        first = np.asarray(scores[self.features[0]])
        total = np.full(first.shape, self.intercept, dtype=np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            for name, mean, scale, weight in zip(self.features, self.mean, self.scale, self.weights, strict=True):
                if self.form is FusionForm.RAW:
                    total += weight * ((np.asarray(scores[name], dtype=np.float64) - mean) / scale)
                elif weight:
                    total += weight * bounded((evidence(name, scores[name]) - mean) / scale)
        return total

    def predict(self, scores: Mapping[str, Floats]) -> Float64s:
        """P(wrong) of each row, (rows,).

        Raises:
            KeyError: a score that the model was fitted on is not in `scores`.
        """
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-self.log_odds(scores))), dtype=np.float64)
