"""One class of several: class scores as logits or probabilities."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from export.contracts.scores import ScoreName, softmax, softmax_scores
from export.contracts.signature import OutputRole, OutputSpec
from monitoring.batches import Batch
from monitoring.tasks.protocol import Answered, Float64s, Row, Said, Shown, Verdict, Watched
from monitoring.tasks.tensors import first_value, flat_output, number, unknown

MAX_CLASSES = 1000  # classes counted one by one; a model with more has no class histogram
WITHOUT_REFERENCE = (ScoreName.MSP, ScoreName.MARGIN, ScoreName.ENTROPY, ScoreName.GEN, ScoreName.P_WRONG)
Array: TypeAlias = npt.NDArray[Any]


class Classification:
    """See `monitoring.tasks.protocol`. The formulas are `export.contracts.scores`."""

    def __init__(self, manifest: Manifest, profile: ReferenceProfile | None) -> None:
        signature = manifest.signature
        self._profile = profile
        self._output = signature.output_with_role(OutputRole.LOGITS, OutputRole.PROBABILITIES)
        self._embedding = signature.output_with_role(OutputRole.EMBEDDING)
        self._value = signature.output_with_role(OutputRole.VALUE)
        self._names = manifest.task.class_names
        self.classes = _class_count(self._names, self._output, profile)
        self.novelty: str | None = ScoreName.RMDS.value

    def watched(self) -> tuple[Watched, ...]:
        """The scores; without a reference those of the class probabilities, on fixed edges."""
        return tuple(Watched(name=name.value, ceiling=_ceiling(name, self.classes)) for name in ScoreName)

    def answer(self, batch: Batch) -> Answered:
        """Predicted class, calibrated probabilities, scores and P(wrong)."""
        rows = len(batch.row_record)
        logits = flat_output(batch, self._output)
        embedding = flat_output(batch, self._embedding)
        probabilities = None if logits is None else self._probabilities(logits)
        scores = self._scores(logits, probabilities, embedding)
        predicted = np.full(rows, -1, dtype=np.int64)
        if logits is not None:
            finite = np.isfinite(logits).all(axis=1)
            predicted[finite] = np.argmax(logits[finite], axis=1)
        reference = None if self._profile is None else self._profile.embedding
        return Answered(
            scores=scores,
            predicted=predicted,
            probabilities=probabilities,
            value=first_value(batch, self._value),
            features=None if embedding is None or reference is None else reference.features(embedding),
            p_wrong=scores.get(ScoreName.P_WRONG.value, unknown(rows)).astype(np.float32),
            confidence=scores.get(ScoreName.MSP.value, unknown(rows)).astype(np.float32),
        )

    def truth(self, said: Said, record: Row) -> list[Any] | None:
        """A class name or index a row; a single label is that of a record with one row."""
        given = said.truth if said.truth is not None else said.labels
        return given if given is not None else None if said.label is None else [said.label]

    def judge(self, truth: list[Any], record: Row, error_factor: float) -> Verdict:
        """Rows whose predicted class is the true one. A label is a class name, or an index where no class has it."""
        predicted = record["predicted_rows"] or [record["predicted"]]
        classes = [class_index(value, self._names, self.classes) for value in truth]
        known = tuple(c for c in classes if c is not None)
        if len(truth) != len(predicted) or len(known) != len(classes) or None in predicted:
            return Verdict()
        correct = sum(a == b for a, b in zip(known, predicted, strict=True))
        return Verdict(rows=len(known), correct=correct, classes=known, wrong=correct < len(known))

    def show(self, answered: Answered, row: int) -> Shown:
        """Predicted class and the class probabilities."""
        predicted = int(answered.predicted[row])
        p = answered.probabilities
        shown = p is not None and p.shape[1] <= MAX_CLASSES
        return Shown(
            predicted=predicted if predicted >= 0 else None,
            predicted_label=self._names[predicted] if 0 <= predicted < len(self._names) else None,
            probabilities=[number(round(float(x), 6)) for x in p[row]] if shown and p is not None else None,
        )

    def _probabilities(self, logits: Array) -> Float64s:
        profile, spec = self._profile, self._output
        if self.classes and logits.shape[1] != self.classes:
            raise ValueError(f"{logits.shape[1]} class scores for {self.classes} classes")
        if profile is not None and profile.classes is not None:
            return profile.classes.probabilities(logits)
        if spec is not None and spec.role is OutputRole.PROBABILITIES:
            return np.asarray(logits, dtype=np.float64)
        return softmax(logits)

    def _scores(
        self, logits: Array | None, probabilities: Float64s | None, embedding: Array | None
    ) -> dict[str, Float64s]:
        if logits is None or probabilities is None:
            return {}
        if self._profile is not None and self._profile.classes is not None:
            return self._profile.scores(logits, embedding, probabilities)
        scores = softmax_scores(probabilities)
        return scores | {ScoreName.P_WRONG.value: 1.0 - scores[ScoreName.MSP.value]}


def class_index(label: object, names: tuple[str, ...], classes: int) -> int | None:
    """The class that a label means: a name, or an index where no class has that name.

    Example:
        >>> class_index("bee", ("ant", "bee"), 2), class_index(1.0, ("ant", "bee"), 2), class_index("cat", ("ant",), 1)
        (1, 1, None)
    """
    if isinstance(label, bool) or label is None:
        return None
    text = str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
    if text in names:
        return names.index(text)
    if text.isascii() and text.isdigit() and int(text) < classes:
        return int(text)
    return None


def _ceiling(name: ScoreName, classes: int) -> float | None:
    """Largest value of a score of so many classes; None when it has no bound that is known beforehand."""
    if not classes or name not in WITHOUT_REFERENCE:
        return None
    if name is ScoreName.ENTROPY:
        return math.log(max(classes, 2))
    if name is ScoreName.GEN:
        share = 1.0 / max(classes, 2)
        return float(min(max(classes, 2), 100) * (share * (1.0 - share)) ** 0.1)
    return 1.0


def _class_count(names: tuple[str, ...], spec: OutputSpec | None, profile: ReferenceProfile | None) -> int:
    if profile is not None and profile.classes is not None:
        count = len(profile.classes.label_counts)
    elif spec is not None:
        count = len(names) or (spec.shape[-1] if spec.shape else 0)
    else:
        count = 0
    return count if 0 < count <= MAX_CLASSES else 0
