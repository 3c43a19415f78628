"""Any number of labels a row: an answer is right when its set of labels is."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.contracts.answers import labels as lb
from export.contracts.answers.reference import AnswerName
from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from export.contracts.scores import ScoreName
from monitoring.batches import Batch
from monitoring.tasks.classification import MAX_CLASSES, class_index
from monitoring.tasks.other import Embedded
from monitoring.tasks.protocol import Answered, Row, Said, Shown, Verdict, Watched
from monitoring.tasks.tensors import number, unknown


class MultiLabel(Embedded):
    """See `monitoring.tasks.protocol`. The formulas are `export.contracts.answers.labels`.

    An answer's detail is the list of label indices that were given.
    """

    def __init__(self, manifest: Manifest, profile: ReferenceProfile | None) -> None:
        super().__init__(manifest, profile)
        self._signature, self._task = manifest.signature, manifest.task
        self._names = manifest.task.class_names
        self._calibration = None if profile is None else profile.answers
        self.classes = len(self._names) if len(self._names) <= MAX_CLASSES else 0

    def watched(self) -> tuple[Watched, ...]:
        """Least sure label, expected wrong labels, labels given, P(wrong) of the set, distance of the embedding."""
        many = float(len(self._names))
        return (
            Watched(name=ScoreName.MSP.value, ceiling=1.0),
            Watched(name=AnswerName.DOUBT.value, ceiling=many),
            Watched(name=AnswerName.LABELS.value, ceiling=many, about_answer=True),
            Watched(name=AnswerName.DISTANCE.value),
            Watched(name=ScoreName.P_WRONG.value, ceiling=1.0),
        )

    def answer(self, batch: Batch) -> Answered:
        """Labels given, calibrated probability of each, P(wrong) of the set."""
        rows = len(batch.row_record)
        scores, features = self.read(batch)
        nothing = np.full(rows, -1, dtype=np.int64)
        logits = lb.read_logits(self._signature, batch.outputs)
        if logits is None:
            return Answered(
                scores=scores, features=features, predicted=nothing, p_wrong=unknown(rows), confidence=unknown(rows)
            )
        if logits.shape[1] != len(self._names):
            raise ValueError(f"{logits.shape[1]} label scores for {len(self._names)} labels")
        temperature = 1.0 if self._calibration is None else self._calibration.temperature
        chosen = lb.given(self._task, logits)
        chosen[~np.isfinite(logits).all(axis=1)] = False
        scores |= lb.label_scores(logits, chosen, temperature)
        model = None if self._calibration is None else self._calibration.failure_model
        if model is not None:
            scores[ScoreName.P_WRONG.value] = model.predict(scores)
        row, label = np.nonzero(chosen)
        return Answered(
            scores=scores,
            features=features,
            predicted=nothing,
            probabilities=lb.sigmoid(logits / temperature),
            p_wrong=scores[ScoreName.P_WRONG.value].astype(np.float32),
            confidence=scores[ScoreName.MSP.value].astype(np.float32),
            details=_lists(row, label, np.isfinite(logits).all(axis=1)),
            classes_of=(row.astype(np.int64), label.astype(np.int64)),
        )

    def truth(self, said: Said, record: Row) -> list[Any] | None:
        """A list of labels a row; `labels`, or a single label, is that of a record with one row."""
        if said.truth is not None:
            return said.truth
        one = said.labels if said.labels is not None else None if said.label is None else [said.label]
        return None if one is None or record["rows"] != 1 else [one]

    def judge(self, truth: list[Any], record: Row, error_factor: float) -> Verdict:
        """Rows whose set of labels is exactly the true one, and labels that were matched, missed and spurious."""
        answers = record["answer"]
        if not answers or len(answers) != len(truth):
            return Verdict()
        correct = matched = missed = spurious = 0
        classes: list[int] = []
        for answer, names in zip(answers, truth, strict=True):
            if answer is None or not isinstance(names, list):
                return Verdict()
            indices = [class_index(name, self._names, len(self._names)) for name in names]
            true = {i for i in indices if i is not None}
            if None in indices:
                return Verdict()
            given = set(answer)
            correct += given == true
            matched += len(given & true)
            missed += len(true - given)
            spurious += len(given - true)
            classes += sorted(true)
        rows = len(truth)
        return Verdict(
            rows=rows,
            correct=correct,
            classes=tuple(classes),
            wrong=correct < rows,
            matched=matched,
            missed=missed,
            spurious=spurious,
        )

    def show(self, answered: Answered, row: int) -> Shown:
        """The labels given, and the probability of each label."""
        if answered.details is None or answered.details[row] is None or answered.probabilities is None:
            return Shown()
        given = answered.details[row]
        few = answered.probabilities.shape[1] <= MAX_CLASSES
        return Shown(
            predicted_label=", ".join(self._names[i] for i in given) or "no label",
            probabilities=[number(round(float(x), 6)) for x in answered.probabilities[row]] if few else None,
            answer=given,
        )


def _lists(row: Any, label: Any, known: Any) -> list[Any]:
    """The labels of each row as a list; None for a row that is not known."""
    out: list[Any] = [[] if there else None for there in known.tolist()]
    for r, c in zip(row.tolist(), label.tolist(), strict=True):
        out[r].append(c)
    return out
