"""One or several numbers a row: an answer is right when it misses the truth by no more than the tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.contracts.answers import values as vl
from export.contracts.answers.reference import AnswerName
from export.contracts.answers.truth import value_truth
from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from export.contracts.scores import ScoreName
from monitoring.batches import Batch
from monitoring.options import CaseOptions
from monitoring.tasks.other import Embedded
from monitoring.tasks.protocol import Answered, Float64s, Row, Said, Shown, Verdict, Watched
from monitoring.tasks.tensors import number, unknown


class Regression(Embedded):
    """See `monitoring.tasks.protocol`. The formulas are `export.contracts.answers.values`.

    An answer's detail is `{"value": [...], "low": [...], "high": [...]}`, the interval where there is one.
    """

    classes = 0

    def __init__(self, manifest: Manifest, profile: ReferenceProfile | None) -> None:
        super().__init__(manifest, profile)
        self._signature, self._task, self._profile = manifest.signature, manifest.task, profile
        answers = None if profile is None else profile.answers
        self._calibration = answers if answers is not None and answers.ratios is not None else None

    def watched(self) -> tuple[Watched, ...]:
        """The value, its expected error, the embedding's distance, P(wrong)."""
        return (
            Watched(name=AnswerName.VALUE.value, about_answer=True),
            Watched(name=AnswerName.SPREAD.value),
            Watched(name=AnswerName.DISTANCE.value),
            Watched(name=ScoreName.P_WRONG.value, ceiling=None if self._calibration is None else 1.0),
        )

    def answer(self, batch: Batch) -> Answered:
        """Values, their interval, and P(|error| > tolerance)."""
        rows = len(batch.row_record)
        scores, features = self.read(batch)
        read = vl.read_values(self._signature, self._task, batch.outputs)
        p_wrong = unknown(rows)
        value: Float64s | None = None
        width: Float64s | None = None
        if read is not None and read.value.shape[1]:
            value = np.ascontiguousarray(read.value[:, 0])
            scores[AnswerName.VALUE.value] = value
            width = self._uncertainty(read, scores)
            if ScoreName.P_WRONG.value in scores:
                p_wrong = scores[ScoreName.P_WRONG.value].astype(np.float32)
        return Answered(
            scores=scores,
            features=features,
            predicted=np.full(rows, -1, dtype=np.int64),
            p_wrong=p_wrong,
            confidence=1.0 - p_wrong,
            value=value,
            details=None if read is None else _details(read.value, width),
        )

    def truth(self, said: Said, record: Row) -> list[Any] | None:
        """A number, or a list of numbers, a row; a single label is that of a record with one row."""
        if said.truth is not None:
            return said.truth
        if said.label is not None:
            return [said.label] if record["rows"] == 1 else None
        return None

    def judge(self, truth: list[Any], record: Row, error_factor: float) -> Verdict:
        """Rows none of whose values misses the truth by more than the tolerance."""
        answers = record["answer"] or [None if record["value"] is None else {"value": [record["value"]]}]
        limits = self._limits(error_factor)
        if limits is None or len(answers) != len(truth):
            return Verdict()
        correct, error = 0, 0.0
        for answer, entry in zip(answers, truth, strict=True):
            if answer is None or None in answer["value"]:
                return Verdict()
            try:
                miss = np.abs(np.array(answer["value"]) - value_truth(entry, len(answer["value"]))) / limits
            except ValueError:
                return Verdict()
            error += float(miss.max())
            correct += bool(miss.max() <= 1.0)
        return Verdict(rows=len(truth), correct=correct, wrong=correct < len(truth), error=error)

    def show(self, answered: Answered, row: int) -> Shown:
        """The values and their interval."""
        if answered.details is not None and answered.details[row] is not None:
            detail = answered.details[row]
            return Shown(predicted_label=", ".join(_text(x) for x in detail["value"]), answer=detail)
        return Shown()

    def _uncertainty(self, read: vl.Values, scores: dict[str, Float64s]) -> Float64s | None:
        """Add what the calibration says to `scores`; half the interval of each value, or None."""
        calibration = self._calibration
        if calibration is None or calibration.unit is None:
            return None
        if read.value.shape[1] != len(calibration.unit):
            raise ValueError(f"{read.value.shape[1]} values where the reference has {len(calibration.unit)}")
        scattered = vl.scatter(read, calibration.unit, scores.get(AnswerName.DISTANCE.value))
        scattered = np.where(np.isfinite(read.value).all(axis=1), scattered, np.nan)
        expected = vl.expected_error(calibration, scattered)
        # The factor is a setting; the default's is what P(wrong) speaks of, so that a record always scores the same.
        limit = 1.0 if calibration.tolerance_given else CaseOptions().value_error_factor
        scores[AnswerName.SPREAD.value] = expected
        scores[ScoreName.P_WRONG.value] = vl.p_wrong(calibration, expected, limit)
        return vl.half_width(calibration, expected)

    def _limits(self, error_factor: float) -> Float64s | float | None:
        """The tolerance of each value, (values,); None when there is none."""
        if self._task.tolerance is not None:
            return np.array(self._task.tolerance, dtype=np.float64)
        if self._calibration is not None and self._calibration.unit is not None:
            return np.asarray(error_factor * self._calibration.unit, dtype=np.float64)
        mean = None if self._profile is None else self._profile.value_error
        return None if not mean else error_factor * mean


def _details(value: Float64s, width: Float64s | None) -> list[Any]:
    out: list[Any] = []
    for i, row in enumerate(value):
        entry = {"value": [number(x) for x in row]}
        if width is not None and np.isfinite(width[i]).all() and np.isfinite(row).all():
            entry |= {"low": (row - width[i]).tolist(), "high": (row + width[i]).tolist()}
        out.append(entry)
    return out


def _text(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.5g}"
