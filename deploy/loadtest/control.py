"""What is asked of the server beside the load: who it is, what the model takes, a first request, statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Protocol

from deploy.errors import CommandError, Missing, NotRunning, UsageError
from deploy.loadtest.http_wire import Encoding, http_request, infer_path, model_path
from deploy.loadtest.parsing import Target
from deploy.loadtest.statistics import Counters, read_counters
from deploy.loadtest.tensors import Payload, TensorSpec
from export.contracts.datatypes import Datatype

_TIMEOUT_S = 10.0
TOKEN_HINT = "put the token into the variable HARDCASE_TOKEN, or give --header 'Authorization: Bearer …'"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFacts:
    """What the server says about itself and the model."""

    server: str
    extensions: tuple[str, ...]
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]


class Control(Protocol):
    """The questions; one implementation a protocol. Blocking."""

    def facts(self) -> ServerFacts:
        """Who and what.

        Raises:
            NotRunning: nothing answers there.
            Missing: no such model; the text lists what there is.
            CommandError: a credential is missing, or the answer makes no sense.
        """
        ...

    def prepare(self, payload: Payload, encoding: Encoding, outputs: Sequence[str]) -> bytes:
        """A request as the generator sends it."""
        ...

    def try_once(self, payload: Payload, encoding: Encoding, outputs: Sequence[str]) -> None:
        """Send one request that must succeed.

        Raises:
            CommandError: the server refuses it; the text has its reason.
        """
        ...

    def counters(self) -> Counters | None:
        """Statistics of the model so far, or None where the server keeps none."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class HttpControl:
    """See `Control`. One request a connection: this is not what is measured."""

    def __init__(self, target: Target, model: str, version: str | None, headers: Mapping[str, str]) -> None:
        self._target = target
        self._model = model
        self._version = version
        self._headers = dict(headers)
        self._has_statistics = True

    def facts(self) -> ServerFacts:
        """See `Control.facts`."""
        prefix = self._target.path
        status, body = self._ask("GET", f"{prefix}/v2")
        _check_credential(status)
        server = _object(body) if status == 200 else {}
        status, body = self._ask("GET", model_path(self._target, self._model, self._version))
        if status != 200:
            self._explain(status, body)
        metadata = _object(body)
        try:
            return read_facts(server, metadata)
        except (KeyError, TypeError, ValueError) as error:
            raise CommandError(f"the metadata of '{self._model}' is not the protocol's: {error}") from None

    def prepare(self, payload: Payload, encoding: Encoding, outputs: Sequence[str]) -> bytes:
        """See `Control.prepare`."""
        path = infer_path(self._target, self._model, self._version)
        return http_request(self._target, path, payload, encoding, outputs=outputs, headers=self._headers)

    def try_once(self, payload: Payload, encoding: Encoding, outputs: Sequence[str]) -> None:
        """See `Control.try_once`."""
        from deploy.loadtest.http_wire import infer_body

        more, body = infer_body(payload, encoding, outputs=outputs)
        status, answer = self._ask("POST", infer_path(self._target, self._model, self._version), body, more)
        if status != 200:
            _check_credential(status)
            raise CommandError(
                f"a first request is refused with {status}: {_error_text(answer)}",
                "--shape, --batch, --input-data and --encoding decide what is sent",
            )

    def counters(self) -> Counters | None:
        """See `Control.counters`."""
        if not self._has_statistics:
            return None
        try:
            status, body = self._ask("GET", model_path(self._target, self._model, self._version) + "/stats")
        except NotRunning:
            return None  # overloaded, perhaps; the load itself shows it
        found = read_counters(body, self._version) if status == 200 else None
        self._has_statistics = found is not None or status in (0, 429, 503)
        return found

    def close(self) -> None:
        """Nothing is kept open."""

    def _explain(self, status: int, body: bytes) -> None:
        """Why there is no metadata."""
        _check_credential(status)
        if status in (400, 404):
            known = self._models()
            hint = f"the server has {', '.join(known)}" if known else ""
            version = f" version '{self._version}'" if self._version else ""
            raise Missing(f"{self._target.address} has no model '{self._model}'{version}: {_error_text(body)}", hint)
        raise CommandError(f"{self._target.address} answers {status}: {_error_text(body)}")

    def _models(self) -> list[str]:
        prefix = self._target.path
        status, body = self._ask("POST", f"{prefix}/v2/repository/index", b"{}", {"Content-Type": "application/json"})
        if status == 200:
            try:
                return sorted({str(one["name"]) for one in json.loads(body)})
            except (ValueError, KeyError, TypeError):
                return []
        return []

    def _ask(
        self, method: str, path: str, body: bytes | None = None, more: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        target = self._target
        kind = HTTPSConnection if target.tls else HTTPConnection
        connection = kind(target.host, target.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body, {**self._headers, **(more or {})})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise NotRunning(
                f"no answer from {target.address}: {reason}", "is the server up, and is this its port?"
            ) from None
        finally:
            connection.close()


def read_facts(server: Mapping[str, Any], metadata: Mapping[str, Any]) -> ServerFacts:
    """The protocol's two metadata documents.

    Raises:
        KeyError, TypeError, ValueError: a field is missing or of another kind.
    """
    inputs = tuple(
        TensorSpec(name=str(one["name"]), datatype=Datatype(one["datatype"]), shape=tuple(int(d) for d in one["shape"]))
        for one in metadata["inputs"]
    )
    if not inputs:
        raise ValueError("there are no inputs")
    versions = [str(v) for v in metadata.get("versions") or ()]
    name, version = server.get("name") or "unknown server", server.get("version") or ""
    return ServerFacts(
        server=f"{name} {version}".strip(),
        extensions=tuple(str(e) for e in server.get("extensions") or ()),
        version=versions[-1] if versions else "",
        inputs=inputs,
        outputs=tuple(str(one["name"]) for one in metadata.get("outputs") or ()),
    )


def choose_encoding(asked: Encoding | None, facts: ServerFacts, payloads: Sequence[Payload]) -> Encoding:
    """What was asked for, else binary where the server knows it.

    Raises:
        UsageError: neither way can carry the model's inputs.
    """
    if asked is not None:
        return asked
    if "binary_tensor_data" in facts.extensions:
        return Encoding.BINARY
    if any(t.datatype is Datatype.BF16 for p in payloads for t in p.tensors):
        raise UsageError("the server does not say that it takes binary tensors, and BF16 has no other form")
    return Encoding.JSON


def _check_credential(status: int) -> None:
    if status in (401, 403):
        raise CommandError(f"the server asks for a credential ({status})", TOKEN_HINT)


def _object(body: bytes) -> dict[str, Any]:
    try:
        plain = json.loads(body)
    except ValueError:
        plain = None
    if not isinstance(plain, dict):
        raise CommandError("the server's answer is not JSON: is it an Open Inference Protocol server?")
    return plain


def _error_text(body: bytes) -> str:
    try:
        plain = json.loads(body)
        text = plain["error"] if isinstance(plain, dict) else body.decode()
    except (ValueError, KeyError):
        text = body.decode(errors="replace")
    return " ".join(str(text).split())[:300] or "no reason given"
