"""Which records of a batch are kept when the settings keep only a share of the ordinary ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from monitoring.records.encode import select
from monitoring.records.record import Outcome, RecordBatch


def sampled(batch: RecordBatch, share: float, random: np.random.Generator) -> tuple[Sequence[RecordBatch], int]:
    """Split a batch into what is kept for certain and what chance keeps.

    Args:
        batch: As it was offered. What did not succeed is kept whole.
        share: Of the records that are not marked `keep`, 0..1.
        random: Draws.

    Returns:
        What is kept, each part with its inclusion probability, and how many records were sampled out.
    """
    if share >= 1.0 or batch.outcome is not Outcome.OK:
        return (batch,), 0
    n = len(batch.ids)
    sure = np.zeros(n, bool) if batch.keep is None else np.asarray(batch.keep, bool)
    lucky = (random.random(n) < share) & ~sure
    parts = []
    if sure.any():
        parts.append(batch if sure.all() else select(batch, np.flatnonzero(sure).tolist()))
    if lucky.any():
        part = batch if lucky.all() else select(batch, np.flatnonzero(lucky).tolist())
        parts.append(replace(part, probability=batch.probability * share))
    return parts, n - int(sure.sum()) - int(lucky.sum())
