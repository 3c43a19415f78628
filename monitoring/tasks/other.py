"""A task that the service does not know, or a version that it knows nothing about: inputs, rules and novelty only."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.contracts.answers.novelty import distance_from
from export.contracts.answers.reference import AnswerName
from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import OutputRole
from monitoring.batches import Batch
from monitoring.tasks.protocol import Answered, Float64s, Row, Said, Shown, Verdict, Watched
from monitoring.tasks.tensors import flat_output, unknown


class Embedded:
    """What every task without class means says of an embedding: drift features, and the distance as novelty."""

    novelty: str | None = AnswerName.DISTANCE.value

    def __init__(self, manifest: Manifest | None, profile: ReferenceProfile | None) -> None:
        self._reference = None if profile is None else profile.embedding
        self._output = None if manifest is None else manifest.signature.output_with_role(OutputRole.EMBEDDING)

    def read(self, batch: Batch) -> tuple[dict[str, Float64s], Float64s | None]:
        """The distance by its name, and the random Fourier features (rows, D) or None."""
        embedding = flat_output(batch, self._output)
        far = distance_from(self._reference, embedding)
        if self._reference is None or embedding is None or far is None:
            return {}, None
        return {AnswerName.DISTANCE.value: far}, self._reference.features(embedding)


class Other(Embedded):
    """See `monitoring.tasks.protocol`. Nothing is said about who was right."""

    classes = 0

    def __init__(self, manifest: Manifest | None = None, profile: ReferenceProfile | None = None) -> None:
        super().__init__(manifest, profile)

    def watched(self) -> tuple[Watched, ...]:
        """How far the embedding lies from the reference."""
        return (Watched(name=AnswerName.DISTANCE.value),)

    def answer(self, batch: Batch) -> Answered:
        """Only the embedding is read."""
        rows = len(batch.row_record)
        scores, features = self.read(batch)
        return Answered(
            scores=scores,
            predicted=np.full(rows, -1, dtype=np.int64),
            p_wrong=unknown(rows),
            confidence=unknown(rows),
            features=features,
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
