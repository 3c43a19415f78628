"""Multi-label: which labels are given, how probable each is, and how probably the set is wrong.

P(wrong) of the set starts from independent labels, 1 - Π(1 - P(label wrong)), and is calibrated on the reference,
because labels are seldom independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.answers.outputs import one_by_role
from export.contracts.answers.reference import AnswerName
from export.contracts.scores import ScoreName
from export.contracts.signature import OutputRole, Signature
from export.contracts.task import Task

Array: TypeAlias = npt.NDArray[Any]
Float64s: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
TINY = 1e-12


def read_logits(signature: Signature, outputs: Mapping[str, Array]) -> Float64s | None:
    """Log-odds of each label, (rows, classes); None when they were not recorded."""
    logits = one_by_role(signature, outputs, OutputRole.LOGITS)
    if logits is not None:
        return logits.reshape(len(logits), int(np.prod(logits.shape[1:], dtype=np.int64)))
    p = one_by_role(signature, outputs, OutputRole.PROBABILITIES)
    if p is None:
        return None
    flat = p.reshape(len(p), int(np.prod(p.shape[1:], dtype=np.int64)))
    clipped = np.clip(flat, TINY, 1.0 - TINY)  # keeps NaN
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def sigmoid(logits: Float64s) -> Float64s:
    """1 / (1 + exp(-logit)), elementwise, without overflow."""
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -700.0, 700.0))), dtype=np.float64)


def given(task: Task, logits: Float64s) -> Bools:
    """Labels whose probability, as the model states it, reaches the threshold, (rows, classes)."""
    thresholds = np.array(task.thresholds or (0.5,), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(logits >= np.log(thresholds) - np.log1p(-thresholds))


def label_scores(logits: Float64s, chosen: Bools, temperature: float) -> dict[str, Float64s]:
    """Watched quantities of each row, (rows,): least sure label, expected number of wrong labels, labels given.

    `P_WRONG` is that of independent labels, before calibration. A row with a value that is not finite is NaN.
    """
    p = sigmoid(logits / temperature)
    right = np.where(chosen, p, 1.0 - p)  # P(label right)
    finite: Bools = np.asarray(np.isfinite(logits).all(axis=1))
    right = np.where(finite[:, None], right, np.nan)
    return {
        ScoreName.MSP.value: right.min(axis=1),
        AnswerName.DOUBT.value: (1.0 - right).sum(axis=1),
        AnswerName.LABELS.value: np.where(finite, chosen.sum(axis=1), np.nan).astype(np.float64),
        ScoreName.P_WRONG.value: 1.0 - np.exp(np.log(np.maximum(right, TINY)).sum(axis=1)),
    }


def label_matrix(labels: Sequence[Any] | Array, task: Task) -> Bools:
    """True labels as (rows, classes), from such a matrix of 0 and 1 or from a list of names or indices a row.

    Raises:
        ValueError: a label that is neither, or a matrix of another width.
    """
    count = len(task.class_names)
    if isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.dtype.kind in "biuf":
        if labels.shape[1] != count or not np.isin(labels, (0, 1)).all():
            raise ValueError(f"reference_labels: expected a matrix of 0 and 1 with {count} columns")
        return labels.astype(bool)
    out = np.zeros((len(labels), count), dtype=bool)
    index = {name: i for i, name in enumerate(task.class_names)}
    for row, names in enumerate(labels):
        if isinstance(names, str | int) or not hasattr(names, "__iter__"):
            raise ValueError("reference_labels: a multi-label task needs a list of labels a row")
        for name in names:
            at = index.get(str(name), name)
            if isinstance(at, bool) or not isinstance(at, int | np.integer) or not 0 <= at < count:
                raise ValueError(f"reference_labels: {name!r} is not one of the class names")
            out[row, at] = True
    return out
