"""What a model predicts, and what counts as right: the part of the manifest that says how answers are judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from export.contracts.codec import ONLY_WHEN_SET


class TaskKind(StrEnum):
    """What the model predicts; decides which scores and quality figures exist."""

    CLASSIFICATION = "classification"  # one class of several
    MULTI_LABEL = "multi_label"  # any number of labels: one logit or probability each
    REGRESSION = "regression"  # one or several numbers
    DETECTION = "detection"  # boxes with scores and classes
    OTHER = "other"  # anything else: inputs, rules and novelty are watched all the same


class BoxFormat(StrEnum):
    """What the four numbers of a box are."""

    XYXY = "xyxy"  # left, top, right, bottom
    XYWH = "xywh"  # left, top, width, height
    CXCYWH = "cxcywh"  # centre, width, height


class BoxUnits(StrEnum):
    """What the numbers are measured in."""

    PIXELS = "pixels"  # of the input
    RELATIVE = "relative"  # 0 to 1 of the input's width and height


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxRules:
    """How boxes are read, and when an image counts as answered right.

    Attributes:
        format: Of the BOXES output, and of boxes in feedback and reference labels.
        units: Likewise.
        min_score: A box counts as an answer from this score on; the ones below are candidates that were not given.
        iou: A predicted box is right when a true box of its class overlaps it at least so much (intersection over
            union).
        missed: True boxes of an image that may stay without a prediction.
        spurious: Predicted boxes of an image that may be wrong.

    Raises:
        ValueError: a number out of its range.
    """

    format: BoxFormat = BoxFormat.XYXY
    units: BoxUnits = BoxUnits.PIXELS
    min_score: float = 0.5
    iou: float = 0.5
    missed: int = 0
    spurious: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 < self.min_score <= 1.0 or not 0.0 < self.iou <= 1.0:
            raise ValueError("boxes.min_score and boxes.iou must lie above 0 and at most at 1")
        if self.missed < 0 or self.spurious < 0:
            raise ValueError("boxes.missed and boxes.spurious must not be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is predicted.

    Attributes:
        class_names: Follow the class axis of logits and probabilities, and the class indices of boxes.
        thresholds: Multi-label: the probability from which on a label is given, one for all or one a class; 0.5 where
            none is declared.
        tolerance: Regression: the largest absolute error that counts as right, one for all values or one each. Where
            none is declared the monitor takes a multiple of the mean absolute error on the reference.
        quantiles: Regression: levels of a VALUE_QUANTILES output, ascending.
        boxes: Detection: how boxes are read and judged; the defaults where none is declared.

    Raises:
        ValueError: options that contradict each other or the kind.
    """

    kind: TaskKind
    class_names: tuple[str, ...] = ()
    thresholds: tuple[float, ...] | None = field(default=None, metadata=ONLY_WHEN_SET)
    tolerance: tuple[float, ...] | None = field(default=None, metadata=ONLY_WHEN_SET)
    quantiles: tuple[float, ...] | None = field(default=None, metadata=ONLY_WHEN_SET)
    boxes: BoxRules | None = field(default=None, metadata=ONLY_WHEN_SET)

    def __post_init__(self) -> None:
        """Check that the options belong to the kind."""
        for name, kind in (
            ("thresholds", TaskKind.MULTI_LABEL),
            ("tolerance", TaskKind.REGRESSION),
            ("quantiles", TaskKind.REGRESSION),
            ("boxes", TaskKind.DETECTION),
        ):
            if getattr(self, name) is not None and self.kind is not kind:
                raise ValueError(f"task.{name} is for {kind}, the task is {self.kind}")
        if self.thresholds is not None:
            if any(not 0.0 < x < 1.0 for x in self.thresholds):
                raise ValueError("task.thresholds must lie between 0 and 1")
            if len(self.thresholds) not in (1, len(self.class_names) or len(self.thresholds)):
                raise ValueError(f"task.thresholds: {len(self.thresholds)} for {len(self.class_names)} classes")
        if self.tolerance is not None and (not self.tolerance or any(x <= 0 for x in self.tolerance)):
            raise ValueError("task.tolerance must be positive")
        if self.quantiles is not None:
            inside = all(0.0 < x < 1.0 for x in self.quantiles)
            if len(self.quantiles) < 2 or not inside or sorted(set(self.quantiles)) != list(self.quantiles):
                raise ValueError("task.quantiles must be at least two levels between 0 and 1, ascending")
