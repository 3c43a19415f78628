"""What depends on the kind of task, in five questions. Everything else in the monitor is the same for all tasks.

1. Which quantities are watched, besides the inputs (`watched`)?
2. What does a batch of answers say: what was predicted, how sure, how probably wrong (`answer`)?
3. What does somebody's feedback say the truth is, row by row (`truth`)?
4. Was the answer right (`judge`)?
5. What does a case show of the answer (`show`)?

`monitoring.tasks.kinds.task_of` picks the module of a version; `tests/monitoring/tasks` holds all of them to the same
conformance suite. A task is made once a version and is pure: the same batch always gives the same answer, whichever
batch a record came in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from monitoring.batches import Batch

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
Float64s: TypeAlias = npt.NDArray[np.float64]
Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A quantity of the answer that windows count.

    Attributes:
        ceiling: Without a reference it is counted between 0 and this; None: only with a reference.
        about_answer: It is the answer itself (a value, a number of boxes) rather than how sure the model is.
    """

    name: str
    ceiling: float | None = None
    about_answer: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """What a task reads out of a batch of R rows.

    Attributes:
        scores: Watched quantities by name, (R,) each; those that are not known are left out.
        predicted: Class index per row, (R,); -1 where there is none.
        probabilities: Calibrated class probabilities, (R, C), or None.
        value: First value of a regression's answer per row, (R,) float64, or None.
        p_wrong: (R,) float32, NaN where not known.
        confidence: How sure the answer is, in 0..1, (R,) float32, NaN where not known.
        features: Random Fourier features of the embedding, (R, D), or None.
        details: Answers that are more than a class or a number, one JSON-compatible value a row; None where class and
            value say it all.
        classes_of: Row and class index of every predicted class, two (M,) arrays, where a row may have several;
            None: `predicted` says it.
    """

    scores: Mapping[str, Float64s]
    predicted: Ints
    p_wrong: Floats
    confidence: Floats
    probabilities: Float64s | None = None
    value: Float64s | None = None
    features: Float64s | None = None
    details: list[Any] | None = None
    classes_of: tuple[Ints, Ints] | None = None

    def count_classes(self, rows: npt.NDArray[np.bool_] | slice, classes: int) -> Ints:
        """How often each class was predicted in `rows`, (classes,)."""
        if self.classes_of is None:
            predicted = self.predicted[rows]
            return np.bincount(predicted[predicted >= 0], minlength=classes)
        wanted = np.zeros(len(self.predicted), dtype=bool)
        wanted[rows] = True
        row, index = self.classes_of
        known = wanted[row] & (index >= 0) & (index < classes)
        return np.bincount(index[known], minlength=classes)


WRONG = {"wrong": True}
"""The label of a record whose answer is known to be wrong while nobody knows what is right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What feedback says the right answer is; exactly one is given, or none.

    Attributes:
        label: One class or number.
        labels: Several names; what they mean depends on the task.
        truth: One value a row, as structured as the task needs.
        wrong: Only that the answer is wrong.
    """

    label: Any = None
    labels: list[Any] | None = None
    truth: list[Any] | None = None
    wrong: bool = False

    @classmethod
    def of(cls, item: Row) -> Said:
        """From a row of `feedback`."""
        label = None if item["label"] is None else json.loads(item["label"])
        return cls.stored(label) if isinstance(label, dict) else cls(label=label, labels=item["labels"])

    @classmethod
    def stored(cls, label: Any) -> Said:
        """From the label of a record, decoded."""
        if isinstance(label, dict):
            return cls(wrong=True) if label == WRONG else cls(truth=label.get("rows"))
        return cls(labels=label) if isinstance(label, list) else cls(label=label)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How an answer compares with the truth. Zero rows: it cannot be told.

    Attributes:
        rows: Rows that were compared.
        correct: Rows that were answered right, or None when that cannot be told.
        classes: True classes, for the window's counts.
        wrong: Whether this makes the record a failure.
        matched: Predicted items (labels, boxes) that are true; 0 for tasks with one answer a row.
        missed: True items that were not predicted.
        spurious: Predicted items that are not true.
        error: Sum over rows of the absolute error of a regression, or None.
    """

    rows: int = 0
    correct: int | None = None
    classes: tuple[int, ...] = field(default=())
    wrong: bool = False
    matched: int = 0
    missed: int = 0
    spurious: int = 0
    error: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What a case keeps of the answer of its row; the columns of `cases` of the same names."""

    predicted: int | None = None
    predicted_label: str | None = None
    probabilities: list[float | None] | None = None
    answer: Any = None


class MonitoredTask(Protocol):
    """A kind of task as the monitor sees it, for one version."""

    @property
    def classes(self) -> int:
        """Classes that windows count one by one; 0 for none."""

    @property
    def novelty(self) -> str | None:
        """The watched quantity whose upper tail means "unlike the reference"; None: there is none."""

    def watched(self) -> tuple[Watched, ...]:
        """Watched quantities of the answer, in the order of the window's rows."""

    def answer(self, batch: Batch) -> Answered:
        """Read the answers of a batch.

        Raises:
            ValueError: the tensors do not fit the version's signature.
        """

    def truth(self, said: Said, record: Row) -> list[Any] | None:
        """The truth of each row of a record (a row of `records`); None when `said` holds none that fits."""

    def judge(self, truth: list[Any], record: Row, error_factor: float) -> Verdict:
        """Compare the record's answer with what `truth` made of feedback.

        Args:
            truth: One entry a row.
            record: A row of `records`.
            error_factor: A regression without a declared tolerance is wrong beyond so many mean absolute errors.
        """

    def show(self, answered: Answered, row: int) -> Shown:
        """What a case shows of a row's answer."""
