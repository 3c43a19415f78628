"""What somebody typed, dropped or chose, as tensors of a signature."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import InvalidRequest
from export.contracts.signature import InputSpec, Signature
from monitoring.explore.serving_client import Tensor

MAX_ELEMENTS = 16 << 20


def to_tensors(signature: Signature, given: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """Tensors in the order of the signature.

    Args:
        signature: Of the version.
        given: Each with `name`, optionally `shape`, and `data` (numbers, texts, nested or flat) or `base64` (raw
            little-endian elements; of an input of BYTES, the bytes of its one element).

    Raises:
        InvalidRequest: names the input.
    """
    known = {spec.name: spec for spec in signature.inputs}
    by_name: dict[str, Mapping[str, Any]] = {}
    for item in given:
        name = str(item["name"])
        if name not in known:
            raise InvalidRequest(f"inputs: this model has no input '{name[:64]}'; it has {', '.join(known)[:200]}")
        if name in by_name:
            raise InvalidRequest(f"inputs: '{name[:64]}' is given twice")
        by_name[name] = item
    missing = [name for name in known if name not in by_name]
    if missing:
        raise InvalidRequest(f"inputs: '{missing[0]}' is missing")
    return [_tensor(spec, by_name[spec.name]) for spec in signature.inputs]


def _tensor(spec: InputSpec, item: Mapping[str, Any]) -> Tensor:
    data, raw, shape = item.get("data"), item.get("base64"), item.get("shape")
    if (data is None) == (raw is None):
        raise InvalidRequest(f"inputs: '{spec.name}' needs either data or base64")
    array = _from_base64(spec, str(raw)) if raw is not None else _from_data(spec, data)
    wanted = tuple(int(n) for n in shape) if shape is not None else _shape_for(spec, array)
    if any(n < 0 for n in wanted) or math.prod(wanted) != array.size or not _fits(spec.shape, wanted):
        raise InvalidRequest(
            f"inputs: '{spec.name}' has {array.size} elements in the shape {list(array.shape)}; "
            f"the model takes {list(spec.shape)}"
        )
    return Tensor(name=spec.name, datatype=spec.datatype, array=array.reshape(wanted))


def _from_base64(spec: InputSpec, text: str) -> Any:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"inputs: '{spec.name}'.base64 is not base64") from None
    if spec.datatype is Datatype.BYTES:
        made = np.empty(1, dtype=object)
        made[0] = data
        return made
    if len(data) % spec.datatype.itemsize:
        raise InvalidRequest(
            f"inputs: '{spec.name}'.base64 is {len(data)} bytes, no multiple of {spec.datatype.itemsize}"
        )
    return np.frombuffer(data, dtype=spec.datatype.numpy)


def _from_data(spec: InputSpec, data: Any) -> Any:
    if spec.datatype is Datatype.BYTES:
        flat = data if isinstance(data, list) else [data]
        while flat and isinstance(flat[0], list):
            flat = [x for part in flat for x in (part if isinstance(part, list) else [part])]
        if not all(isinstance(x, str) for x in flat):
            raise InvalidRequest(f"inputs: '{spec.name}'.data must be text")
        made = np.empty(len(flat), dtype=object)
        made[:] = [x.encode() for x in flat]
        return made
    try:
        array = np.asarray(data)
        if array.dtype.kind not in "biuf" or array.size > MAX_ELEMENTS:
            raise ValueError
        if spec.datatype is Datatype.BF16:  # the upper half of a float32, rounded to the nearest
            bits = array.astype("<f4").view("<u4")
            return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        target = spec.datatype.numpy
        if target.kind in "iu":
            info = np.iinfo(target)  # type: ignore[type-var]  # its kind says that it is one of integers
            whole = array.dtype.kind in "biu" or bool((array == np.floor(array)).all())
            if not whole or (array.size and (array.min() < info.min or array.max() > info.max)):
                raise ValueError
        return array.astype(target)
    except (ValueError, OverflowError, TypeError):
        raise InvalidRequest(f"inputs: '{spec.name}'.data must be numbers that {spec.datatype} holds") from None


def _shape_for(spec: InputSpec, array: Any) -> tuple[int, ...]:
    """The shape as given, where that fits; else the signature's with one row and its one open dimension filled in."""
    if _fits(spec.shape, array.shape):
        return tuple(int(n) for n in array.shape)
    wanted = [1 if i == 0 and n == -1 and len(spec.shape) > 1 else n for i, n in enumerate(spec.shape)]
    if wanted.count(-1) == 1:
        fixed = math.prod(n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = array.size // fixed if fixed else 0
    return tuple(n if n >= 0 else 1 for n in wanted)


def _fits(signature: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(signature) == len(shape) and all(a in (-1, b) for a, b in zip(signature, shape, strict=True))
