"""Encoded images for export: declare them (`image_input`), read them from files, decode rows of them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts import codec
from export.contracts.errors import PackageError
from export.contracts.imagefile import ImageRefused
from export.contracts.imagepixels import decode_image
from export.contracts.preprocess import Colour, ImageDecode

Array: TypeAlias = npt.NDArray[Any]
ONE_PIXEL = base64.b64decode(  # a grey PNG of one pixel, for trials without real input
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Values(StrEnum):
    """What a model's pixels range over."""

    RAW = "raw"  # 0 to 255
    UNIT = "unit"  # 0 to 1
    SIGNED = "signed"  # -1 to 1
    IMAGENET = "imagenet"  # 0 to 1, then ImageNet's mean and standard deviation per channel


def image_input(size: int | tuple[int, int], *, values: Values | str = Values.UNIT, **fields: Any) -> ImageDecode:
    """Declare an input of encoded images.

    Args:
        size: Side of a square, or height and width.
        values: What the model's pixels range over; sets `scale`, `mean` and `std` unless they are given.
        fields: Any field of `ImageDecode`; enums also by their values.

    Raises:
        PackageError: a field that is unknown or does not fit; the text names it.

    Example:
        >>> image_input(224, values="imagenet", resize="shorter_side", shorter_side=256).std
        (0.229, 0.224, 0.225)
    """
    colour = str(fields.get("colour", Colour.RGB))
    channels = 1 if colour == Colour.GREY else 3
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if colour == Colour.BGR:
        mean, std = mean[::-1], std[::-1]
    try:
        chosen = Values(values)
    except ValueError:
        raise PackageError(f"values: '{values}' is not one of {', '.join(Values)}") from None
    if chosen is Values.IMAGENET and channels == 1:
        raise PackageError("values: ImageNet's mean and deviation are for three channels, and colour is GREY")
    presets: dict[Values, dict[str, Any]] = {
        Values.RAW: {},
        Values.UNIT: {"scale": 1 / 255},
        Values.SIGNED: {"scale": 1 / 255, "mean": (0.5,) * channels, "std": (0.5,) * channels},
        Values.IMAGENET: {"scale": 1 / 255, "mean": mean, "std": std},
    }
    given: dict[str, Any] = {"size": (size, size) if isinstance(size, int) else size, **presets[chosen], **fields}
    try:
        return codec.from_plain(ImageDecode, codec.to_plain(given), "image_input")
    except ValueError as error:
        raise PackageError(str(error)) from None


def decoded_rows(rows: Array, decode: ImageDecode, name: str, first: int = 0) -> Array:
    """The model's tensor of an input's encoded images: (..., 1) of `bytes` becomes (..., *axes of the image).

    Args:
        rows: The files.
        decode: What to make of them.
        name: Of the input, for error texts.
        first: Number of the first row, for error texts.

    Raises:
        PackageError: an image is refused; the text names the input and the row.
    """
    out = np.empty((rows.size, *decode.tensor_shape), dtype=decode.datatype.numpy)
    for row, data in enumerate(rows.reshape(-1)):
        try:
            decode_image(data, decode, out[row])
        except ImageRefused as error:
            raise PackageError(f"input '{name}'[{first + row}]: {error}") from None
    return out.reshape(*rows.shape[:-1], *decode.tensor_shape)


def encoded_rows(given: Any) -> Array:
    """Files as an input's rows, (rows, 1) of `bytes`.

    Args:
        given: Paths and `bytes` in a sequence, or an array of `bytes` of shape (rows,) or (rows, 1).

    Raises:
        PackageError: something else, or a file that cannot be read.
    """
    items = list(given.reshape(-1)) if isinstance(given, np.ndarray) else list(given)
    out = np.empty((len(items), 1), dtype=object)
    for row, item in enumerate(items):
        if isinstance(item, str | Path):
            try:
                out[row, 0] = Path(item).read_bytes()
            except OSError as error:
                raise PackageError(f"image {row} cannot be read: {error.strerror}") from None
        elif isinstance(item, bytes | bytearray | memoryview):
            out[row, 0] = bytes(item)
        else:
            raise PackageError(f"image {row} is {type(item).__name__}: give the files' bytes, or their paths")
    return out


def with_encoded_rows(given: Any, names: Sequence[str], encoded: Iterable[str]) -> Any:
    """What was given as inputs, by name or in order, with `encoded_rows` for those that are encoded images."""
    wanted = set(encoded)
    if not wanted or given is None:
        return given
    if isinstance(given, Mapping):
        return {name: encoded_rows(value) if name in wanted else value for name, value in given.items()}
    if len(given) != len(names):
        raise PackageError(f"{len(given)} tensors are given for the inputs {', '.join(names)}")
    return [encoded_rows(v) if n in wanted else v for n, v in zip(names, given, strict=True)]


def in_order(given: Any, *, encoded: bool) -> Any:
    """What was given as inputs; a bare sequence of files, where there are encoded inputs, is the one input's rows."""
    bare = isinstance(given, np.ndarray) or (isinstance(given, list | tuple) and given and _is_file(given[0]))
    return [given] if encoded and bare else given


def _is_file(value: Any) -> bool:
    return not isinstance(value, list | tuple | np.ndarray) and not hasattr(value, "shape")
