"""A small client of the Open Inference Protocol over HTTP: what the console needs to ask a model something.

The monitor does not import the serving package; it speaks the protocol like any other client, and says in the request's
parameters what the request is for (`monitoring.origins`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import httpx
import numpy as np
import numpy.typing as npt

from export.contracts.arrays import decode_bytes, encode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.errors import DeadlineExceeded, HardcaseError, InvalidRequest, ModelFailed, NotFound, Unavailable
from monitoring.inference_options import InferenceOptions

Array: TypeAlias = npt.NDArray[Any]
HEADER = "Inference-Header-Content-Length"
MAX_ANSWER_BYTES = 64 << 20
DOWN = "the model's service does not answer just now: is it running?"


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A named array; BYTES are object arrays of `bytes`, BF16 are its upper halves as uint16."""

    name: str
    datatype: Datatype
    array: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """What a version answered, and how long it took to come, in seconds."""

    id: str
    model: str
    version: str
    outputs: Mapping[str, Tensor]
    seconds: float


class ServingClient:
    """Asks models. Safe to use from several threads.

    Args:
        options: Where the service is. The token's file is read for every question, so that it may change.
        client: For tests; otherwise one of its own.
    """

    def __init__(self, options: InferenceOptions, client: httpx.Client | None = None) -> None:
        self.options = options
        self._client = client or self._opened()

    def _opened(self) -> httpx.Client:
        # No proxies and no redirects: the service is where the settings say, and nowhere else.
        return httpx.Client(timeout=self.options.timeout_s, trust_env=False, follow_redirects=False)

    def close(self) -> None:
        """Let go of its connections; who asks again gets new ones."""
        before, self._client = self._client, self._opened()
        before.close()

    def infer(
        self, model: str, version: str | None, inputs: Sequence[Tensor], outputs: Sequence[str], origin: str
    ) -> Reply:
        """Ask a version; None is whichever the traffic plan gives.

        Raises:
            InvalidRequest: the service refused the request; its own words.
            NotFound: it has no such model or version loaded.
            DeadlineExceeded: no answer in time.
            Unavailable: it is not there, or answers nothing sensible.
            ModelFailed: the model raised.
        """
        head = {
            "parameters": {"origin": origin},
            "inputs": [_described(t) for t in inputs],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
        }
        text = json.dumps(head).encode()
        body = text + b"".join(_raw(t) for t in inputs)
        headers = {"Content-Type": "application/octet-stream", HEADER: str(len(text)), "Accept-Encoding": "identity"}
        where = f"/versions/{quote(version, safe='')}" if version else ""
        started = time.perf_counter()
        response = self._send("POST", f"/v2/models/{quote(model, safe='')}{where}/infer", body, headers)
        seconds = time.perf_counter() - started
        if response.status_code != 200:
            raise _refusal(response)
        try:
            return _reply(response, seconds)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Unavailable("the model's service gave an answer that cannot be read") from error

    def loaded(self, model: str) -> tuple[str, ...]:
        """Versions of a model that answer now; empty where it has none, or the service is not there."""
        try:
            response = self._send("GET", f"/v2/models/{quote(model, safe='')}", b"", {})
            versions = response.json().get("versions") if response.status_code == 200 else None
        except (HardcaseError, ValueError, AttributeError):
            return ()
        return tuple(str(v) for v in versions) if isinstance(versions, list) else ()

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        if not self.options.url:
            raise Unavailable("no service is configured that could answer (monitor.inference.url)")
        token = self._token()
        sent = dict(headers) | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            return self._client.request(method, self.options.url + path, content=body, headers=sent)
        except httpx.TimeoutException:
            raise DeadlineExceeded(f"the model did not answer within {self.options.timeout_s:g} s") from None
        except (httpx.TransportError, httpx.InvalidURL):
            raise Unavailable(DOWN) from None

    def _token(self) -> str:
        if not self.options.token_file:
            return ""
        try:
            return Path(self.options.token_file).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            raise Unavailable(
                "the token for the model's service cannot be read (monitor.inference.token_file)"
            ) from None


def _described(tensor: Tensor) -> dict[str, Any]:
    size = {"binary_data_size": len(_raw(tensor))}
    shape = list(tensor.array.shape)
    return {"name": tensor.name, "datatype": tensor.datatype.value, "shape": shape, "parameters": size}


def _raw(tensor: Tensor) -> bytes:
    if tensor.datatype is Datatype.BYTES:
        return encode_bytes(tensor.array)
    return np.ascontiguousarray(tensor.array, dtype=tensor.datatype.numpy).tobytes()


def _reply(response: httpx.Response, seconds: float) -> Reply:
    content = response.content
    if len(content) > MAX_ANSWER_BYTES:
        raise ValueError("too large")
    length = int(response.headers.get(HEADER, len(content)))
    head = json.loads(content[:length])
    rest = content[length:]
    outputs: dict[str, Tensor] = {}
    for item in head["outputs"]:
        datatype, shape = Datatype(item["datatype"]), tuple(int(n) for n in item["shape"])
        size = item.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.asarray(item["data"], dtype=datatype.numpy).reshape(shape)
        else:
            data, rest = rest[:size], rest[size:]
            array = (
                decode_bytes(data, shape)
                if datatype is Datatype.BYTES
                else np.frombuffer(data, dtype=datatype.numpy).reshape(shape)
            )
        outputs[item["name"]] = Tensor(name=item["name"], datatype=datatype, array=array)
    return Reply(
        id=str(head.get("id", "")),
        model=str(head["model_name"]),
        version=str(head["model_version"]),
        outputs=outputs,
        seconds=seconds,
    )


def _refusal(response: httpx.Response) -> HardcaseError:
    """The service's answer in its own words, which are made for anybody, cut short."""
    try:
        text = str(response.json()["error"])[:500]
    except (ValueError, KeyError, TypeError):
        text = f"the model's service answered {response.status_code}"
    if response.status_code in (401, 403):
        return Unavailable("the model's service asks for a key (monitor.inference.token_file)")
    kinds: dict[int, type[HardcaseError]] = {404: NotFound, 503: Unavailable, 504: DeadlineExceeded, 500: ModelFailed}
    kind = kinds.get(response.status_code, InvalidRequest if response.status_code < 500 else Unavailable)
    return kind(text)
