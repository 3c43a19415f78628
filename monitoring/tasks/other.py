"""A task that the service does not know, or a version that it knows nothing about: inputs, rules and novelty only."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import OutputRole
from monitoring.batches import Batch
from monitoring.tasks.protocol import Answered, Row, Said, Shown, Verdict, Watched
from monitoring.tasks.tensors import flat_output, unknown


class Other:
    """See `monitoring.tasks.protocol`. Nothing is said about who was right."""

    classes = 0
    novelty: str | None = None

    def __init__(self, manifest: Manifest | None = None, profile: ReferenceProfile | None = None) -> None:
        self._profile = profile
        self._embedding = None if manifest is None else manifest.signature.output_with_role(OutputRole.EMBEDDING)

    def watched(self) -> tuple[Watched, ...]:
        """Nothing of the answer."""
        return ()

    def answer(self, batch: Batch) -> Answered:
        """Only the embedding is read."""
        rows = len(batch.row_record)
        embedding = flat_output(batch, self._embedding)
        reference = None if self._profile is None else self._profile.embedding
        return Answered(
            scores={},
            predicted=np.full(rows, -1, dtype=np.int64),
            p_wrong=unknown(rows),
            confidence=unknown(rows),
            features=None if embedding is None or reference is None else reference.features(embedding),
        )

    def truth(self, said: Said, record: Row) -> list[Any] | None:
        """A label is kept with the record, and not compared."""
        return None

    def judge(self, truth: list[Any], record: Row, error_factor: float) -> Verdict:
        """Unknown."""
        return Verdict()

    def show(self, answered: Answered, row: int) -> Shown:
        """Nothing beyond the tensors."""
        return Shown()
