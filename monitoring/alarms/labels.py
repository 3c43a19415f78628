"""What the audit was drawn from, and the labels that it brought: from records and feedback to rows, without a database.

A label counts when the record was drawn for audit, and once: the first comparable label holds, by the time at which it
came in. It is *ready* when it is there and the record's window is over, so that the population it was drawn from is
known. Labels count in the order of (ready, label, uid), which is fixed by what the log holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from monitoring.alarms.bets import BINS, proxy_bins

WEIGHT_ONE = 1 << 10  # a record that capture kept for certain, in the fixed-point sums of 1/probability
_MOST_WEIGHT = 1e6


class Use(StrEnum):
    """What became of an audited label."""

    WAITING = "waiting"  # not counted yet
    COUNTED = "counted"  # has a position in the evidence
    OTHER_VERSION = "other_version"  # of a version that was no longer, or not yet, the one that is watched
    OTHER_VARIANT = "other_variant"  # answered by a canary, or by a version that the client named


@dataclass(kw_only=True, slots=True)
class Population:
    """What the audit of one window of one version and variant was drawn from. Sums, so the order leaves no trace."""

    records: int = 0
    probability: float = 1.0
    weights: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))

    def add(self, p_wrong: npt.NDArray[np.float64], probability: npt.NDArray[np.float64]) -> None:
        """Add records: P(wrong) of each one's worst row, NaN where not known, and capture's probability; both (N,)."""
        if not len(p_wrong):
            return
        self.records += len(p_wrong)
        self.probability = min(self.probability, float(probability.min()))
        share = np.minimum(1.0 / np.maximum(probability, 1.0 / _MOST_WEIGHT), _MOST_WEIGHT)
        np.add.at(self.weights, proxy_bins(p_wrong), np.rint(share * WEIGHT_ONE).astype(np.int64))
