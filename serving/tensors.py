"""Tensors on the wire: strict JSON data and the length-prefixed BYTES encoding, both ways. Pure functions.

A decoded tensor is a numpy array of the datatype's wire dtype; BYTES elements are Python `bytes` in an object array.
"""

from __future__ import annotations

import binascii
import math
import struct
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from export.contracts.datatypes import Datatype
from export.contracts.errors import InvalidRequest, ModelFailed

Array = npt.NDArray[Any]

# `struct` refuses numbers that do not fit, integers and floats alike, and is faster than numpy on lists of numbers.
_STRUCT = {
    Datatype.BOOL: "?",
    Datatype.UINT8: "B",
    Datatype.UINT16: "H",
    Datatype.UINT32: "I",
    Datatype.UINT64: "Q",
    Datatype.INT8: "b",
    Datatype.INT16: "h",
    Datatype.INT32: "i",
    Datatype.INT64: "q",
    Datatype.FP16: "e",
    Datatype.FP32: "f",
    Datatype.FP64: "d",
}


def decode_json(text: bytes, datatype: Datatype, shape: tuple[int, ...], field: str) -> Array | memoryview:
    """Decode the `data` of an input, nested or flat, row-major.

    Args:
        text: The JSON text.
        datatype: What the elements must be; a number that does not fit after rounding is an error.
        shape: The declared shape, already checked against the signature.
        field: Where this is in the request, for error texts.

    Returns:
        The elements as little-endian bytes; BYTES as an object array of the shape.

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
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"{field}: {error}") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{field}: a string is not UTF-8") from None
    except RecursionError:
        raise InvalidRequest(f"{field}: nested too deeply") from None
    if depth == 0:
        values = [values]  # the one element of a scalar
    elif depth > 1:
        values = _flatten(values, shape, field)
    elements = math.prod(shape)
    if len(values) != elements:
        raise InvalidRequest(f"{field}: data has {len(values)} elements, shape {list(shape)} needs {elements}")
    if datatype is Datatype.BYTES:
        array = np.empty(elements, dtype=object)
        array[:] = [v.encode() for v in values]
        return array.reshape(shape)
    try:
        return memoryview(struct.pack(f"<{elements}{_STRUCT[datatype]}", *values))
    except (struct.error, OverflowError):
        raise InvalidRequest(f"{field}: a number does not fit into {datatype}") from None


def _flatten(values: list[Any], shape: tuple[int, ...], field: str) -> list[Any]:
    """Nested lists, which must have exactly this shape, as one flat list."""
    if len(values) != shape[0]:
        raise InvalidRequest(f"{field}: nested lists do not have the shape {list(shape)}")
    for axis in range(1, len(shape)):
        if any(len(inner) != shape[axis] for inner in values):
            raise InvalidRequest(f"{field}: nested lists do not have the shape {list(shape)}")
        values = [item for inner in values for item in inner]
    return values


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
    kind: Any
    if datatype is Datatype.BOOL:
        kind = bool
    elif datatype is Datatype.BYTES:
        kind = str
    else:
        kind = float if datatype.is_float else int
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


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


def from_base64(array: Array, field: str) -> Array:
    """BYTES elements that are Base64 text (RFC 4648, section 4), decoded; an object array of the same shape.

    Raises:
        InvalidRequest: an element is not Base64; the text names it.
    """
    out = np.empty(array.size, dtype=object)
    for index, text in enumerate(array.ravel()):
        try:
            out[index] = binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            raise InvalidRequest(f"{field}[{index}]: is not Base64, which images are in JSON") from None
    return out.reshape(array.shape)


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
