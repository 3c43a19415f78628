"""The refit that was in force at a record's time, in the form that scoring takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.reference import ReferenceProfile
from export.contracts.scores import FailureModel, Float64s, ScoreName
from monitoring.score_fits.refit import FitState
from monitoring.score_fits.rows import StoredFit

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class InForce:
    """An adopted refit.

    Attributes:
        number: Of its row in `score_fits`, within the version.
        active_ns: Records from this time on are scored with it, up to the next one's.
    """

    number: int
    active_ns: int
    model: FailureModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Refitted:
    """P(wrong) of the rows of a batch under the refits in force.

    Attributes:
        p_wrong: (R,) float64, NaN where not known.
        least: Threshold above which a row is flagged, (R,); NaN where the exported model holds, and with it its
            threshold.
        number: Which refit gave it, (R,); 0 is the exported model.
    """

    p_wrong: Float64s
    least: Float64s
    number: Ints


class FitBook:
    """Adopted refits by version, oldest first."""

    def __init__(self, fits: Sequence[StoredFit] = ()) -> None:
        self._known: dict[tuple[str, str], tuple[InForce, ...]] = {}
        self.replace(fits)

    def replace(self, fits: Sequence[StoredFit]) -> None:
        """Take what the database says now."""
        known: dict[tuple[str, str], tuple[InForce, ...]] = {}
        for fit in fits:
            if fit.state is FitState.ADOPTED:
                one = InForce(number=fit.number, active_ns=fit.active_ns, model=fit.fit.model)
                known[fit.model, fit.version] = (*known.get((fit.model, fit.version), ()), one)
        self._known = known

    def of(self, model: str, version: str) -> tuple[InForce, ...]:
        """The version's adopted refits, oldest first."""
        return self._known.get((model, version), ())


def apply_fits(
    fits: Sequence[InForce],
    profile: ReferenceProfile,
    scores: Mapping[str, npt.NDArray[Any]],
    times_ns: Ints,
    flag_rate: float,
) -> Refitted | None:
    """P(wrong) of each row by the refit of its time; None where the exported model holds for all of them.

    Args:
        fits: Oldest first.
        profile: Its `classes.score_rows` give the threshold that flags a share of `flag_rate` of healthy traffic.
        scores: By name, (R,) each, with the exported model's P(wrong).
        times_ns: When each row's request came, (R,).
        flag_rate: See `CaseOptions`.
    """
    at = np.searchsorted(np.array([fit.active_ns for fit in fits], dtype=np.int64), times_ns, side="right") - 1
    if not len(at) or at.max() < 0:
        return None
    p_wrong = np.array(scores[ScoreName.P_WRONG.value], dtype=np.float64)
    least, number = np.full(len(at), np.nan), np.zeros(len(at), dtype=np.int64)
    for i in np.unique(at[at >= 0]).tolist():
        fit, rows = fits[i], np.flatnonzero(at == i)
        if not all(name in scores for name in fit.model.features):
            continue  # an output was not recorded: what the exported model makes of the rest stands
        p_wrong[rows] = fit.model.predict({name: scores[name][rows] for name in fit.model.features})
        least[rows] = threshold(fit.model, profile, flag_rate)
        number[rows] = fit.number
    return Refitted(p_wrong=p_wrong, least=least, number=number)


@lru_cache(maxsize=256)
def threshold(model: FailureModel, profile: ReferenceProfile, flag_rate: float) -> float:
    """P(wrong) that a share of `flag_rate` of the reference exceeds; infinite without rows to take it from."""
    classes = profile.classes
    if classes is None or classes.score_rows is None:
        return float("inf")
    columns = dict(zip(classes.score_names, np.asarray(classes.score_rows, dtype=np.float64).T, strict=True))
    if not set(model.features) <= set(columns):
        return float("inf")
    p_wrong = model.predict(columns)
    p_wrong = p_wrong[np.isfinite(p_wrong)]
    return float(np.quantile(p_wrong, 1.0 - flag_rate)) if len(p_wrong) else float("inf")
