"""The gRPC service, free of any gRPC server: paths and message bytes in, message bytes or a status out.

Two servers offer it, `serving.grpc.lane` and, on grpcio's, `serving.grpc.aio`; no answer depends on which.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from export.contracts.errors import (
    InvalidRequest,
    NotFound,
    NotSupported,
    PayloadTooLarge,
    Unauthenticated,
    Unavailable,
)
from serving import app_answers as answers
from serving import effective
from serving.call import ANONYMOUS, Call, Transport
from serving.dataplane import DataPlane
from serving.entry import Entry, Reply
from serving.grpc.health import check, watch
from serving.grpc.messages import HEALTH, messages, method_path
from serving.grpc.parser import decoded
from serving.grpc.scan import InferMessage, scan
from serving.served import ServedModel
from serving.version import LoadedVersion

INFER = method_path("ModelInfer")
STREAM_INFER = method_path("ModelStreamInfer")
WATCH = method_path("Watch", HEALTH)
# Methods that answer without a credential, as `app_boundary.OPEN_PATHS` over HTTP: they tell nothing but yes or no.
OPEN_METHODS = frozenset({method_path("ServerLive"), method_path("ServerReady"), method_path("Check", HEALTH)})
_CALLS_KEPT = 1024
_CALL_KEY_BYTES = 4096

Handler = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a call's metadata says; equal metadata may share one.

    Attributes:
        caller: Name of the API key.
        sticky, traceparent, tracestate: As in `Call`.
        special: Whether any of those is there.
    """

    caller: str = ANONYMOUS
    sticky: bytes | None = None
    traceparent: bytes | None = None
    tracestate: bytes | None = None

    @property
    def special(self) -> bool:
        """Whether the call needs a head of its own."""
        return self.sticky is not None or self.traceparent is not None


class GrpcService:
    """Everything that the methods do.

    Args:
        plane: Answers the inference requests.
    """

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self._version = importlib.metadata.version("hardcase")
        self._body_bytes = plane.options.limits.body_bytes
        self._calls: dict[bytes, Call] = {}
        self._messages = messages()
        self._unary = self._methods()

    def _methods(self) -> dict[str, tuple[Any, Handler]]:
        """Request class and handler of every method that is neither inference nor a stream."""
        made: dict[str, tuple[Any, Handler]] = {}
        for name, handler in (
            ("ServerLive", self._server_live),
            ("ServerReady", self._server_ready),
            ("ModelReady", self._model_ready),
            ("ServerMetadata", self._server_metadata),
            ("ModelMetadata", self._model_metadata),
            ("ModelConfig", self._model_config),
            ("ModelStatistics", self._model_statistics),
            ("RepositoryIndex", self._repository_index),
            ("RepositoryModelLoad", self._repository_load),
            ("RepositoryModelUnload", self._repository_unload),
        ):
            made[method_path(name)] = getattr(self._messages, name + "Request"), handler
        made[method_path("Check", HEALTH)] = self._messages.HealthCheckRequest, self._health_check
        return made

    # who may pass, and what is there

    def metadata(self, path: str, given: Mapping[bytes, bytes]) -> Metadata:
        """Check a call's credential, and pick what the data plane wants to know.

        Args:
            path: The method.
            given: Metadata by lower-case key; of a repeated key the last value.

        Raises:
            Unauthenticated: the method needs a credential, and this is none.
        """
        auth = self.plane.auth
        caller = ANONYMOUS
        if auth.enabled and path not in OPEN_METHODS:
            try:
                caller = auth.check(given.get(b"authorization"))
            except Unauthenticated:
                self.plane.stats.unauthenticated += 1
                raise
        if len(given) == 0:
            return _PLAIN if caller == ANONYMOUS else Metadata(caller)
        return Metadata(
            caller, given.get(self.plane.sticky_header), given.get(b"traceparent"), given.get(b"tracestate")
        )

    def is_unary(self, path: str) -> bool:
        """Whether `unary` answers this method."""
        return path in self._unary

    # inference

    def infer(self, body: bytes, metadata: Metadata, reply: Reply, timeout_ns: int = 0) -> Entry:
        """Take one ModelInferRequest; its answer's body is the ModelInferResponse.

        Args:
            body: The message.
            metadata: The call's.
            reply: As for `DataPlane.accept`.
            timeout_ns: What is left of the caller's deadline; 0 for none.

        Raises:
            HardcaseError: refused, counted and recorded.
        """
        message = scan(body)
        message.timeout_ns = timeout_ns
        if len(body) > self._body_bytes:
            self._refuse_large(message)
        call = self._calls.get(message.head) if message.head is not None else None
        if call is None:
            call = self._read_call(message)
        if metadata.special:
            call = Call(
                model=call.model,
                version=call.version,
                transport=Transport.GRPC,
                sticky=metadata.sticky,
                traceparent=metadata.traceparent,
                tracestate=metadata.tracestate,
            )
        return self.plane.accept(call, message, reply, metadata.caller)

    def _refuse_large(self, message: InferMessage) -> None:
        """For servers whose own limit is another one.

        Raises:
            PayloadTooLarge: always; counted for the model that the message names.
        """
        error = PayloadTooLarge(f"request: the message is over the limit of {self._body_bytes} bytes")
        self.plane.refuse(self._read_call(message), error)
        raise error

    def _read_call(self, message: InferMessage) -> Call:
        try:
            plain = decoded(message)
        except InvalidRequest as error:
            self.plane.refuse(Call(model="", transport=Transport.GRPC), error)
            raise
        call = Call(model=plain.model_name, version=plain.model_version or None, transport=Transport.GRPC)
        if message.raws and message.head is not None and len(message.head) <= _CALL_KEY_BYTES:
            if len(self._calls) >= _CALLS_KEPT:
                self._calls.clear()
            self._calls[message.head] = call
        return call

    # everything else

    async def unary(self, path: str, body: bytes) -> bytes:
        """Answer a method that is not inference.

        Raises:
            NotSupported: there is no such method here.
            HardcaseError: what the method itself refuses.
        """
        found = self._unary.get(path)
        if found is None:
            raise NotSupported("this server has no such method")
        kind, handler = found
        try:
            request = kind.FromString(body)
        except DecodeError:
            raise InvalidRequest(f"request: not a valid {kind.DESCRIPTOR.name} message") from None
        answer = await handler(request)
        data: bytes = answer.SerializeToString()
        return data

    def watch_health(self, body: bytes) -> AsyncIterator[bytes]:
        """The answers of `grpc.health.v1.Health/Watch`, without an end.

        Raises:
            InvalidRequest: the message is none.
        """
        try:
            request = self._messages.HealthCheckRequest.FromString(body)
        except DecodeError:
            raise InvalidRequest("request: not a valid HealthCheckRequest message") from None
        return watch(self.plane.pool, request.service)

    async def _health_check(self, request: Any) -> Any:
        return check(self.plane.pool, request.service)

    async def _server_live(self, request: Any) -> Any:
        return self._messages.ServerLiveResponse(live=True)

    async def _server_ready(self, request: Any) -> Any:
        return self._messages.ServerReadyResponse(ready=self.plane.pool.ready())

    async def _model_ready(self, request: Any) -> Any:
        """False also for what does not exist, as Triton has it: clients ask this before they load."""
        try:
            self._choose(request)
        except (Unavailable, NotFound):
            return self._messages.ModelReadyResponse(ready=False)
        return self._messages.ModelReadyResponse(ready=True)

    async def _server_metadata(self, request: Any) -> Any:
        return self._messages.ServerMetadataResponse(**answers.server_metadata(self._version))

    async def _model_metadata(self, request: Any) -> Any:
        served, loaded = self._choose(request)
        versions = [s.version for s in self.plane.pool.index() if s.name == served.name and str(s.state) == "READY"]
        plain = answers.model_metadata(loaded.package.manifest, versions)
        return json_format.ParseDict(plain, self._messages.ModelMetadataResponse())

    async def _model_config(self, request: Any) -> Any:
        _, loaded = self._choose(request)
        manifest = loaded.package.manifest
        plain = answers.model_config(
            manifest, self.plane.options, effective.max_rows(self.plane.options.batch, manifest)
        )
        if not manifest.version.isdecimal():
            plain["version_policy"] = {"all": {}}  # its field takes numbers only
        return json_format.ParseDict({"config": plain}, self._messages.ModelConfigResponse())

    async def _model_statistics(self, request: Any) -> Any:
        if request.name:
            self._served(request.name)
            if request.version:
                self._choose(request)
        stats = [
            answers.version_statistics(served.name, loaded.version, loaded.stats, loaded.cache)
            for served in sorted(self.plane.pool.models.values(), key=lambda s: s.name)
            if request.name in ("", served.name)
            for loaded in served.loaded()
            if request.version in ("", loaded.version)
        ]
        return json_format.ParseDict({"model_stats": stats}, self._messages.ModelStatisticsResponse())

    async def _repository_index(self, request: Any) -> Any:
        plain = answers.repository_index(self.plane.pool.index(), request.ready)
        return self._messages.RepositoryIndexResponse(models=plain)

    async def _repository_load(self, request: Any) -> Any:
        await self.plane.pool.load(request.model_name, _wanted_version(request))
        return self._messages.RepositoryModelLoadResponse()

    async def _repository_unload(self, request: Any) -> Any:
        await self.plane.pool.unload(request.model_name, _wanted_version(request))
        return self._messages.RepositoryModelUnloadResponse()

    def _served(self, name: str) -> ServedModel:
        served = self.plane.pool.models.get(name)
        if served is None:
            raise NotFound(f"unknown model '{name[:64]}'")
        return served

    def _choose(self, request: Any) -> tuple[ServedModel, LoadedVersion]:
        served = self._served(request.name)
        loaded, _variant = served.choose(request.version or None)
        return served, loaded


_PLAIN = Metadata()


def _wanted_version(request: Any) -> str | None:
    """The version that a repository request names.

    Raises:
        NotSupported: it brings files or a configuration.
        InvalidRequest: the version is no string.
    """
    if request.repository_name:
        raise InvalidRequest("repository_name: there is one repository, and it has no name")
    for name in request.parameters:
        if name == "config" or name.startswith("file:"):
            raise NotSupported(f"parameter '{name[:64]}': only versions of the registry can be loaded, by name")
    if "hardcase_version" not in request.parameters:
        return None
    version = request.parameters["hardcase_version"]
    if version.WhichOneof("parameter_choice") != "string_param":
        raise InvalidRequest("parameter 'hardcase_version' must be a string")
    named: str = version.string_param
    return named
