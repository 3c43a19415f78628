"""The routes about what is served: feedback, the repository extension, and the traffic plans that are followed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from export.contracts import codec
from export.contracts.errors import InvalidRequest, NotSupported, Unavailable
from export.contracts.privacy import policy_of
from serving import app_answers as answers
from serving.app_boundary import json_response, refuse_cross_site, served_model
from serving.app_receive import receive_body
from serving.dataplane import DataPlane
from serving.feedback import MAX_BODY_BYTES, read_feedback, without_redacted
from serving.traffic_report import traffic_report

# How long feedback may wait for the record log before the client is told to send it again.
FEEDBACK_WAIT_S = 5.0


class ControlRoutes:
    """One method a route."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def add_to(self, app: FastAPI) -> None:
        """Register every route."""
        for path, handler in (
            ("/v2/models/{model}/feedback", self.feedback),
            ("/v2/repository/index", self.index),
            ("/v2/repository/models/{model}/load", self.load),
            ("/v2/repository/models/{model}/unload", self.unload),
        ):
            app.add_route(path, handler, methods=["POST"])
        app.add_route("/v2/repository/traffic", self.traffic, methods=["GET"])

    async def feedback(self, request: Request) -> Response:
        """Ground truth or an opinion about earlier answers; 202 once it is in the record log."""
        refuse_cross_site(request)
        model = request.path_params["model"]
        served_model(self._plane, model)
        writer = self._plane.writer
        if writer is None:
            raise NotSupported("feedback needs the record log, which is switched off (setting serving.capture)")
        items = read_feedback(
            await receive_body(request, self._plane.options.limits, MAX_BODY_BYTES), model, time.time_ns()
        )
        durable = _Durable(len(items))
        policy = policy_of(self._plane.options.privacy, model)
        for item in items:
            writer.feedback(without_redacted(item, policy), durable.count_down)
        try:
            async with asyncio.timeout(FEEDBACK_WAIT_S):
                kept = await durable.all
        except TimeoutError:
            raise Unavailable("the record log is slow: the feedback may be lost, send it again later") from None
        if not kept:
            raise Unavailable("the record log could not keep the feedback: its disk or quota is full")
        return json_response({"accepted": len(items)}, 202)

    async def index(self, request: Request) -> Response:
        """Every version that this process hosts or tried to host, with its state and reason."""
        options = _object(await receive_body(request, self._plane.options.limits, MAX_BODY_BYTES))
        ready = options.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequest("'ready' must be true or false")
        return json_response(answers.repository_index(self._plane.pool.index(), ready))

    async def traffic(self, request: Request) -> Response:
        """Which traffic plans this process follows, and how far it is."""
        return json_response(codec.to_plain(traffic_report(self._plane.pool.models.values())))

    async def load(self, request: Request) -> Response:
        """Load a registered version and keep it; never bytes, never a URL."""
        model, version = await self._repository_request(request)
        await self._plane.pool.load(model, version)
        return json_response({})

    async def unload(self, request: Request) -> Response:
        """Let go of a version that `load` pinned."""
        model, version = await self._repository_request(request)
        await self._plane.pool.unload(model, version)
        return json_response({})

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


class _Durable:
    """Waits until the writer's thread has reported every item of one request."""

    def __init__(self, items: int) -> None:
        self._left = items
        self._loop = asyncio.get_running_loop()
        self._kept = True
        self.all: asyncio.Future[bool] = self._loop.create_future()  # whether every one is in the log

    def count_down(self, kept: bool) -> None:
        """What became of one item more. Called from the writer's thread."""
        self._loop.call_soon_threadsafe(self._count_down, kept)

    def _count_down(self, kept: bool) -> None:
        self._left -= 1
        self._kept = self._kept and kept
        if self._left == 0 and not self.all.done():
            self.all.set_result(self._kept)
