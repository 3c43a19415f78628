"""Requests of the Open Inference Protocol over REST: whole HTTP/1.1 requests, ready to be written to a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from deploy.errors import UsageError
from deploy.loadtest.parsing import Target
from deploy.loadtest.tensors import Payload, Tensor
from export.contracts.datatypes import Datatype

LENGTH_HEADER = "Inference-Header-Content-Length"


class Encoding(StrEnum):
    """How tensors travel in REST requests."""

    BINARY = "binary"  # the binary tensor extension: bytes behind the JSON
    JSON = "json"  # numbers as text: every server, and slow


def infer_path(target: Target, model: str, version: str | None) -> str:
    """Path of the infer endpoint."""
    return model_path(target, model, version) + "/infer"


def model_path(target: Target, model: str, version: str | None) -> str:
    """Path of a model or version."""
    return f"{target.path}/v2/models/{model}" + (f"/versions/{version}" if version else "")


def http_request(
    target: Target,
    path: str,
    payload: Payload,
    encoding: Encoding,
    *,
    outputs: Sequence[str] = (),
    headers: Mapping[str, str],
) -> bytes:
    """Head and body of one inference request.

    Args:
        target: Where it goes.
        path: Of the infer endpoint.
        payload: The inputs.
        encoding: How they travel, and how answers are asked for.
        outputs: Outputs to ask for; none leaves it to the server.
        headers: More headers.

    Raises:
        UsageError: a tensor that JSON cannot carry.
    """
    more, body = infer_body(payload, encoding, outputs=outputs)
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{target.port}", "User-Agent: hardcase-bench"]
    lines += [f"{name}: {value}" for name, value in {**more, **headers}.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def infer_body(payload: Payload, encoding: Encoding, *, outputs: Sequence[str] = ()) -> tuple[dict[str, str], bytes]:
    """Headers that describe the body, and the body."""
    binary = encoding is Encoding.BINARY
    tails: list[bytes] = []
    request: dict[str, Any] = {"inputs": [_input(t, tails if binary else None) for t in payload.tensors]}
    if outputs:
        asked: dict[str, Any] = {"parameters": {"binary_data": True}} if binary else {}
        request["outputs"] = [{"name": name, **asked} for name in outputs]
    elif binary:
        request["parameters"] = {"binary_data_output": True}
    head = json.dumps(request, separators=(",", ":")).encode()
    if not binary:
        return {"Content-Type": "application/json"}, head
    return {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(head))}, head + b"".join(tails)


def raw_bytes(tensor: Tensor) -> bytes:
    """Little-endian, row-major; BYTES elements with their length in front."""
    if tensor.datatype is Datatype.BYTES:
        return b"".join(len(v).to_bytes(4, "little") + v for v in tensor.array.ravel().tolist())
    return np.ascontiguousarray(tensor.array, tensor.datatype.numpy).tobytes()


def _input(tensor: Tensor, tails: list[bytes] | None) -> dict[str, Any]:
    item: dict[str, Any] = {
        "name": tensor.name,
        "shape": list(tensor.array.shape),
        "datatype": tensor.datatype.value,
    }
    if tails is not None:
        tails.append(raw_bytes(tensor))
        return item | {"parameters": {"binary_data_size": len(tails[-1])}}
    return item | {"data": _as_json(tensor)}


def _as_json(tensor: Tensor) -> list[Any]:
    """The elements as one flat list."""
    if tensor.datatype is Datatype.BF16:
        raise UsageError(f"input '{tensor.name}' is BF16, which JSON cannot carry", "leave --encoding away")
    if tensor.datatype is not Datatype.BYTES:
        plain: list[Any] = (
            tensor.array.astype(np.float64 if tensor.datatype.is_float else tensor.array.dtype).ravel().tolist()
        )
        return plain
    try:
        return [v.decode() for v in tensor.array.ravel().tolist()]
    except UnicodeDecodeError:
        raise UsageError(f"input '{tensor.name}' holds bytes that are not text, which JSON cannot carry") from None
