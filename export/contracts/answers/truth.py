"""What people say the right answer is, read strictly: numbers and boxes of one row."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.answers.boxes import to_corners
from export.contracts.task import BoxRules

Float64s: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


def box_truth(entry: Any, rules: BoxRules, names: tuple[str, ...]) -> tuple[Float64s, Ints]:
    """True boxes of an image: corners (n, 4) and class index (n,), from `[{"box": [4 numbers], "class": name}, ...]`.

    An empty list says that there is nothing to find. Without a class a box is of class 0.

    Raises:
        ValueError: anything else.

    Example:
        >>> corners, label = box_truth([{"box": [0, 0, 2, 3], "class": "bee"}], BoxRules(), ("ant", "bee"))
        >>> corners.tolist(), label.tolist()
        ([[0.0, 0.0, 2.0, 3.0]], [1])
    """
    if not isinstance(entry, list | tuple):
        raise ValueError("a list of boxes is needed")
    corners, labels = [], []
    for box in entry:
        numbers = box.get("box") if isinstance(box, dict) else None
        if not isinstance(numbers, list | tuple | np.ndarray) or len(numbers) != 4:
            raise ValueError('a box is {"box": [4 numbers], "class": name}')
        corners.append([_number(x) for x in numbers])
        labels.append(_label(box.get("class", 0), names))
    made = to_corners(np.array(corners, dtype=np.float64).reshape(-1, 4), rules.format)
    return made, np.array(labels, dtype=np.int64)


def value_truth(entry: Any, count: int) -> Float64s:
    """True values of a row, (count,), from a number or a list of numbers.

    Raises:
        ValueError: anything else.
    """
    values = entry if isinstance(entry, list | tuple) else [entry]
    if len(values) != count:
        raise ValueError(f"{count} numbers are needed")
    return np.array([_number(x) for x in values], dtype=np.float64)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise ValueError("a finite number is needed")
    return float(value)


def _label(value: Any, names: tuple[str, ...]) -> int:
    if isinstance(value, str) and value in names:
        return names.index(value)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError("a class name or index is needed")
    if names and value >= len(names):
        raise ValueError("a class name or index is needed")
    return int(value)
