"""One inference request in each wire format the measured servers speak, and how each answer is read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


class Wire(StrEnum):
    """A format of request and answer bodies."""

    OIP_BINARY = "oip-binary"  # Open Inference Protocol with its binary tensor extension
    OIP_JSON = "oip-json"  # Open Inference Protocol, all JSON
    RAW = "raw"  # the tensor's bytes and nothing else, both ways: the least work a server can be given
    JSON = "json"  # {"x": nested list} → {"logits": list}, as tutorials of the other servers write it


@dataclass(frozen=True, kw_only=True, slots=True)
class Payload:
    """One request body with its headers."""

    wire: Wire
    headers: dict[str, str]
    body: bytes


def make_payload(wire: Wire, image: npt.NDArray[np.float32]) -> Payload:
    """The request for one image of shape (1, 1, 8, 8): input `x`, asking for output `logits` where one can ask."""
    raw = image.astype("<f4").tobytes()
    described = {"name": "x", "shape": list(image.shape), "datatype": "FP32"}
    if wire is Wire.RAW:
        return Payload(wire=wire, headers={"Content-Type": "application/octet-stream"}, body=raw)
    if wire is Wire.JSON:
        return Payload(wire=wire, headers={"Content-Type": "application/json"}, body=_json({"x": image[0].tolist()}))
    if wire is Wire.OIP_JSON:
        request = {
            "inputs": [described | {"data": image.ravel().tolist()}],
            "outputs": [{"name": "logits", "parameters": {"binary_data": False}}],
        }
        return Payload(wire=wire, headers={"Content-Type": "application/json"}, body=_json(request))
    head = _json(
        {
            "inputs": [described | {"parameters": {"binary_data_size": len(raw)}}],
            "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
        }
    )
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Payload(wire=wire, headers=headers, body=head + raw)


def read_answer(wire: Wire, response: httpx.Response) -> Logits:
    """The logits in an answer, shape (class,).

    Raises:
        ValueError: the answer does not hold what the format promises.
    """
    return _READERS[wire](response)


def lua_script(payload: Payload) -> str:
    """A wrk script that posts `payload`. The request is formatted once by wrk, so that it costs nothing per request."""
    headers = "".join(f"wrk.headers[{_lua(name)}] = {_lua(value)}\n" for name, value in payload.headers.items())
    return f'wrk.method = "POST"\n{headers}wrk.body = {_lua(payload.body)}\n'


def write_scripts(folder: Path, image: npt.NDArray[np.float32]) -> dict[Wire, Path]:
    """One Lua file a wire format in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {wire: folder / f"{wire}.lua" for wire in Wire}
    for wire, path in paths.items():
        path.write_text(lua_script(make_payload(wire, image)), encoding="ascii")
    return paths


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _lua(value: str | bytes) -> str:
    """A Lua string literal of exactly these bytes: everything but plain letters and digits in decimal escapes."""
    data = value.encode() if isinstance(value, str) else value
    return '"' + "".join(chr(b) if chr(b).isalnum() and b < 128 else f"\\{b:03d}" for b in data) + '"'


def _read_oip_binary(response: httpx.Response) -> Logits:
    length = int(response.headers["inference-header-content-length"])
    head = json.loads(response.content[:length])
    offset = length
    for output in head["outputs"]:
        size = output["parameters"]["binary_data_size"]
        if output["name"] == "logits":
            return np.frombuffer(response.content[offset : offset + size], dtype="<f4")
        offset += size
    raise ValueError("the answer has no output 'logits'")


def _read_oip_json(response: httpx.Response) -> Logits:
    for output in response.json()["outputs"]:
        if output["name"] == "logits":
            return np.asarray(output["data"], dtype=np.float32).ravel()
    raise ValueError("the answer has no output 'logits'")


def _read_raw(response: httpx.Response) -> Logits:
    return np.frombuffer(response.content, dtype="<f4")


def _read_json(response: httpx.Response) -> Logits:
    return np.asarray(response.json()["logits"], dtype=np.float32).ravel()


_READERS: dict[Wire, Callable[[httpx.Response], Logits]] = {
    Wire.OIP_BINARY: _read_oip_binary,
    Wire.OIP_JSON: _read_oip_json,
    Wire.RAW: _read_raw,
    Wire.JSON: _read_json,
}
