"""How sure a version was of some rows, as its windows count it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from export.contracts.accuracy import count_sureness
from export.contracts.scores import ScoreName
from monitoring.baseline import Baseline
from monitoring.tasks.protocol import Answered


def sureness_of(
    baseline: Baseline, answered: Answered, rows: npt.NDArray[np.bool_] | slice
) -> dict[str, npt.NDArray[Any]]:
    """The part `sureness` of a `WindowStats` for some rows of a batch; empty where no accuracy is estimated."""
    if baseline.accuracy is None or answered.probabilities is None:
        return {}
    entropies = answered.scores.get(ScoreName.ENTROPY.value)
    known = None if entropies is None else entropies[rows]
    return {"sureness": count_sureness(baseline.accuracy, answered.probabilities[rows], known)}
