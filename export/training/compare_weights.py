"""By how much do the numbers in two ONNX files differ?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class WeightDifference:
    """What differs between the parameters of two models.

    Attributes:
        tensors: How many of those that both have.
        differ: How many of them are not equal.
        largest: Largest difference of two numbers at the same place.
        relative: The same, by the larger one's size: 1e-7 is the last bit of a 32-bit number.
        where: Name of the tensor with the largest difference; "" where none differs.
        apart: Names that only one has, or whose shapes differ.
    """

    tensors: int
    differ: int
    largest: float
    relative: float
    where: str
    apart: tuple[str, ...]

    def text(self) -> str:
        """For people, one line."""
        if self.apart:
            return f"not the same network: {', '.join(self.apart[:5])}"
        if not self.differ:
            return f"all {self.tensors} parameters are equal"
        return (
            f"{self.differ} of {self.tensors} parameters differ, by {self.largest:.3g} at most"
            f" ({self.relative:.1g} of its size, in {self.where})"
        )


def compare_weights(one: Path, other: Path) -> WeightDifference:
    """Compare two ONNX files by the names of their parameters. Names must be stable: those of one exporter are."""
    left, right = _numbers(one), _numbers(other)
    both = sorted({*left} & {*right})
    apart = sorted(({*left} ^ {*right}) | {name for name in both if left[name].shape != right[name].shape})
    differ, largest, relative, where = 0, 0.0, 0.0, ""
    for name in both:
        a, b = left[name], right[name]
        if a.shape != b.shape or np.array_equal(a, b, equal_nan=True):
            continue
        differ += 1
        away = np.abs(a - b)
        place = np.unravel_index(int(np.nanargmax(away)), away.shape) if np.isfinite(away).any() else ()
        amount = float(away[place]) if place else float("inf")
        if amount > largest or not where:
            size = max(abs(float(a[place])), abs(float(b[place]))) if place else 0.0
            largest, relative, where = amount, amount / size if size else float("inf"), name
    return WeightDifference(
        tensors=len(both), differ=differ, largest=largest, relative=relative, where=where, apart=tuple(apart)
    )


def _numbers(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """{name: values} of all parameters that are numbers."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    found: dict[str, npt.NDArray[np.float64]] = {}
    for tensor in model.graph.initializer:
        values: npt.NDArray[Any] = numpy_helper.to_array(tensor)
        if values.dtype.kind in "biuf" or values.dtype.name == "bfloat16":
            found[tensor.name] = np.atleast_1d(values.astype(np.float64))
    return found
