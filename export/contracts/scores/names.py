"""Names of the scores, as they stand in profiles, windows, cases and metrics."""

from __future__ import annotations

from enum import StrEnum


class ScoreName(StrEnum):
    """One number a row. The order is the order in which they are shown and counted."""

    MSP = "msp"  # largest probability: high = sure
    MARGIN = "margin"  # largest minus second largest probability: high = sure
    ENTROPY = "entropy"  # nats: high = unsure
    GEN = "gen"  # generalised entropy: high = unsure
    PNORM = "pnorm"  # largest logit over the logits' p-norm: high = sure
    ENERGY = "energy"  # minus the log-sum of exponentials of the logits: high = unlike the reference
    RMDS = "rmds"  # relative Mahalanobis distance of the embedding: high = unlike the reference
    KNN = "knn"  # distance to the nearest embedding of the reference: high = unlike the reference
    TRUST = "trust"  # nearest reference row of the answered class against the nearest of any other: high = unsure
    P_WRONG = "p_wrong"  # probability that the answer is wrong: what cases are ranked by

    @property
    def high_is_suspicious(self) -> bool:
        """Whether the upper tail is the suspicious one."""
        return self not in (ScoreName.MSP, ScoreName.MARGIN, ScoreName.PNORM)
