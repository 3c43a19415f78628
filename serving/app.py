"""The ASGI app: the whole REST surface of the protocol over one data plane. Routes translate; they decide nothing.

Inference takes the same `DataPlane.infer` as the fast lane, so an answer never depends on the lane. Routes are plain
Starlette routes on a FastAPI app: bodies are read under our limits and checked by our parsers, and the published
contract is the file `openapi.json`, which a test holds against live answers.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.resources
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from export.contracts.errors import (
    HardcaseError,
    InvalidRequest,
    NotFound,
    NotSupported,
    Unavailable,
)
from serving import app_answers as answers
from serving.app_boundary import Boundary, http_error, refuse_cross_site, to_response
from serving.app_receive import raw_header, receive_body
from serving.dataplane import DataPlane, HttpAnswer, HttpInfer, error_answer
from serving.feedback import MAX_BODY_BYTES, read_feedback
from serving.http_limits import HeadTooLarge, ReceiveTimeout, compress

Handler = Callable[[Request], Awaitable[Response]]

# How long feedback may wait for the record log before the client is told to send it again.
FEEDBACK_WAIT_S = 5.0


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
        post: list[tuple[str, Handler]] = [
            ("/v2/models/{model}/feedback", self.feedback),
            ("/v2/repository/index", self.index),
            ("/v2/repository/models/{model}/load", self.load),
            ("/v2/repository/models/{model}/unload", self.unload),
        ]
        for path, handler in get:
            app.add_route(path, handler, methods=["GET"])
        for method, suffix, handler in versioned:
            app.add_route(f"/v2/models/{{model}}{suffix}", handler, methods=[method])
            app.add_route(f"/v2/models/{{model}}/versions/{{version}}{suffix}", handler, methods=[method])
        for path, handler in post:
            app.add_route(path, handler, methods=["POST"])

    async def server(self, request: Request) -> Response:
        """Server metadata."""
        return _json(answers.server_metadata(self._version), request)

    async def live(self, request: Request) -> Response:
        """Liveness: the process answers."""
        return _json({"live": True}, request)

    async def ready(self, request: Request) -> Response:
        """Readiness: every model that this process should serve has a champion."""
        ready = self._plane.pool.ready()
        return _json({"ready": ready}, request, 200 if ready else 503)

    async def models(self, request: Request) -> Response:
        """Names of the models that this process hosts."""
        return _json({"models": sorted(self._plane.pool.models)}, request)

    async def metadata(self, request: Request) -> Response:
        """A model's tensors, platform and versions."""
        served, loaded = self._choose(request)
        versions = [s.version for s in self._plane.pool.index() if s.name == served.name and str(s.state) == "READY"]
        return _json(answers.model_metadata(loaded.package.manifest, versions), request)

    async def model_ready(self, request: Request) -> Response:
        """Whether a model, or a version of it, answers."""
        name = request.path_params["model"]
        try:
            self._choose(request)
        except Unavailable:
            return _json({"name": name, "ready": False}, request, 503)
        return _json({"name": name, "ready": True}, request)

    async def statistics(self, request: Request) -> Response:
        """The statistics extension: cumulative since each version was loaded."""
        model, version = request.path_params.get("model"), request.path_params.get("version")
        if model is not None:
            self._served(model)
            if version is not None:
                self._choose(request)
        stats = [
            answers.version_statistics(served.name, loaded.version, loaded.stats)
            for served in sorted(self._plane.pool.models.values(), key=lambda s: s.name)
            if model is None or served.name == model
            for loaded in served.loaded()
            if version is None or loaded.version == version
        ]
        return _json({"model_stats": stats}, request)

    async def config(self, request: Request) -> Response:
        """The model configuration extension."""
        _, loaded = self._choose(request)
        manifest = loaded.package.manifest
        max_rows = self._plane.options.batch.max_rows or manifest.max_batch_rows
        return _json(answers.model_config(manifest, self._plane.options, max_rows), request)

    async def infer(self, request: Request) -> Response:
        """Inference, on the lane that needs no hook."""
        try:
            body = await receive_body(request, self._plane.options.limits)
        except HardcaseError as error:
            answer = self._plane.refuse(request.path_params["model"], request.path_params.get("version"), error)
            return _closing(answer, error)
        answer = await _unless_gone(
            request,
            self._plane.infer(
                HttpInfer(
                    model=request.path_params["model"],
                    version=request.path_params.get("version"),
                    body=body,
                    header_length=raw_header(request, b"inference-header-content-length"),
                    traceparent=raw_header(request, b"traceparent"),
                )
            ),
        )
        return to_response(answer, raw_header(request, b"accept-encoding"))

    async def feedback(self, request: Request) -> Response:
        """Ground truth or an opinion about earlier answers; 202 once it is in the record log."""
        refuse_cross_site(request)
        model = request.path_params["model"]
        self._served(model)
        writer = self._plane.writer
        if writer is None:
            raise NotSupported("feedback needs the record log, which is switched off (setting serving.capture)")
        items = read_feedback(
            await receive_body(request, self._plane.options.limits, MAX_BODY_BYTES), model, time.time_ns()
        )
        durable = _Durable(len(items))
        for item in items:
            writer.feedback(item, on_durable=durable.count_down)
        try:
            async with asyncio.timeout(FEEDBACK_WAIT_S):
                await durable.all
        except TimeoutError:
            raise Unavailable("the record log is slow: the feedback may be lost, send it again later") from None
        return _json({"accepted": len(items)}, request, 202)

    async def index(self, request: Request) -> Response:
        """Every version that this process hosts or tried to host, with its state and reason."""
        options = _object(await receive_body(request, self._plane.options.limits, MAX_BODY_BYTES))
        ready = options.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequest("'ready' must be true or false")
        return _json(answers.repository_index(self._plane.pool.index(), ready), request)

    async def load(self, request: Request) -> Response:
        """Load a registered version and keep it; never bytes, never a URL."""
        model, version = await self._repository_request(request)
        await _finish(self._plane.pool.load(model, version))
        return _json({}, request)

    async def unload(self, request: Request) -> Response:
        """Let go of a version that `load` pinned."""
        model, version = await self._repository_request(request)
        await _finish(self._plane.pool.unload(model, version))
        return _json({}, request)

    async def metrics(self, request: Request) -> Response:
        """Prometheus text format, of this process only."""
        from serving.metrics import CONTENT_TYPE, render

        body, encoding = compress(render(self._plane), raw_header(request, b"accept-encoding"))
        headers = {"content-encoding": encoding.decode()} if encoding else {}
        return Response(body, media_type=CONTENT_TYPE, headers=headers)

    async def contract(self, request: Request) -> Response:
        """The OpenAPI document."""
        return _json(contract(), request)

    async def _repository_request(self, request: Request) -> tuple[str, str | None]:
        refuse_cross_site(request)
        options = _object(await receive_body(request, self._plane.options.limits, MAX_BODY_BYTES))
        parameters = options.get("parameters", {})
        if not isinstance(parameters, dict):
            raise InvalidRequest("'parameters' must be an object")
        for name in parameters:
            if name == "config" or name.startswith("file:"):
                raise NotSupported(f"parameter '{name[:64]}': only versions of the registry can be loaded, by name")
        version = parameters.get("hardcase_version")
        if version is not None and not isinstance(version, str):
            raise InvalidRequest("parameter 'hardcase_version' must be a string")
        return request.path_params["model"], version

    def _served(self, model: str) -> Any:
        served = self._plane.pool.models.get(model)
        if served is None:
            raise NotFound(f"unknown model '{model[:64]}'")
        return served

    def _choose(self, request: Request) -> tuple[Any, Any]:
        served = self._served(request.path_params["model"])
        loaded, _variant = served.choose(request.path_params.get("version"))
        return served, loaded


def _json(value: Any, request: Request, status: int = 200) -> Response:
    body, encoding = compress(orjson.dumps(value), raw_header(request, b"accept-encoding"))
    headers = {"content-encoding": encoding.decode(), "vary": "accept-encoding"} if encoding else {}
    return Response(body, status, headers, media_type="application/json")


def _object(body: bytes) -> dict[str, Any]:
    """A JSON object, or {} for an empty body, which the standard client sends."""
    if not body:
        return {}
    try:
        plain = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest("the body is not valid JSON") from None
    if not isinstance(plain, dict):
        raise InvalidRequest("the body must be a JSON object")
    return plain


def _closing(answer: HttpAnswer, error: HardcaseError) -> Response:
    """An answer to a request whose body was not read to its end: the connection cannot be used again."""
    response = to_response(answer)
    if error.http_status in (413, ReceiveTimeout.http_status, HeadTooLarge.http_status):
        response.headers["connection"] = "close"
    return response


class _Durable:
    """Waits until the writer's thread has reported every item of one request."""

    def __init__(self, items: int) -> None:
        self._left = items
        self._loop = asyncio.get_running_loop()
        self.all: asyncio.Future[None] = self._loop.create_future()

    def count_down(self) -> None:
        """One item more is in the log. Called from the writer's thread."""
        self._loop.call_soon_threadsafe(self._count_down)

    def _count_down(self) -> None:
        self._left -= 1
        if self._left == 0 and not self.all.done():
            self.all.set_result(None)


async def _finish(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


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
