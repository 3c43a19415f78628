"""Labels of tools to labels of models, and back: what a task takes, and in which units its boxes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from export.contracts.task import BoxFormat, BoxRules, BoxUnits, TaskKind
from monitoring.exchange.contracts import Box, ExchangeError, Truth, tidy


def fit(truth: Truth, task: TaskKind, classes: Sequence[str]) -> Truth:
    """A label as the task means it: one class, a list, a number, boxes.

    Raises:
        ExchangeError: it is no label of this task, or a class that the model does not have.

    Example:
        >>> fit(Truth(label="7.5"), TaskKind.REGRESSION, ()).label
        7.5
    """
    made = _shaped(truth, task)
    if task in (TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL, TaskKind.DETECTION) and classes:
        for name in made.names:
            if name not in classes and not (name.isascii() and name.isdigit() and int(name) < len(classes)):
                raise ExchangeError(f"'{name[:60]}' is no class of the model")
    return made


def _shaped(truth: Truth, task: TaskKind) -> Truth:
    if task is TaskKind.DETECTION:
        if truth.boxes is None:
            raise ExchangeError("boxes are needed, not a class of the whole picture")
        return truth
    if truth.boxes is not None and task is not TaskKind.OTHER:
        raise ExchangeError(f"a {task.value} has no boxes")
    if task is TaskKind.CLASSIFICATION:
        if truth.label is None:
            raise ExchangeError(f"one class is needed, not {len(truth.labels or ())}")
        return truth
    if task is TaskKind.MULTI_LABEL:
        return Truth(labels=truth.names)
    if task is TaskKind.REGRESSION:
        given = truth.labels if truth.label is None else (truth.label,)
        numbers = tuple(_number(x) for x in given or ())
        return Truth(label=numbers[0]) if len(numbers) == 1 else Truth(labels=numbers)
    return truth


def to_label(truth: Truth, rules: BoxRules | None, size: tuple[int, int]) -> Any:
    """As a reviewer's label of a case's row: a class or number, a list of them, or of `{"box": …, "class": …}`.

    Args:
        truth: What `fit` gave.
        rules: How the model's boxes are written.
        size: Width and height of the picture in pixels.

    Raises:
        ExchangeError: boxes in shares of a picture whose size is not known.
    """
    if truth.boxes is None:
        return truth.label if truth.label is not None else list(truth.labels or ())
    return [_given(box, rules or BoxRules(), size) for box in truth.boxes]


def truth_from(label: Any, task: TaskKind, rules: BoxRules | None, size: tuple[int, int], row: int = 0) -> Truth | None:
    """A stored label as tools see it; None where they have no way to show it."""
    if isinstance(label, dict):
        rows = label.get("rows")
        if not isinstance(rows, list) or not rows:
            return None
        label = rows[row] if row < len(rows) else rows[0]
    if task is TaskKind.DETECTION:
        boxes = label if isinstance(label, list) else []
        return Truth(boxes=tuple(_shown(box, rules or BoxRules(), size) for box in boxes if isinstance(box, dict)))
    if isinstance(label, list):
        return Truth(labels=tuple(x for x in label if isinstance(x, str | int | float)))
    return Truth(label=label) if isinstance(label, str | int | float) and not isinstance(label, bool) else None


def named(truth: Truth | None, classes: Sequence[str]) -> Truth | None:
    """With the names of classes that were given by their index; numbers of a model without classes stay.

    Example:
        >>> named(Truth(label=1), ("ant", "bee")).label
        'bee'
    """
    if truth is None or not classes:
        return truth
    if truth.boxes is not None:
        return Truth(boxes=tuple(replace(box, label=str(_name(box.label, classes))) for box in truth.boxes))
    if truth.label is not None:
        return Truth(label=_name(truth.label, classes))
    return Truth(labels=tuple(_name(x, classes) for x in truth.labels or ()))


def answered(answer: Any, classes: Sequence[str], size: tuple[int, int], rules: BoxRules | None) -> tuple[Box, ...]:
    """Predicted boxes, which the monitor keeps as corners, in the units of the model."""
    wide, high = size if rules is not None and rules.units is BoxUnits.RELATIVE and all(size) else (1, 1)
    made = []
    for box in answer if isinstance(answer, list) else ():
        x0, y0, x1, y1 = box["box"]
        index = int(box["class"])
        name = classes[index] if 0 <= index < len(classes) else str(index)
        corners = (tidy(x0 * wide), tidy(y0 * high), tidy(x1 * wide), tidy(y1 * high))
        made.append(Box(x0=corners[0], y0=corners[1], x1=corners[2], y1=corners[3], label=name, score=box.get("score")))
    return tuple(made)


def _name(value: str | int | float, classes: Sequence[str]) -> str | int | float:
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    index = int(text) if text not in classes and text.isascii() and text.isdigit() else -1
    return classes[index] if 0 <= index < len(classes) else text


def _number(value: str | int | float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ExchangeError(f"'{str(value)[:40]}' is no number") from None
    if not abs(number) < float("inf"):
        raise ExchangeError("a number must be finite")
    return number


def _given(box: Box, rules: BoxRules, size: tuple[int, int]) -> dict[str, Any]:
    if rules.units is BoxUnits.RELATIVE:
        if not all(size):
            raise ExchangeError("the picture's size is not known, and the model's boxes are shares of it")
        wide, high = size
        box = replace(box, x0=box.x0 / wide, y0=box.y0 / high, x1=box.x1 / wide, y1=box.y1 / high)
    width, height = box.x1 - box.x0, box.y1 - box.y0
    if rules.format is BoxFormat.XYXY:
        numbers = (box.x0, box.y0, box.x1, box.y1)
    elif rules.format is BoxFormat.XYWH:
        numbers = (box.x0, box.y0, width, height)
    else:
        numbers = (box.x0 + width / 2, box.y0 + height / 2, width, height)
    made: dict[str, Any] = {"box": [round(x, 8) for x in numbers]}
    return made | ({"class": box.label} if box.label else {})


def _shown(entry: dict[str, Any], rules: BoxRules, size: tuple[int, int]) -> Box:
    a, b, c, d = (float(x) for x in entry["box"])
    if rules.format is BoxFormat.XYXY:
        x0, y0, x1, y1 = a, b, c, d
    elif rules.format is BoxFormat.XYWH:
        x0, y0, x1, y1 = a, b, a + c, b + d
    else:
        x0, y0, x1, y1 = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    wide, high = size if rules.units is BoxUnits.RELATIVE and all(size) else (1, 1)
    corners = (tidy(x0 * wide), tidy(y0 * high), tidy(x1 * wide), tidy(y1 * high))
    return Box(x0=corners[0], y0=corners[1], x1=corners[2], y1=corners[3], label=str(entry.get("class", "")))
