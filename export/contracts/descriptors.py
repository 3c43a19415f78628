"""What is watched of an input: its features when they are few, and descriptors of its whole content.

The columns follow from the signature alone, so that the reference and every window of live traffic have the same ones.

- *features*: elements of a row, flattened in row-major order, column `<input>[<index>]`, or `<input>.<feature name>`
  for tabular inputs with names. Only for fixed shapes, and only while all inputs together have at most `MAX_FEATURES`.
- *descriptors*: column `<input>:<descriptor>`, see `Descriptor`. Tabular inputs whose features are watched have none:
  a mean over columns of different units says nothing.

Encoded images are watched as they look, upright and shrunk to at most `PREVIEW_SIDE` pixels a side, with values from 0
to 1; a file that cannot be decoded has NaN.

Values that are not finite count as 0 in the other descriptors, and are reported by `not_finite`; as features they stay
as they are (a sketch skips NaN).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.bf16 import widen
from export.contracts.datatypes import Datatype
from export.contracts.imagefile import ImageRefused, examine
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import InputKind, InputSpec, Signature

MAX_FEATURES = 256
PREVIEW_SIDE = 128
Array: TypeAlias = npt.NDArray[Any]
Float32s: TypeAlias = npt.NDArray[np.float32]


class Descriptor(StrEnum):
    """One number a row that describes the whole input."""

    MEAN = "mean"  # brightness of an image
    STD = "std"  # contrast of an image; population standard deviation
    MIN = "min"  # smallest element
    MAX = "max"  # largest element
    SATURATED = "saturated"  # share of elements at or outside the display's value range
    ZEROS = "zeros"  # share of elements that are exactly 0; where there is no value range
    NOT_FINITE = "not_finite"  # share of elements that are NaN or infinite; floating-point inputs only
    SHARPNESS = "sharpness"  # mean absolute 4-neighbour Laplacian over the inner pixels; images only
    ELEMENTS = "elements"  # elements of the row; inputs with a variable dimension only
    LENGTH = "length"  # bytes of the text, summed over the row's elements, or of the encoded image; BYTES only
    WORDS = "words"  # runs between white space; text only
    NOT_ASCII = "not_ascii"  # share of bytes >= 128; text only
    DIGITS = "digits"  # share of bytes that are decimal digits; text only
    PIXELS = "pixels"  # width times height of the file; encoded images only
    ASPECT = "aspect"  # width over height, upright; encoded images only


def columns(signature: Signature) -> tuple[str, ...]:
    """The watched columns of a signature's inputs, in order.

    Example:
        >>> from export.contracts.signature import OutputSpec
        >>> x = InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 2))
        >>> columns(Signature(inputs=(x,), outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1,)),)))[:3]
        ('x[0]', 'x[1]', 'x:mean')
    """
    names: list[str] = []
    for spec, with_features in _plan(signature):
        if with_features:
            names += _feature_names(spec)
        names += [f"{spec.name}:{d.value}" for d in descriptors_of(spec, with_features=with_features)]
    return tuple(names)


def frame(signature: Signature, inputs: Mapping[str, Array]) -> Float32s:
    """The watched values of a batch of rows, (rows, len(columns(signature))).

    Args:
        signature: Of the model.
        inputs: By name, (rows, ...) each; BF16 as uint16 and BYTES as object arrays of `bytes`. For an unbatched
            signature the array is one row.

    Raises:
        KeyError: an input is missing.
        ValueError: inputs of different row counts.
    """
    parts: list[Float32s] = []
    for spec, with_features in _plan(signature):
        array = inputs[spec.name] if signature.batched else inputs[spec.name][None]
        if with_features:
            parts.append(_features(array, spec.datatype))
        parts.append(describe(array, spec, with_features=with_features))
    if len({len(part) for part in parts}) != 1:
        raise ValueError("inputs differ in their number of rows")
    return np.concatenate(parts, axis=1)


def descriptors_of(spec: InputSpec, *, with_features: bool) -> tuple[Descriptor, ...]:
    """Which descriptors an input has."""
    d = Descriptor
    if spec.preprocess is not None:
        return (d.MEAN, d.STD, d.MIN, d.MAX, d.SATURATED, d.SHARPNESS, d.PIXELS, d.ASPECT, d.LENGTH)
    if spec.datatype is Datatype.BYTES:
        return (d.LENGTH, d.WORDS, d.NOT_ASCII, d.DIGITS)
    if with_features and spec.display.kind is InputKind.TABULAR:
        return ()
    chosen = [d.MEAN, d.STD, d.MIN, d.MAX, d.SATURATED if spec.display.value_range else d.ZEROS]
    if spec.datatype.is_float:
        chosen.append(d.NOT_FINITE)
    if _image_axes(spec) is not None:
        chosen.append(d.SHARPNESS)
    if any(n < 0 for n in spec.shape[1:]):
        chosen.append(d.ELEMENTS)
    return tuple(chosen)


def describe(array: Array, spec: InputSpec, *, with_features: bool) -> Float32s:
    """Descriptors of each row, (rows, descriptors), in the order of `descriptors_of`."""
    wanted = descriptors_of(spec, with_features=with_features)
    if spec.preprocess is not None:
        rows = [_describe_image(row, spec.preprocess) for row in array]
        return np.array(rows, dtype=np.float32).reshape(len(array), len(wanted))
    if spec.datatype is Datatype.BYTES:
        return np.array([_describe_text(row) for row in array], dtype=np.float32).reshape(len(array), len(wanted))
    if not wanted or array.size == 0:
        return np.zeros((len(array), len(wanted)), dtype=np.float32)
    x = _numbers(array, spec.datatype)
    finite = np.isfinite(x)
    all_finite = bool(finite.all())
    if not all_finite:
        x = np.where(finite, x, x.dtype.type(0))
    flat = x.reshape(len(x), -1)
    out = np.empty((len(x), len(wanted)), dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for column, descriptor in enumerate(wanted):
            out[:, column] = _describe_numbers(descriptor, x, flat, spec, None if all_finite else finite)
        return out.astype(np.float32)


def _describe_numbers(
    descriptor: Descriptor, x: Array, flat: Array, spec: InputSpec, finite: Array | None
) -> Array | float:
    match descriptor:
        case Descriptor.MEAN:
            return np.asarray(flat.mean(axis=1, dtype=np.float64))
        case Descriptor.STD:
            mean = flat.mean(axis=1, dtype=np.float64)
            centred = flat - mean[:, None]
            return np.asarray(np.sqrt(np.einsum("ij,ij->i", centred, centred) / flat.shape[1]))
        case Descriptor.MIN:
            return np.asarray(flat.min(axis=1))
        case Descriptor.MAX:
            return np.asarray(flat.max(axis=1))
        case Descriptor.SATURATED:
            low, high = spec.display.value_range or (0.0, 0.0)
            return np.asarray(((flat <= low) | (flat >= high)).mean(axis=1))
        case Descriptor.ZEROS:
            return np.asarray((flat == 0).mean(axis=1))
        case Descriptor.NOT_FINITE:
            return 0.0 if finite is None else np.asarray(1.0 - finite.reshape(len(x), -1).mean(axis=1))
        case Descriptor.SHARPNESS:
            return _sharpness(x, spec)
        case _:
            return float(flat.shape[1])


def _sharpness(x: Array, spec: InputSpec) -> Array | float:
    axes = _image_axes(spec)
    assert axes is not None
    return _laplacian(np.moveaxis(x, axes, (-2, -1)))


def _laplacian(a: Array) -> Array | float:
    """Mean absolute 4-neighbour Laplacian of each row, over the last two axes."""
    if a.shape[-1] < 3 or a.shape[-2] < 3:
        return 0.0
    inner = 4.0 * a[..., 1:-1, 1:-1]
    laplacian = inner - a[..., :-2, 1:-1] - a[..., 2:, 1:-1] - a[..., 1:-1, :-2] - a[..., 1:-1, 2:]
    return np.asarray(np.abs(laplacian).reshape(len(a), -1).mean(axis=1))


def _describe_image(row: Any, decode: ImageDecode) -> tuple[float, ...]:
    """In the order of `descriptors_of` for encoded images."""
    from export.contracts.imagepixels import preview

    (data,) = np.asarray(row, dtype=object).reshape(-1)
    try:
        file = examine(data, decode.max_pixels)
        pixels = preview(data, PREVIEW_SIDE, decode.max_pixels)
    except ImageRefused:
        return (*(math.nan,) * 8, float(len(data)))
    x = pixels.astype(np.float32) / 255  # (height, width[, channel])
    planes = np.moveaxis(x.reshape(*x.shape[:2], -1), -1, 0)[None]  # (1, channel, height, width)
    saturated = ((pixels == 0) | (pixels == 255)).mean()
    width, height = file.upright
    sharpness = float(np.sum(_laplacian(planes)))
    look = (x.mean(dtype=np.float64), x.std(dtype=np.float64), x.min(), x.max(), saturated, sharpness)
    return (*map(float, look), float(width * height), width / height, float(len(data)))


def _describe_text(row: Any) -> tuple[float, float, float, float]:
    texts = [t if isinstance(t, bytes) else str(t).encode() for t in np.asarray(row, dtype=object).reshape(-1)]
    joined = b"".join(texts)
    data = np.frombuffer(joined, dtype=np.uint8)
    words = sum(len(t.split()) for t in texts)
    if not len(data):
        return 0.0, 0.0, 0.0, 0.0
    digits = ((data >= ord("0")) & (data <= ord("9"))).mean()
    return float(len(data)), float(words), float((data >= 128).mean()), float(digits)


def _plan(signature: Signature) -> list[tuple[InputSpec, bool]]:
    """Each input, and whether its single features are watched."""
    room = MAX_FEATURES
    plan = []
    for spec in signature.inputs:
        inner = spec.shape[1:] if signature.batched else spec.shape
        count = 0 if any(n < 0 for n in inner) or spec.datatype is Datatype.BYTES else int(np.prod(inner, dtype=object))
        watched = 0 < count <= room
        room -= count if watched else 0
        plan.append((spec, watched))
    return plan


def _feature_names(spec: InputSpec) -> list[str]:
    inner = [n for n in spec.shape if n > 0] if spec.shape and spec.shape[0] > 0 else list(spec.shape[1:])
    count = int(np.prod(inner, dtype=object))
    if len(spec.display.feature_names) == count:
        return [f"{spec.name}.{name}" for name in spec.display.feature_names]
    return [f"{spec.name}[{i}]" for i in range(count)]


def _image_axes(spec: InputSpec) -> tuple[int, int] | None:
    """Axes of height and width in a (rows, ...) array, or None when it is no image."""
    layout = spec.display.layout
    if spec.display.kind is not InputKind.IMAGE or layout is None or "H" not in layout or "W" not in layout:
        return None
    offset = max(len(spec.shape), len(layout) + 1) - len(layout)
    return offset + layout.index("H"), offset + layout.index("W")


def _features(array: Array, datatype: Datatype) -> Float32s:
    width = int(np.prod(array.shape[1:], dtype=np.int64))  # -1 would be ambiguous for no rows
    with np.errstate(over="ignore", invalid="ignore"):
        return _numbers(array, datatype).reshape(len(array), width).astype(np.float32)


def _numbers(array: Array, datatype: Datatype) -> Array:
    """Elements as float32 (float64 for 64-bit types), whatever carries them."""
    if datatype is Datatype.BF16:
        return widen(array)
    wide = datatype in (Datatype.FP64, Datatype.INT64, Datatype.UINT64, Datatype.INT32, Datatype.UINT32)
    return array.astype(np.float64 if wide else np.float32, copy=False)
