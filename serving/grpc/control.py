"""The methods that are neither inference nor streams: metadata, statistics, the repository, health."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import json_format

from export.contracts.errors import InvalidRequest, NotFound, NotSupported, Unavailable
from serving import app_answers as answers
from serving import effective
from serving.dataplane import DataPlane
from serving.grpc.health import check
from serving.grpc.messages import HEALTH, messages, method_path
from serving.served import ServedModel
from serving.version import LoadedVersion

Handler = Callable[[Any], Awaitable[Any]]


class ControlMethods:
    """One method of the class for each of the service's; request message in, answer message out.

    Args:
        plane: What is asked.
    """

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._messages = messages()
        self._version = importlib.metadata.version("hardcase")

    def table(self) -> dict[str, tuple[Any, Handler]]:
        """Request class and handler of every path that is answered here."""
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

    async def _health_check(self, request: Any) -> Any:
        return check(self._plane.pool, request.service)

    async def _server_live(self, request: Any) -> Any:
        return self._messages.ServerLiveResponse(live=True)

    async def _server_ready(self, request: Any) -> Any:
        return self._messages.ServerReadyResponse(ready=self._plane.pool.ready())

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
        versions = [s.version for s in self._plane.pool.index() if s.name == served.name and str(s.state) == "READY"]
        plain = answers.model_metadata(loaded.package.manifest, versions)
        return json_format.ParseDict(plain, self._messages.ModelMetadataResponse())

    async def _model_config(self, request: Any) -> Any:
        _, loaded = self._choose(request)
        manifest = loaded.package.manifest
        plain = answers.model_config(
            manifest, self._plane.options, effective.max_rows(self._plane.options.batch, manifest)
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
            for served in sorted(self._plane.pool.models.values(), key=lambda s: s.name)
            if request.name in ("", served.name)
            for loaded in served.loaded()
            if request.version in ("", loaded.version)
        ]
        return json_format.ParseDict({"model_stats": stats}, self._messages.ModelStatisticsResponse())

    async def _repository_index(self, request: Any) -> Any:
        plain = answers.repository_index(self._plane.pool.index(), request.ready)
        return self._messages.RepositoryIndexResponse(models=plain)

    async def _repository_load(self, request: Any) -> Any:
        await self._plane.pool.load(request.model_name, _wanted_version(request))
        return self._messages.RepositoryModelLoadResponse()

    async def _repository_unload(self, request: Any) -> Any:
        await self._plane.pool.unload(request.model_name, _wanted_version(request))
        return self._messages.RepositoryModelUnloadResponse()

    def _served(self, name: str) -> ServedModel:
        served = self._plane.pool.models.get(name)
        if served is None:
            raise NotFound(f"unknown model '{name[:64]}'")
        return served

    def _choose(self, request: Any) -> tuple[ServedModel, LoadedVersion]:
        served = self._served(request.name)
        loaded, _variant = served.choose(request.version or None)
        return served, loaded


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
