"""One or several numbers a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import OutputRole
from monitoring.batches import Batch
from monitoring.tasks.protocol import Answered, Row, Said, Shown, Verdict, Watched
from monitoring.tasks.tensors import flat_output, unknown


class Regression:
    """See `monitoring.tasks.protocol`."""

    classes = 0
    novelty: str | None = None

    def __init__(self, manifest: Manifest, profile: ReferenceProfile | None) -> None:
        self._profile = profile
        self._output = manifest.signature.output_with_role(OutputRole.VALUE)
        self._embedding = manifest.signature.output_with_role(OutputRole.EMBEDDING)

    def watched(self) -> tuple[Watched, ...]:
        """None yet."""
        return ()

    def answer(self, batch: Batch) -> Answered:
        """The first value of each row."""
        rows = len(batch.row_record)
        values = flat_output(batch, self._output)
        embedding = flat_output(batch, self._embedding)
        reference = None if self._profile is None else self._profile.embedding
        return Answered(
            scores={},
            predicted=np.full(rows, -1, dtype=np.int64),
            p_wrong=unknown(rows),
            confidence=unknown(rows),
            value=None if values is None else np.asarray(values[:, 0], dtype=np.float64),
            features=None if embedding is None or reference is None else reference.features(embedding),
        )

    def truth(self, said: Said, record: Row) -> list[Any] | None:
        """One number for a record with one row."""
        return None if said.label is None else [said.label]

    def judge(self, truth: list[Any], record: Row, error_factor: float) -> Verdict:
        """Whether the answer is too far from the label."""
        error = None if self._profile is None else self._profile.value_error
        label = truth[0]
        if error is None or record["value"] is None or isinstance(label, bool) or not isinstance(label, int | float):
            return Verdict()
        return Verdict(wrong=abs(float(label) - float(record["value"])) > error_factor * error)

    def show(self, answered: Answered, row: int) -> Shown:
        """Nothing yet."""
        return Shown()
