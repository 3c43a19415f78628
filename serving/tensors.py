"""Tensors on the wire: strict JSON data and the length-prefixed BYTES encoding, both ways. Pure functions.

A decoded tensor is a numpy array of the datatype's wire dtype; BYTES elements are Python `bytes` in an object array.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from export.contracts.datatypes import Datatype
from export.contracts.errors import InvalidRequest, ModelFailed

Array = npt.NDArray[Any]

_FLOAT_LIMIT = {Datatype.FP16: 65504.0, Datatype.FP32: float(np.finfo(np.float32).max), Datatype.FP64: None}


def decode_json(text: bytes, datatype: Datatype, shape: tuple[int, ...], field: str) -> Array:
    """Decode the `data` of an input, nested or flat, row-major.

    Args:
        text: The JSON text.
        datatype: What the elements must be; a number that does not fit is an error, never rounded into range.
        shape: The declared shape, already checked against the signature.
        field: Where this is in the request, for error texts.

    Raises:
        InvalidRequest: names the field and what is wrong with it.
    """
    if datatype is Datatype.BF16:
        raise InvalidRequest(f"{field}: BF16 has no JSON form: send binary data")
    depth = _depth(text)
    if depth not in (1, len(shape)):
        raise InvalidRequest(f"{field}: data must be flat or nested {len(shape)} deep like its shape, not {depth} deep")
    try:
        values = _decoder(datatype, depth).decode(text)
        array = _to_array(values, datatype, depth)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"{field}: {error}") from None
    except OverflowError:
        raise InvalidRequest(f"{field}: a number does not fit into {datatype}") from None
    except ValueError:
        raise InvalidRequest(f"{field}: nested lists differ in length") from None
    except RecursionError:
        raise InvalidRequest(f"{field}: nested too deeply") from None
    if depth > 1 and array.shape != shape:
        raise InvalidRequest(f"{field}: data has shape {list(array.shape)}, shape says {list(shape)}")
    if array.size != math.prod(shape):
        raise InvalidRequest(f"{field}: data has {array.size} elements, shape {list(shape)} needs {math.prod(shape)}")
    return array.reshape(shape)


def _depth(text: bytes) -> int:
    depth = 0
    for byte in text:
        if byte == 0x5B:  # [
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth


@cache
def _decoder(datatype: Datatype, depth: int) -> msgspec.json.Decoder[Any]:
    element: Any
    if datatype is Datatype.BOOL:
        element = bool
    elif datatype is Datatype.BYTES:
        element = str
    elif datatype.is_float:
        limit = _FLOAT_LIMIT[datatype]
        element = float if limit is None else Annotated[float, msgspec.Meta(ge=-limit, le=limit)]
    elif datatype in (Datatype.INT64, Datatype.UINT64):
        element = int  # numpy refuses what does not fit; msgspec's bounds end at 63 bits
    else:
        info = np.iinfo(str(datatype.numpy))
        element = Annotated[int, msgspec.Meta(ge=int(info.min), le=int(info.max))]
    kind: Any = element
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def _to_array(values: list[Any], datatype: Datatype, depth: int) -> Array:
    if datatype is not Datatype.BYTES:
        return np.array(values, dtype=datatype.numpy)
    if depth == 1:
        flat = np.empty(len(values), dtype=object)
        flat[:] = [v.encode() for v in values]
        return flat
    text = np.array(values, dtype=object)
    encoded: Array = np.frompyfunc(str.encode, 1, 1)(text).astype(object)
    return encoded


def decode_bytes(buffer: memoryview, elements: int, field: str) -> Array:
    """Decode BYTES elements: each a 4-byte little-endian length and that many bytes.

    Returns:
        Object array of shape (elements,).

    Raises:
        InvalidRequest: a length points past the end, or bytes are left over.
    """
    array = np.empty(elements, dtype=object)
    position, end = 0, len(buffer)
    for index in range(elements):
        if position + 4 > end:
            raise InvalidRequest(f"{field}: binary data ends before element {index} of {elements}")
        length = int.from_bytes(buffer[position : position + 4], "little")
        position += 4
        if position + length > end:
            raise InvalidRequest(f"{field}: element {index} has length {length}, {end - position} bytes are left")
        array[index] = bytes(buffer[position : position + length])
        position += length
    if position != end:
        raise InvalidRequest(f"{field}: {end - position} bytes are left over after {elements} elements")
    return array


def encode_bytes(array: Array) -> bytes:
    r"""The inverse of `decode_bytes` for an object array of any shape, row-major.

    Example:
        >>> encode_bytes(np.array([b"a", b""], dtype=object))
        b'\x01\x00\x00\x00a\x00\x00\x00\x00'
    """
    parts: list[bytes] = []
    for item in array.ravel():
        data = item if isinstance(item, bytes) else str(item).encode()
        parts.append(len(data).to_bytes(4, "little"))
        parts.append(data)
    return b"".join(parts)


def encode_json(array: Array, datatype: Datatype, name: str, non_finite: str | None) -> bytes:
    """An output's elements as a flat JSON list.

    Args:
        array: The output of one request.
        datatype: Its datatype.
        name: The output's name, for error texts.
        non_finite: What NaN and infinities become: "error", "null" or "string" ("NaN", "Infinity", "-Infinity"). None
            when the caller knows that there are none.

    Raises:
        InvalidRequest: the type has no JSON form.
        ModelFailed: non-finite values when they are an error.
    """
    flat = array.reshape(-1)
    if datatype is Datatype.BYTES:
        try:
            return orjson.dumps([v.decode() if isinstance(v, bytes) else str(v) for v in flat])
        except UnicodeDecodeError:
            raise InvalidRequest(f"output '{name}' is not UTF-8: ask for it with binary_data") from None
    if datatype is Datatype.BF16:
        raise InvalidRequest(f"output '{name}': BF16 has no JSON form: ask for it with binary_data")
    if non_finite is not None and datatype.is_float and not np.isfinite(flat).all():
        if non_finite == "error":
            raise ModelFailed(f"output '{name}' holds NaN or infinity, which JSON cannot carry: ask for binary_data")
        if non_finite == "string":
            return orjson.dumps([_finite_or_text(float(v)) for v in flat])
    return orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)


def _finite_or_text(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
