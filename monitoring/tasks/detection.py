"""Boxes in a picture: an answer is right when no more is missed or spurious than the package tolerates."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.contracts.answers import boxes as bx
from export.contracts.answers.reference import AnswerName
from export.contracts.answers.truth import box_truth
from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from export.contracts.scores import ScoreName
from export.contracts.task import BoxRules
from monitoring.batches import Batch
from monitoring.tasks.classification import MAX_CLASSES
from monitoring.tasks.other import Embedded
from monitoring.tasks.protocol import Answered, Float64s, Row, Said, Shown, Verdict, Watched
from monitoring.tasks.tensors import unknown


class Detection(Embedded):
    """See `monitoring.tasks.protocol`. The formulas are `export.contracts.answers.boxes`.

    An answer's detail is a list of boxes, the surest first: `{"box": [left, top, right, bottom], "class": index,
    "score": as the model says, "right": calibrated P(right)}`.
    """

    def __init__(self, manifest: Manifest, profile: ReferenceProfile | None) -> None:
        super().__init__(manifest, profile)
        self._signature = manifest.signature
        self._rules = manifest.task.boxes or BoxRules()
        self._names = manifest.task.class_names
        self._calibration = None if profile is None else profile.answers
        counts = None if self._calibration is None else self._calibration.label_counts
        classes = len(self._names) or (0 if counts is None else len(counts))
        self.classes = classes if classes <= MAX_CLASSES else 0

    def watched(self) -> tuple[Watched, ...]:
        """How many boxes, how large and how sure; least sure decision, expected mistakes, distance, P(wrong)."""
        return (
            Watched(name=ScoreName.MSP.value, ceiling=1.0),
            Watched(name=AnswerName.DOUBT.value),
            Watched(name=AnswerName.BOX_CONFIDENCE.value, ceiling=1.0),
            Watched(name=AnswerName.BOXES.value, about_answer=True),
            Watched(name=AnswerName.BOX_SIZE.value, about_answer=True),
            Watched(name=AnswerName.DISTANCE.value),
            Watched(name=ScoreName.P_WRONG.value, ceiling=1.0),
        )

    def answer(self, batch: Batch) -> Answered:
        """The boxes that are answers, and P(wrong) of each image."""
        rows = len(batch.row_record)
        scores, features = self.read(batch)
        nothing = np.full(rows, -1, dtype=np.int64)
        found = bx.read_boxes(self._signature, self._rules, batch.outputs)
        if found is None:
            return Answered(
                scores=scores, features=features, predicted=nothing, p_wrong=unknown(rows), confidence=unknown(rows)
            )
        if found.rows != rows:
            raise ValueError(f"boxes of {found.rows} images for {rows} rows")
        c = self._calibration
        right = found.score if c is None else bx.calibrated(found.score, c.temperature, c.shift)
        scores |= bx.box_scores(found, right, self._rules)
        if c is not None and c.failure_model is not None:
            scores[ScoreName.P_WRONG.value] = c.failure_model.predict(scores)
        answers = found.score >= self._rules.min_score
        return Answered(
            scores=scores,
            features=features,
            predicted=nothing,
            p_wrong=scores[ScoreName.P_WRONG.value].astype(np.float32),
            confidence=scores[ScoreName.MSP.value].astype(np.float32),
            details=_details(found, right, answers),
            classes_of=(found.row[answers], found.label[answers]),
        )

    def truth(self, said: Said, record: Row) -> list[Any] | None:
        """A list of boxes a row."""
        return said.truth

    def judge(self, truth: list[Any], record: Row, error_factor: float) -> Verdict:
        """Images with no more missed and spurious boxes than tolerated."""
        answers, rules = record["answer"], self._rules
        if not answers or len(answers) != len(truth):
            return Verdict()
        correct = matched = missed = spurious = 0
        classes: list[int] = []
        for answer, entry in zip(answers, truth, strict=True):
            try:
                corners, label = box_truth(entry, rules, self._names)
            except ValueError:
                return Verdict()
            if answer is None:
                return Verdict()
            given, given_label = _arrays(answer)
            hits = int((bx.match(given, given_label, corners, label, rules.iou) >= 0).sum())
            lost, extra = len(corners) - hits, len(given) - hits
            matched, missed, spurious = matched + hits, missed + lost, spurious + extra
            correct += lost <= rules.missed and extra <= rules.spurious
            classes += [c for c in label.tolist() if c < self.classes]
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
        """The boxes."""
        if answered.details is None or answered.details[row] is None:
            return Shown()
        boxes = answered.details[row]
        return Shown(predicted_label=box_summary([b["class"] for b in boxes], self._names), answer=boxes)


def box_summary(classes: list[int], names: tuple[str, ...]) -> str:
    """How many boxes of which class.

    Example:
        >>> box_summary([1, 0, 1], ("ant", "bee")), box_summary([], ())
        ('ant (1), bee (2)', 'no boxes')
    """
    if not classes:
        return "no boxes"
    named = [(c, names[c] if c < len(names) else f"class {c}") for c in sorted(set(classes))]
    return ", ".join(f"{name} ({classes.count(c)})" for c, name in named)


def _details(found: bx.Boxes, right: Float64s, answers: Any) -> list[Any]:
    out: list[Any] = [None if broken else [] for broken in found.broken.tolist()]
    columns = (found.row, found.corners.round(4), found.label, found.score.round(6), right.round(6))
    for row, box, label, score, p in zip(*(c[answers].tolist() for c in columns), strict=True):
        if out[row] is not None:
            out[row].append({"box": box, "class": label, "score": score, "right": p})
    return out


def _arrays(answer: list[Any]) -> tuple[Float64s, bx.Ints]:
    corners = np.array([b["box"] for b in answer], dtype=np.float64).reshape(-1, 4)
    return corners, np.array([b["class"] for b in answer], dtype=np.int64)
