"""The tensors of the requests: shapes from the model's metadata, values made up or from a file."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.errors import Missing, UsageError
from export.contracts.arrays import load_npz
from export.contracts.bf16 import narrow
from export.contracts.datatypes import Datatype

Array = npt.NDArray[Any]
_INTEGERS_BELOW = 10  # most models that take integers take indices, and most have more than ten of what they index
_STRING_BYTES = 16


class Fill(StrEnum):
    """What made-up tensors hold."""

    RANDOM = "random"  # floats in [0, 1), integers in [0, 10), strings of 16 letters
    ZERO = "zero"  # zeros, empty strings


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """An input as the server describes it; -1 is a variable dimension."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """An input of one request. BYTES are object arrays of `bytes`; BF16 its bits as uint16."""

    name: str
    datatype: Datatype
    array: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class Payload:
    """The inputs of one request, and how many batch rows they are."""

    tensors: tuple[Tensor, ...]
    rows: int


def made_up(
    inputs: Sequence[TensorSpec],
    *,
    batch: int,
    shapes: Mapping[str, tuple[int, ...]],
    fill: Fill,
    count: int,
    seed: int,
) -> list[Payload]:
    """Requests with invented values.

    Args:
        inputs: What the model takes.
        batch: Rows of a request, for models with a batch dimension (first, -1, in all inputs).
        shapes: Dimensions by input, without the batch; needed where the model leaves some open.
        fill: What the tensors hold.
        count: How many different requests.
        seed: Of the random values.

    Raises:
        UsageError: a dimension is open and not given, or what is given does not fit.
    """
    unknown = sorted(set(shapes) - {i.name for i in inputs})
    if unknown:
        names = ", ".join(i.name for i in inputs)
        raise UsageError(f"--shape {unknown[0]}: the model has no such input", f"its inputs are {names}")
    batched = is_batched(inputs)
    if batch != 1 and not batched:
        raise UsageError(f"--batch {batch}: the model has no batch dimension")
    chosen = {i.name: resolve_shape(i, batch if batched else None, shapes.get(i.name)) for i in inputs}
    random = np.random.default_rng(seed)
    return [
        Payload(
            tensors=tuple(
                Tensor(name=i.name, datatype=i.datatype, array=_filled(i.datatype, chosen[i.name], fill, random))
                for i in inputs
            ),
            rows=batch if batched else 1,
        )
        for _ in range(count if fill is Fill.RANDOM else 1)
    ]


def is_batched(inputs: Sequence[TensorSpec]) -> bool:
    """Whether the first dimension of every input is variable, which by convention is the batch."""
    return all(i.shape and i.shape[0] == -1 for i in inputs)


def resolve_shape(spec: TensorSpec, batch: int | None, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape that requests send: batch first, then what is given or fixed.

    Args:
        spec: The model's input.
        batch: Rows, or None when the model has no batch dimension.
        given: What the user said, without the batch.

    Raises:
        UsageError: a dimension is open, or contradicts the model.
    """
    prefix = () if batch is None else (batch,)
    wanted = spec.shape[len(prefix) :]
    if given is None:
        if -1 in wanted:
            dims = ",".join("N" if d == -1 else str(d) for d in wanted)
            raise UsageError(
                f"input '{spec.name}' has shape {list(spec.shape)}: the size of its variable dimensions is needed",
                f"--shape {spec.name}:{dims}, with numbers for N",
            )
        return prefix + wanted
    if len(given) != len(wanted) or any(w not in (-1, g) for w, g in zip(wanted, given, strict=True)):
        what = " besides the batch" if prefix else ""
        raise UsageError(f"--shape {spec.name}:{','.join(map(str, given))}: the model takes {list(wanted)}{what}")
    return prefix + given


def _filled(datatype: Datatype, shape: tuple[int, ...], fill: Fill, random: np.random.Generator) -> Array:
    if datatype is Datatype.BYTES:
        made = np.empty(shape, object)
        for index in np.ndindex(shape):
            made[index] = b"" if fill is Fill.ZERO else bytes(random.integers(97, 123, _STRING_BYTES, np.uint8))
        return made
    if fill is Fill.ZERO:
        return np.zeros(shape, datatype.numpy)
    if datatype is Datatype.BF16:
        return narrow(random.random(shape, np.float32))
    if datatype.is_float:
        return random.random(shape).astype(datatype.numpy)
    if datatype is Datatype.BOOL:
        return random.integers(0, 2, shape).astype(np.bool_)
    return random.integers(0, _INTEGERS_BELOW, shape).astype(datatype.numpy)


def from_file(path: Path, inputs: Sequence[TensorSpec], *, batch: int) -> list[Payload]:
    """Requests from a file: `.npz` with an array an input (rows, ...), or JSON in one of two forms.

    JSON: a request of the protocol or a list of them (`{"inputs": [...]}`), or what Triton's perf_analyzer reads
    (`{"data": [{"INPUT": [...]}, ...]}`, a tensor as a list, `{"content": ..., "shape": ...}` or `{"b64": ...}`), one
    row of a batch each.

    Raises:
        Missing: there is no such file.
        UsageError: it does not fit the model; the text names the input.
    """
    if not path.is_file():
        raise Missing(f"--input-data: there is no file '{path}'")
    try:
        if path.suffix == ".npz":
            return _from_arrays(load_npz(path), inputs, batch)
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"--input-data: {error}") from None
    if isinstance(plain, dict) and "data" in plain:
        return _from_rows(plain["data"], inputs, batch)
    return [_from_request(one, inputs) for one in (plain if isinstance(plain, list) else [plain])]


def _from_arrays(arrays: Mapping[str, Array], inputs: Sequence[TensorSpec], batch: int) -> list[Payload]:
    for spec in inputs:
        if spec.name not in arrays:
            raise UsageError(f"--input-data: input '{spec.name}' is missing", f"the file has {', '.join(arrays)}")
    if not is_batched(inputs):
        return [Payload(tensors=tuple(_tensor(spec, arrays[spec.name]) for spec in inputs), rows=1)]
    lengths = {len(arrays[spec.name]) if arrays[spec.name].ndim else 0 for spec in inputs}
    if len(lengths) != 1 or (rows := lengths.pop()) < batch:
        raise UsageError(f"--input-data: every array needs the same number of rows, and at least --batch {batch}")
    return [
        Payload(tensors=tuple(_tensor(spec, arrays[spec.name][at : at + batch]) for spec in inputs), rows=batch)
        for at in range(0, rows - batch + 1, batch)
    ]


def _from_rows(rows: Any, inputs: Sequence[TensorSpec], batch: int) -> list[Payload]:
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows) or not rows:
        raise UsageError("--input-data: 'data' must be a list of objects, one a row")
    arrays: dict[str, Array] = {}
    for spec in inputs:
        values = [_row(row, spec) for row in rows]
        if len({v.shape for v in values}) != 1:
            raise UsageError(f"--input-data: rows of '{spec.name}' have different shapes")
        arrays[spec.name] = np.stack(values)
    if is_batched(inputs):
        return _from_arrays(arrays, inputs, batch)
    return [
        Payload(tensors=tuple(_tensor(spec, arrays[spec.name][n]) for spec in inputs), rows=1) for n in range(len(rows))
    ]


def _row(row: Mapping[str, Any], spec: TensorSpec) -> Array:
    if spec.name not in row:
        raise UsageError(f"--input-data: a row has no '{spec.name}'")
    value = row[spec.name]
    shape = spec.shape[1:] if spec.shape and spec.shape[0] == -1 else spec.shape
    if isinstance(value, dict) and "b64" in value:
        try:
            raw = base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise UsageError(f"--input-data: '{spec.name}' holds text that is not base64") from None
        if spec.datatype is Datatype.BYTES:
            return np.array([raw], object).reshape([1] * len(shape))
        flat: Array = np.frombuffer(raw, spec.datatype.numpy)
    else:
        content = value.get("content") if isinstance(value, dict) else value
        shape = tuple(value.get("shape", shape)) if isinstance(value, dict) else shape
        flat = _from_list(content, spec).ravel()
    try:
        return flat.reshape(shape)
    except ValueError:
        raise UsageError(f"--input-data: '{spec.name}' has {flat.size} elements, not {list(shape)}") from None


def _from_request(plain: Any, inputs: Sequence[TensorSpec]) -> Payload:
    given = plain.get("inputs") if isinstance(plain, dict) else None
    if not isinstance(given, list):
        raise UsageError("--input-data: expected {'inputs': [...]} or {'data': [...]}")
    by_name = {one.get("name"): one for one in given if isinstance(one, dict)}
    tensors = []
    for spec in inputs:
        one = by_name.get(spec.name)
        if one is None:
            raise UsageError(f"--input-data: input '{spec.name}' is missing")
        flat = _from_list(one.get("data"), spec).ravel()
        try:
            tensors.append(_tensor(spec, flat.reshape(one.get("shape", flat.shape))))
        except (ValueError, TypeError):
            raise UsageError(f"--input-data: '{spec.name}' has {flat.size} elements, not {one.get('shape')}") from None
    return Payload(tensors=tuple(tensors), rows=tensors[0].array.shape[0] if is_batched(inputs) else 1)


def _from_list(content: Any, spec: TensorSpec) -> Array:
    try:
        if spec.datatype is Datatype.BYTES:
            flat = np.asarray(content, object).ravel()
            made = np.empty(flat.shape, object)
            made[:] = [v if isinstance(v, bytes) else str(v).encode() for v in flat]
            return made
        if spec.datatype is Datatype.BF16:
            return narrow(np.asarray(content, np.float32))
        return np.asarray(content).astype(spec.datatype.numpy)
    except (ValueError, TypeError) as error:
        raise UsageError(f"--input-data: '{spec.name}': {error}") from None


def _tensor(spec: TensorSpec, array: Array) -> Tensor:
    if spec.datatype is Datatype.BYTES:
        array = _from_list(array, spec).reshape(array.shape)
    elif spec.datatype is Datatype.BF16 and array.dtype != np.uint16:
        array = narrow(array.astype(np.float32))
    else:
        array = array.astype(spec.datatype.numpy)
    fits = len(array.shape) == len(spec.shape) and all(
        s in (-1, a) for s, a in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise UsageError(
            f"--input-data: '{spec.name}' has shape {list(array.shape)}, the model takes {list(spec.shape)}"
        )
    return Tensor(name=spec.name, datatype=spec.datatype, array=np.ascontiguousarray(array))
