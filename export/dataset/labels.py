"""Labels of a snapshot: one spelling for each truth, and what trainers compute with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.contracts.answers.labels import label_matrix
from export.contracts.answers.truth import box_truth, value_truth
from export.contracts.task import BoxRules, Task, TaskKind


def normalise(label: Any, task: Task) -> Any:
    """The label as snapshots hold it, whichever way somebody spelled it.

    Of a classification the class name, or the index where the classes have no names; of several labels their names in
    the order of the classes; of a regression a number, or a list of several; of a detection boxes with class names.

    Raises:
        ValueError: it is no label of the task; the text says what is needed.

    Example:
        >>> bees = Task(kind=TaskKind.CLASSIFICATION, class_names=("ant", "bee"))
        >>> normalise(1, bees), normalise("bee", bees), normalise(1.0, bees)
        ('bee', 'bee', 'bee')
    """
    if isinstance(label, np.generic):
        label = label.item()
    elif isinstance(label, np.ndarray):
        label = label.tolist()
    names = task.class_names
    if task.kind is TaskKind.CLASSIFICATION:
        index = class_index(label, names)
        return names[index] if names else index
    if task.kind is TaskKind.MULTI_LABEL:
        return _several(label, names)
    if task.kind is TaskKind.REGRESSION:
        values = [float(x) for x in value_truth(label, len(label) if isinstance(label, list | tuple) else 1)]
        return values[0] if len(values) == 1 else values
    if task.kind is TaskKind.DETECTION:
        _, classes = box_truth(label, task.boxes or BoxRules(), names)
        shown = [names[i] if names else int(i) for i in classes]
        return [{"box": [float(x) for x in b["box"]], "class": c} for b, c in zip(label, shown, strict=True)]
    if label is None:
        raise ValueError("a label is needed")
    return label


def class_index(label: Any, names: Sequence[str]) -> int:
    """The class that a label means: a name, or an index where no class has that name.

    Raises:
        ValueError: neither.
    """
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    text = str(label)
    if text in names and not isinstance(label, bool):
        return tuple(names).index(text)
    if text.isascii() and text.isdigit() and not isinstance(label, bool) and (not names or int(text) < len(names)):
        return int(text)
    raise ValueError(f"{text[:64]!r} is no class" + (f" of {', '.join(names[:10])}" if names else ""))


def to_arrays(labels: Sequence[Any], task: Task) -> Any:
    """What `Rows.labels` holds, from normalised labels."""
    if task.kind is TaskKind.CLASSIFICATION:
        index = {name: i for i, name in enumerate(task.class_names)}
        return np.array([index[x] if index else x for x in labels], dtype=np.int64)
    if task.kind is TaskKind.MULTI_LABEL and task.class_names:
        return label_matrix(list(labels), task)
    if task.kind is TaskKind.REGRESSION:
        return np.array(labels, dtype=np.float64)
    return list(labels)


def class_of(label: Any, task: Task) -> str | None:
    """The class that counts and balance go by; None where labels are no classes."""
    return str(label) if task.kind is TaskKind.CLASSIFICATION else None


def _several(label: Any, names: Sequence[str]) -> list[Any]:
    if isinstance(label, str | int | float) or label is None:
        raise ValueError("a list of labels is needed")
    given = list(label)
    if names and len(given) == len(names) and all(isinstance(x, bool | int | float) and x in (0, 1) for x in given):
        return [name for name, x in zip(names, given, strict=True) if x]
    found = sorted({class_index(x, names) for x in given})
    return [names[i] for i in found] if names else found
