"""Tensors that are no pictures as heat maps: a PNG whose colours stand for values.

Values of one sign run from dark blue to yellow; values of both signs from blue over white to red, zero being white.
What is not finite is magenta. Nothing is smoothed: an element is a square.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.signature import InputDisplay
from monitoring.images import to_png

Array: TypeAlias = npt.NDArray[Any]

MAX_SIDE = 1024  # elements of a side that are drawn; larger tensors are thinned out
STRIP = 64  # elements of a vector in one line
GAP = 1  # elements between the planes of a tensor with three axes
# Points of matplotlib's viridis and of ColorBrewer's RdBu (both made to read alike for the colour-blind).
_RISING = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], dtype=np.float64)
_SIGNED = np.array([[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]], dtype=np.float64)
_NOT_FINITE = np.array([255, 0, 255], dtype=np.uint8)
_GROUND = np.array([128, 128, 128], dtype=np.uint8)


def heat_png(values: Array, side: int) -> bytes:
    """A tensor as PNG.

    Args:
        values: One row of a tensor, any shape.
        side: Pixels of the longer side, at least: elements are enlarged by a whole factor.

    Raises:
        ValueError: there is nothing to draw.
    """
    plane, known = flat(np.asarray(values, dtype=np.float64))
    if plane.size == 0:
        raise ValueError("the tensor has no elements")
    thin = math.ceil(max(plane.shape) / MAX_SIDE)
    plane, known = plane[::thin, ::thin], known[::thin, ::thin]
    return to_png(_colours(plane, known), InputDisplay(layout="HWC"), side)


def flat(values: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """A tensor on a plane, (height, width), and which elements of the plane are its own.

    A vector is folded into lines of `STRIP`; a tensor with three axes has its planes side by side; more axes are
    merged into the first.

    Example:
        >>> flat(np.arange(3.0))[0].shape, flat(np.zeros((2, 4, 5)))[0].shape
        ((1, 3), (4, 11))
    """
    if values.ndim <= 1:
        line = values.reshape(-1)
        width = min(max(line.size, 1), STRIP)
        height = math.ceil(line.size / width)
        plane, known = np.zeros(height * width), np.zeros(height * width, dtype=bool)
        plane[: line.size], known[: line.size] = line, True
        return plane.reshape(height, width), known.reshape(height, width)
    if values.ndim == 2:
        return values, np.ones(values.shape, dtype=bool)
    planes = values.reshape(-1, *values.shape[-2:])
    if planes.shape[0] > 16:  # a channel axis at the end, or a stack that nobody would look through side by side
        return planes.reshape(-1, planes.shape[-1]), np.ones((planes.shape[0] * planes.shape[1], planes.shape[2]), bool)
    count, height, width = planes.shape
    plane = np.zeros((height, count * (width + GAP) - GAP))
    known = np.zeros(plane.shape, dtype=bool)
    for i, one in enumerate(planes):
        left = i * (width + GAP)
        plane[:, left : left + width], known[:, left : left + width] = one, True
    return plane, known


def _colours(plane: Array, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    finite = np.isfinite(plane)
    shown = plane[finite & known]
    low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 1.0)
    if low < 0.0 < high:
        table, high = _SIGNED, max(-low, high)
        low = -high
    else:
        table = _RISING
    span = (high - low) or 1.0
    unit = np.clip((np.where(finite, plane, low) - low) / span, 0.0, 1.0) * (len(table) - 1)
    floor = np.minimum(unit.astype(np.int64), len(table) - 2)
    part = (unit - floor)[..., None]
    pixels: npt.NDArray[np.uint8] = np.rint(table[floor] * (1.0 - part) + table[floor + 1] * part).astype(np.uint8)
    pixels[~finite] = _NOT_FINITE
    pixels[~known] = _GROUND
    return pixels
