"""What a reference profile knows of the answers of a multi-label, regression or detection model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy.typing as npt

from export.contracts.scores import FailureModel
from export.contracts.task import TaskKind

Array: TypeAlias = npt.NDArray[Any]


class AnswerName(StrEnum):
    """Watched quantities of these tasks, beside `ScoreName.MSP` and `ScoreName.P_WRONG`."""

    DISTANCE = "distance"  # Mahalanobis distance of the embedding from the reference: high = unlike it
    LABELS = "labels"  # multi-label: labels given
    DOUBT = "doubt"  # multi-label, detection: expected number of wrong labels or boxes: high = unsure
    VALUE = "value"  # regression: the first value
    SPREAD = "spread"  # regression: expected size of the error, in tolerances: high = unsure
    BOXES = "boxes"  # detection: boxes given
    BOX_CONFIDENCE = "box_confidence"  # detection: mean score of the boxes given; not known without boxes
    BOX_SIZE = "box_size"  # detection: mean side of the boxes given (root of their area); not known without boxes

    @property
    def about_answer(self) -> bool:
        """Whether it is the answer itself rather than how sure the model is."""
        return self in (AnswerName.LABELS, AnswerName.VALUE, AnswerName.BOXES, AnswerName.BOX_SIZE)


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerReference:
    """Calibration of P(wrong) on the reference's labelled rows; parts that a task does not have are None or empty.

    Attributes:
        kind: Of the task.
        rows: Labelled rows behind it.
        accuracy: Share of rows that were answered right.
        temperature: Multi-label: divides the logits. Detection: of the box scores.
        shift: Detection: added to a box's logit after the temperature.
        failure_model: Multi-label, detection: P(wrong) over the watched scores; None with too few errors.
        tolerance_given: Regression: whether `unit` is the declared tolerance.
        unit: Regression: the declared tolerance of each value, or its mean absolute error, (values,).
        scale: Regression: expected largest |error| / unit = scale[0] + scale[1] · spread, (2,).
        ratios: Regression: quantiles on a 0.1 % grid of (largest |error| / unit) / that expectation, (1001,).
        label_counts: True labels or boxes by class, (classes,).
        predicted_counts: Predicted ones, (classes,).
    """

    kind: TaskKind
    rows: int
    accuracy: float | None = None
    temperature: float = 1.0
    shift: float = 0.0
    failure_model: FailureModel | None = None
    tolerance_given: bool = False
    unit: Array | None = None
    scale: Array | None = None
    ratios: Array | None = None
    label_counts: Array | None = None
    predicted_counts: Array | None = None
