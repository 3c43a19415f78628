"""A second, naive implementation of the protocol's wire format, written for clarity: tests compare against it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype

HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A named array with its protocol datatype; BYTES are object arrays of `bytes`."""

    name: str
    datatype: Datatype
    array: np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A decoded inference answer."""

    model: str
    version: str
    id: str
    tensors: Mapping[str, Tensor]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        return self.tensors[name].array


def to_binary(tensor: Tensor) -> bytes:
    """Little-endian, row-major; BYTES elements with their lengths in front."""
    if tensor.datatype is Datatype.BYTES:
        return b"".join(len(v).to_bytes(4, "little") + v for v in tensor.array.ravel())
    return np.ascontiguousarray(tensor.array, dtype=tensor.datatype.numpy).tobytes()


def from_binary(data: bytes, datatype: Datatype, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """The inverse of `to_binary`."""
    if datatype is not Datatype.BYTES:
        return np.frombuffer(data, dtype=datatype.numpy).reshape(shape)
    items, rest = [], data
    while rest:
        size = int.from_bytes(rest[:4], "little")
        items.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def to_json(tensor: Tensor, *, flat: bool = True) -> list[Any]:
    """The `data` of a JSON tensor."""
    array = tensor.array
    if tensor.datatype is Datatype.BYTES:
        array = np.vectorize(bytes.decode, otypes=[object])(array) if array.size else array
    elif tensor.datatype.is_float:
        array = array.astype(np.float64)
    plain: list[Any] = (array.ravel() if flat else array).tolist()
    return plain


def request(
    tensors: Sequence[Tensor],
    *,
    binary: bool | Sequence[str] = True,
    flat: bool = True,
    outputs: Sequence[Mapping[str, Any]] | None = None,
    **extra: Any,
) -> tuple[dict[str, str], bytes]:
    """Headers and body of an inference request.

    Args:
        tensors: In the order in which the request lists them.
        binary: All, none, or the names that travel binary.
        flat: JSON data as one flat list, or nested like the shape.
        outputs: Wanted outputs as the protocol has them.
        extra: More fields of the request, `id` or `parameters`.
    """
    named = [t.name for t in tensors] if binary is True else list(binary or ())
    head: dict[str, Any] = {**extra, "inputs": []}
    if outputs is not None:
        head["outputs"] = list(outputs)
    tail = b""
    for tensor in tensors:
        item: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype.value,
            "shape": list(tensor.array.shape),
        }
        if tensor.name in named:
            data = to_binary(tensor)
            item["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            item["data"] = to_json(tensor, flat=flat)
        head["inputs"].append(item)
    text = json.dumps(head).encode()
    if not named:
        return {"Content-Type": "application/json"}, text
    return {"Content-Type": "application/octet-stream", HEADER: str(len(text))}, text + tail


def answer(headers: Mapping[str, str], body: bytes) -> Answer:
    """Decode a 200 answer, strictly: every byte must be accounted for."""
    length = int(headers[HEADER]) if HEADER in headers else len(body)
    plain = json.loads(body[:length], parse_constant=_refuse_constant)
    assert set(plain) <= {"model_name", "model_version", "id", "parameters", "outputs"}
    tensors, rest = {}, body[length:]
    for item in plain["outputs"]:
        datatype, shape = Datatype(item["datatype"]), item["shape"]
        size = item.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = _from_json(item["data"], datatype, shape)
        else:
            assert "data" not in item
            array, rest = from_binary(rest[:size], datatype, shape), rest[size:]
        assert item["name"] not in tensors
        tensors[item["name"]] = Tensor(name=item["name"], datatype=datatype, array=array)
    assert rest == b"", f"{len(rest)} bytes are left over behind the outputs"
    return Answer(
        model=plain["model_name"],
        version=plain["model_version"],
        id=plain["id"],
        tensors=tensors,
        parameters=plain.get("parameters", {}),
    )


def _from_json(data: list[Any], datatype: Datatype, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    if datatype is Datatype.BYTES:
        array = np.empty(len(data), dtype=object)
        array[:] = [v.encode() for v in data]
        return array.reshape(shape)
    return np.array(data, dtype=datatype.numpy).reshape(shape)


def _refuse_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")
