"""The ASGI app: the whole REST surface of the protocol over one data plane. Routes translate; they decide nothing.

Inference takes the same `DataPlane.infer` as the fast lane, so an answer never depends on the lane. Routes are plain
Starlette routes on a FastAPI app: bodies are read under our limits and checked by our parsers, and the published
contract is the file `openapi.json`, which a test holds against live answers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import importlib.resources
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from export.contracts.errors import HardcaseError, Unavailable
from serving import app_answers as answers
from serving import effective
from serving.app_boundary import CALLER, Boundary, http_error, json_response, served_model, to_response
from serving.app_control import ControlRoutes
from serving.app_receive import only_header, raw_header, receive_body
from serving.call import Call
from serving.dataplane import DataPlane, HttpAnswer, error_answer
from serving.http_limits import compress
from serving.served import ServedModel
from serving.version import LoadedVersion

Handler = Callable[[Request], Awaitable[Response]]


class HardcaseApp(FastAPI):
    """FastAPI with the contract file as its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The contract, as shipped in `serving/openapi.json`."""
        return contract()


def contract() -> dict[str, Any]:
    """The OpenAPI document of the REST surface."""
    text = importlib.resources.files("serving").joinpath("openapi.json").read_bytes()
    document: dict[str, Any] = orjson.loads(text)
    return document


def build_app(plane: DataPlane) -> FastAPI:
    """The app over `plane`. It holds no state of its own."""
    app = HardcaseApp(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, title="Hardcase")
    Routes(plane).add_to(app)
    ControlRoutes(plane).add_to(app)
    app.add_exception_handler(HardcaseError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_middleware(Boundary, auth=plane.auth, stats=plane.stats)
    return app


async def _on_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HardcaseError)
    return to_response(error_answer(error))


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return http_error(error)


class Routes:
    """One method a route; the path parameters are `model` and, where a version is named, `version`."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._version = importlib.metadata.version("hardcase")

    def add_to(self, app: FastAPI) -> None:
        """Register every route. The literal paths come before those with a parameter in the same place."""
        get: list[tuple[str, Handler]] = [
            ("/v2", self.server),
            ("/v2/health/live", self.live),
            ("/v2/health/ready", self.ready),
            ("/v2/models", self.models),
            ("/v2/models/stats", self.statistics),
            ("/metrics", self.metrics),
            ("/openapi.json", self.contract),
        ]
        versioned = [
            ("GET", "", self.metadata),
            ("GET", "/ready", self.model_ready),
            ("GET", "/stats", self.statistics),
            ("GET", "/config", self.config),
            ("POST", "/infer", self.infer),
        ]
        for path, handler in get:
            app.add_route(path, handler, methods=["GET"])
        for method, suffix, handler in versioned:
            app.add_route(f"/v2/models/{{model}}{suffix}", handler, methods=[method])
            app.add_route(f"/v2/models/{{model}}/versions/{{version}}{suffix}", handler, methods=[method])

    async def server(self, request: Request) -> Response:
        """Server metadata."""
        return json_response(answers.server_metadata(self._version))

    async def live(self, request: Request) -> Response:
        """Liveness: the process answers."""
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        """Readiness: every model that this process should serve has a champion."""
        ready = self._plane.pool.ready()
        return json_response({"ready": ready}, 200 if ready else 503)

    async def models(self, request: Request) -> Response:
        """Names of the models that this process hosts."""
        return json_response({"models": sorted(self._plane.pool.models)})

    async def metadata(self, request: Request) -> Response:
        """A model's tensors, platform and versions."""
        served, loaded = self._choose(request)
        versions = [s.version for s in self._plane.pool.index() if s.name == served.name and str(s.state) == "READY"]
        return json_response(answers.model_metadata(loaded.package.manifest, versions))

    async def model_ready(self, request: Request) -> Response:
        """Whether a model, or a version of it, answers."""
        name = request.path_params["model"]
        try:
            self._choose(request)
        except Unavailable:
            return json_response({"name": name, "ready": False}, 503)
        return json_response({"name": name, "ready": True})

    async def statistics(self, request: Request) -> Response:
        """The statistics extension: cumulative since each version was loaded."""
        model, version = request.path_params.get("model"), request.path_params.get("version")
        if model is not None:
            served_model(self._plane, model)
            if version is not None:
                self._choose(request)
        stats = [
            answers.version_statistics(served.name, loaded.version, loaded.stats, loaded.cache)
            for served in sorted(self._plane.pool.models.values(), key=lambda s: s.name)
            if model is None or served.name == model
            for loaded in served.loaded()
            if version is None or loaded.version == version
        ]
        return json_response({"model_stats": stats})

    async def config(self, request: Request) -> Response:
        """The model configuration extension."""
        _, loaded = self._choose(request)
        manifest = loaded.package.manifest
        max_rows = effective.max_rows(self._plane.options.batch, manifest)
        return json_response(answers.model_config(manifest, self._plane.options, max_rows))

    async def infer(self, request: Request) -> Response:
        """Inference, on the lane that needs no hook."""
        call = Call(model=request.path_params["model"], version=request.path_params.get("version"))
        try:
            header_length = only_header(request, b"inference-header-content-length")
            body = await receive_body(request, self._plane.options.limits)
        except HardcaseError as error:
            return to_response(self._plane.refuse(call, error))
        call = dataclasses.replace(
            call,
            header_length=header_length,
            sticky=raw_header(request, self._plane.sticky_header),
            traceparent=raw_header(request, b"traceparent"),
            tracestate=raw_header(request, b"tracestate"),
        )
        answer = await _unless_gone(request, self._plane.infer(call, body, request.scope[CALLER]))
        return to_response(answer, raw_header(request, b"accept-encoding"))

    async def metrics(self, request: Request) -> Response:
        """Prometheus text format or OpenMetrics, of this process only."""
        from serving.metrics import render

        text, kind = render(self._plane, raw_header(request, b"accept"))
        body, encoding = compress(text, raw_header(request, b"accept-encoding"))
        headers = {"content-encoding": encoding.decode()} if encoding else {}
        return Response(body, media_type=kind, headers=headers)

    async def contract(self, request: Request) -> Response:
        """The OpenAPI document."""
        return json_response(contract())

    def _choose(self, request: Request) -> tuple[ServedModel, LoadedVersion]:
        served = served_model(self._plane, request.path_params["model"])
        loaded, _variant = served.choose(request.path_params.get("version"))
        return served, loaded


async def _unless_gone(request: Request, work: Awaitable[HttpAnswer]) -> HttpAnswer:
    """Await `work`, and cancel it when the client goes away first: it must not reach the model any more."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        gone.cancel()
