"""Recorded image inputs as PNG: by the signature's layout and value range, enlarged without smoothing.

An input of encoded images holds files that somebody sent. They are decoded here, under the limits of the declaration,
and written anew: not a byte of theirs reaches a browser.
"""

from __future__ import annotations

import io
import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.arrays import decode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.signature import InputDisplay, InputKind, InputSpec

Array: TypeAlias = npt.NDArray[Any]

THUMBNAIL_SIDE = 64  # pixels of the longer side of what is kept in place of an input
MAX_SIDE = 2048  # pixels of a side after enlarging; larger pictures are thinned out


def is_picture(spec: InputSpec) -> bool:
    """Whether an input can be drawn: encoded images, or an image with a layout, of numbers."""
    return spec.preprocess is not None or (
        spec.display.kind is InputKind.IMAGE
        and spec.display.layout in ("CHW", "HWC", "HW")
        and spec.datatype is not Datatype.BYTES
    )


def tensor_png(data: bytes, datatype: Datatype, shape: tuple[int, ...], row: int, spec: InputSpec, side: int) -> bytes:
    """One row of a recorded tensor as PNG.

    Args:
        data: As recorded, row-major; BYTES each with its length.
        datatype: As recorded.
        shape: As recorded, rows first.
        row: Which row.
        spec: The input; must be a picture, see `is_picture`.
        side: Pixels of the longer side: smaller pictures are enlarged to it by a whole factor; encoded images that are
            larger are shrunk to it.

    Raises:
        ValueError: the tensor is not what the signature says, or cannot be drawn.
        IndexError: there is no such row.
    """
    if spec.preprocess is None:
        return to_png(to_array(data, datatype, shape)[row], spec.display, side)
    if datatype is not Datatype.BYTES:
        raise ValueError(f"encoded images are recorded as {datatype}")
    from export.contracts.imagepixels import preview

    files = decode_bytes(data, shape).reshape(-1)
    pixels = preview(files[row], min(side, MAX_SIDE), spec.preprocess.max_pixels)
    return to_png(pixels, InputDisplay(layout="HW" if pixels.ndim == 2 else "HWC"), side)


def thumbnail(row: Array, spec: InputSpec) -> bytes:
    """One row of an input as a PNG of at most `THUMBNAIL_SIDE` pixels a side: half of a smaller picture's side.

    Never all of it: a picture of 8 x 8 pixels becomes 4 x 4, so that the input cannot be had back from it.

    Raises:
        ValueError: it cannot be drawn.
    """
    from PIL import Image

    if spec.preprocess is None:
        pixels = to_pixels(row, spec.display)
    else:
        from export.contracts.imagepixels import preview

        pixels = preview(bytes(row.reshape(-1)[0]), THUMBNAIL_SIDE * 2, spec.preprocess.max_pixels)
    height, width = pixels.shape[:2]
    scale = min(0.5, THUMBNAIL_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BOX).save(buffer, format="PNG")
    return buffer.getvalue()


def to_array(data: bytes, datatype: Datatype, shape: tuple[int, ...]) -> Array:
    """A recorded tensor as numbers. BF16 becomes float32.

    Raises:
        ValueError: the bytes do not fit the shape, or the datatype is BYTES.
    """
    if datatype is Datatype.BYTES:
        raise ValueError("BYTES elements are not numbers")
    flat = np.frombuffer(data, dtype=datatype.numpy)
    if flat.size != math.prod(shape):
        raise ValueError(f"{flat.size} elements recorded for shape {list(shape)}")
    if datatype is Datatype.BF16:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)


def to_pixels(row: Array, display: InputDisplay) -> npt.NDArray[np.uint8]:
    """Grey (H, W) or colour (H, W, 3 or 4) pixels of one row.

    Args:
        row: One input without the batch axis, in the display's layout. Leading axes of length one are dropped. Values
            outside the value range saturate; NaN is drawn black. Without a value range, integers of 8 bits are drawn
            as they are and everything else is stretched from its smallest to its largest value.
        display: Layout and value range.

    Raises:
        ValueError: the row does not fit the layout, or has a number of channels that no picture has.
    """
    layout = display.layout or "HW"
    while row.ndim > len(layout) and row.shape[0] == 1:
        row = row[0]
    if row.ndim != len(layout) or row.size == 0:
        raise ValueError(f"shape {list(row.shape)} does not fit the layout {layout}")
    pixels = np.moveaxis(row, 0, -1) if layout == "CHW" else row
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[-1] not in (3, 4):
        pixels = pixels[..., 0]  # not a colour space: the first channel is what there is to see
    if pixels.dtype == np.uint8 and display.value_range in (None, (0.0, 255.0)):
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    values = pixels.astype(np.float64)
    finite = np.isfinite(values)
    low, high = display.value_range or _extent(values[finite])
    span = (high - low) or 1.0  # a range given the other way round (white first) inverts the picture
    with np.errstate(invalid="ignore", over="ignore"):
        unit = np.clip((values - low) / span, 0.0, 1.0)
    return np.rint(np.where(np.isnan(values), 0.0, unit) * 255.0).astype(np.uint8)


def to_png(row: Array, display: InputDisplay, min_side: int = 1) -> bytes:
    """One row as PNG, enlarged by a whole factor (nearest neighbour) until its longer side reaches `min_side`.

    Raises:
        ValueError: see `to_pixels`.
    """
    from PIL import Image

    pixels = to_pixels(row, display)
    height, width = pixels.shape[:2]
    thin = math.ceil(max(height, width) / MAX_SIDE)
    if thin > 1:
        pixels = pixels[::thin, ::thin]
        height, width = pixels.shape[:2]
    factor = max(1, min(math.ceil(min_side / max(height, width)), MAX_SIDE // max(height, width)))
    if factor > 1:
        pixels = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _extent(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
