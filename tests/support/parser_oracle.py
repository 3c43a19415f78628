"""What the parser should say, worked out the slow and obvious way with the standard library's `json` and plain loops.

It shares nothing with `serving.protocol` but the contracts. It knows no error texts: it only says whether a request is
valid, and if so what is in it.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.signature import InputSpec, Signature
from serving.options import Limits

MAX_ID_BYTES = 128
_MAX_WHOLE = (1 << 53) - 1
_RANGES: dict[Datatype, np.iinfo[Any]] = {
    d: np.iinfo(d.numpy.str) for d in Datatype if d.numpy.kind in "iu" and d is not Datatype.BF16
}
# From here on a number rounds to infinity (IEEE 754, round half to even): half a step above the largest finite one.
_FLOAT_END = {Datatype.FP16: 65520.0, Datatype.FP32: (2 - 2.0**-24) * 2.0**127, Datatype.FP64: math.inf}


class Refused(Exception):
    """The request is not valid."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A valid request. Tensors are little-endian bytes, BYTES are lists of `bytes`; both row-major."""

    id: str
    rows: int
    shapes: tuple[tuple[int, ...], ...]
    tensors: tuple[bytes | list[bytes], ...]
    outputs: tuple[tuple[str, bool, int, bool], ...] | None  # name, binary, classes, softmax; None = the default ones
    binary_output: bool
    timeout_us: int
    priority: int


def expect(signature: Signature, limits: Limits, body: bytes, header_length: bytes | None) -> Expected:
    """Read a request.

    Raises:
        Refused: it is not valid; the text is for the reader of a failing test.
    """
    if header_length is None:
        return _structured(signature, limits, body, len(body))
    text = header_length.decode("latin-1")
    if text not in (str(int(text)) if text.isascii() and text.isdigit() and len(text) < 19 else None,):
        raise Refused("header length is not canonical")
    length = int(text)
    if length > len(body) or length > limits.json_header_bytes:
        raise Refused("header length is too large")
    return _raw(signature, limits, body) if length == 0 else _structured(signature, limits, body, length)


def _need(holds: bool, why: str) -> None:
    if not holds:
        raise Refused(why)


def _json(data: bytes) -> Any:
    try:
        # Python's json takes NaN and Infinity, integers as floats and any nesting; RFC 8259 and the parser do not.
        plain = _DECODER.decode(data.decode("utf-8"))
        if b"\\ud" in data or b"\\uD" in data:  # Python's json also takes half a surrogate pair, anywhere
            json.dumps(plain, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refused("not JSON") from None
    return plain


def _constant(name: str) -> Any:
    raise ValueError(name)


class Huge(int):
    """Stands for an integer of more digits than Python converts; only harmless where nobody reads it."""


def _integer(text: str) -> int:
    return int(text) if len(text.lstrip("-")) <= sys.get_int_max_str_digits() else Huge()


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_int=_integer)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool | Huge)


def _text(value: Any) -> str:
    _need(isinstance(value, str), "not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("lone surrogate") from None
    return str(value)


def _parameters(holder: Mapping[str, Any]) -> dict[str, Any]:
    value = holder.get("parameters")
    if value is None:
        return {}
    _need(isinstance(value, dict), "parameters is no object")
    for key, item in value.items():
        _text(key)
        if isinstance(item, str):
            _text(item)
        _need(isinstance(item, str | int | float | bool) and not isinstance(item, Huge), "parameter is no scalar")
        _need(not isinstance(item, float) or math.isfinite(item), "parameter is not finite")
    return dict(value)


def _whole(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    _need(_is_int(value) and 0 <= value <= _MAX_WHOLE, f"{name} is no whole number")
    return int(value)


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    _need(isinstance(value, bool), f"{name} is no boolean")
    return bool(value)


def _structured(signature: Signature, limits: Limits, body: bytes, length: int) -> Expected:
    head = _json(body[:length])
    _need(isinstance(head, dict), "not an object")
    request_id = _text(head.get("id", ""))
    _need(len(request_id.encode()) <= MAX_ID_BYTES, "id too long")
    given = head.get("inputs")
    _need(isinstance(given, list), "inputs is no list")
    assert isinstance(given, list)
    for item in given:
        _need(isinstance(item, dict), "an input is no object")
        _need(isinstance(item.get("datatype"), str) and isinstance(item.get("shape"), list), "input lacks a field")
        _text(item.get("name"))
        _need(all(_is_int(d) for d in item["shape"]), "shape holds something else than integers")
    names = [item["name"] for item in given]
    _need(sorted(names) == sorted(spec.name for spec in signature.inputs), "inputs are not exactly the model's")
    parameters = _parameters(head)
    _need(not any(k.startswith(("triton_", "hardcase_")) for k in parameters), "reserved parameter")
    binary_output = _flag(parameters, "binary_data_output", False)

    position, tensors, shapes = length, {}, {}
    for item in given:
        spec = next(s for s in signature.inputs if s.name == item["name"])
        shape = tuple(item["shape"])
        _check_shape(spec, shape, item["datatype"], limits)
        own = _parameters(item)
        _need(not any(k.startswith("shared_memory") for k in own), "shared memory")
        _need(("data" in item) != ("binary_data_size" in own), "not exactly one of data and binary_data_size")
        if "data" in item:
            tensors[spec.name] = _from_json(item["data"], spec.datatype, shape)
        else:
            size = _whole(own, "binary_data_size")
            _need(position + size <= len(body), "body too short")
            tensors[spec.name] = _from_binary(body[position : position + size], spec.datatype, math.prod(shape))
            position += size
        shapes[spec.name] = shape
    _need(position == len(body), "left-over bytes")
    ordered = tuple(shapes[s.name] for s in signature.inputs)
    return Expected(
        id=request_id,
        rows=_rows(signature, ordered, limits),
        shapes=ordered,
        tensors=tuple(tensors[s.name] for s in signature.inputs),
        outputs=_outputs(signature, head.get("outputs"), binary_output),
        binary_output=binary_output,
        timeout_us=_whole(parameters, "timeout"),
        priority=_whole(parameters, "priority"),
    )


def _check_shape(spec: InputSpec, shape: tuple[int, ...], datatype: str, limits: Limits) -> None:
    _need(datatype == spec.datatype.value, "datatype differs")
    _need(len(shape) == len(spec.shape), "rank differs")
    _need(all(d >= 0 for d in shape), "negative dimension")
    _need(all(w in (-1, d) for d, w in zip(shape, spec.shape, strict=True)), "fixed dimension differs")
    # A dimension must be possible on its own: [0, 2**62] has no elements and is still not an array.
    _need(math.prod(shape) <= limits.elements and all(d <= limits.elements for d in shape), "too many elements")


def _rows(signature: Signature, shapes: tuple[tuple[int, ...], ...], limits: Limits) -> int:
    if not signature.batched:
        return 1
    rows = {shape[0] for shape in shapes}
    _need(len(rows) == 1, "batch sizes differ")
    count = rows.pop()
    _need(1 <= count <= limits.rows, "empty batch, or too many rows")
    return count


def _outputs(signature: Signature, wanted: Any, binary: bool) -> tuple[tuple[str, bool, int, bool], ...] | None:
    if wanted is None or wanted == []:
        return None
    _need(isinstance(wanted, list) and len(wanted) <= 256, "outputs is no list, or too long")
    result: list[tuple[str, bool, int, bool]] = []
    for item in wanted:
        _need(isinstance(item, dict), "an output is no object")
        name, own = _text(item.get("name")), _parameters(item)
        spec = next((s for s in signature.outputs if s.name == name), None)
        _need(spec is not None and all(r[0] != name for r in result), "unknown output, or named twice")
        _need(not any(k.startswith("shared_memory") for k in own), "shared memory")
        classes = _whole(own, "classification")
        if "classification" in own:
            assert spec is not None
            odd = (Datatype.BYTES, Datatype.BF16, Datatype.BOOL)
            _need(classes >= 1 and spec.datatype not in odd, "cannot classify")
        softmax = _flag(own, "softmax", False)
        if softmax:
            assert spec is not None
            floats = (Datatype.FP16, Datatype.FP32, Datatype.FP64)
            scores = spec.role.value in ("logits", "other", "internal")
            _need(scores and spec.datatype in floats and len(spec.shape) > signature.batched, "no class scores")
        result.append((name, _flag(own, "binary_data", binary), classes, softmax))
    return tuple(result)


def _from_binary(data: bytes, datatype: Datatype, elements: int) -> bytes | list[bytes]:
    if datatype is Datatype.BYTES:
        items: list[bytes] = []
        while len(items) < elements:
            _need(len(data) >= 4, "BYTES end early")
            (size,) = struct.unpack("<I", data[:4])
            _need(len(data) >= 4 + size, "BYTES length past the end")
            items.append(data[4 : 4 + size])
            data = data[4 + size :]
        _need(not data, "left-over BYTES")
        return items
    _need(len(data) == elements * datatype.itemsize, "binary size differs")
    if datatype is Datatype.BOOL:
        _need(all(b in (0, 1) for b in data), "BOOL byte")
    return data


def _from_json(data: Any, datatype: Datatype, shape: tuple[int, ...]) -> bytes | list[bytes]:
    _need(datatype is not Datatype.BF16, "BF16 as JSON")
    flat = _flatten(data, shape)
    if datatype is Datatype.BYTES:
        return [_text(v).encode() for v in flat]
    for value in flat:
        if datatype is Datatype.BOOL:
            _need(isinstance(value, bool), "not a boolean")
        elif datatype.is_float:
            _need(isinstance(value, int | float) and not isinstance(value, bool | Huge), "not a number")
            try:
                size = abs(float(value))
            except OverflowError:
                raise Refused("number too large") from None
            _need(size < _FLOAT_END[datatype], "number too large")
        else:
            _need(_is_int(value) and _RANGES[datatype].min <= value <= _RANGES[datatype].max, "not an integer in range")
    if datatype.is_float:
        flat = [float(v) for v in flat]
    return np.array(flat, dtype=datatype.numpy).tobytes()


def _flatten(data: Any, shape: tuple[int, ...]) -> list[Any]:
    _need(isinstance(data, list) or not shape, "data is no list")
    if not shape:
        return data if isinstance(data, list) and len(data) == 1 else [data]
    if len(shape) > 1 and data and isinstance(data[0], list):
        depth, first = 0, data
        while isinstance(first, list):
            depth, first = depth + 1, first[0] if first else None
        # Only for empty tensors does this say more than the lengths below: they are sent flat, or to their full depth.
        _need(depth == len(shape) and len(data) == shape[0], "nested list has another length")
        return [leaf for inner in data for leaf in _nested(inner, shape[1:])]
    _need(len(data) == math.prod(shape) and not any(isinstance(v, list) for v in data), "another number of elements")
    return list(data)


def _nested(data: Any, shape: tuple[int, ...]) -> list[Any]:
    _need(isinstance(data, list) and len(data) == shape[0], "nested list has another length")
    if len(shape) == 1:
        _need(not any(isinstance(v, list) for v in data), "nested too deeply")
        return list(data)
    return [leaf for inner in data for leaf in _nested(inner, shape[1:])]


def _raw(signature: Signature, limits: Limits, body: bytes) -> Expected:
    _need(len(signature.inputs) == 1, "raw form needs one input")
    spec = signature.inputs[0]
    dims = list(spec.shape[1:] if signature.batched else spec.shape)
    tensor: bytes | list[bytes] = body
    if spec.datatype is Datatype.BYTES:
        _need(all(d in (1, -1) for d in dims), "raw BYTES have one element")
        dims, tensor = [1] * len(dims), [body]
    else:
        _need(dims.count(-1) <= 1, "more than one variable dimension")
        unit = math.prod(d for d in dims if d != -1) * spec.datatype.itemsize
        if -1 in dims:
            _need(len(body) > 0 and len(body) % unit == 0, "no multiple")
            dims[dims.index(-1)] = len(body) // unit
        else:
            _need(len(body) == unit, "another size")
        if spec.datatype is Datatype.BOOL:
            _need(all(b in (0, 1) for b in body), "BOOL byte")
    shape = tuple([1, *dims] if signature.batched else dims)
    _need(math.prod(shape) <= limits.elements, "too many elements")
    return Expected(
        id="",
        rows=1,
        shapes=(shape,),
        tensors=(tensor,),
        outputs=None,
        binary_output=True,
        timeout_us=0,
        priority=0,
    )
