"""The edge of the ASGI app: who may pass, what an error looks like, and what happens to the unexpected."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from export.contracts.errors import Forbidden, MethodNotAllowed, NotFound, Unauthenticated
from serving.app_receive import UNREAD
from serving.auth import Authenticator
from serving.dataplane import DataPlane, HttpAnswer, error_answer
from serving.http_limits import compress
from serving.served import ServedModel
from serving.stats import ServerStats

# The only two paths that answer without a credential. Orchestrators probe them and have none; they tell nothing but yes
# or no. Everything else asks: metadata and metrics name models, an unknown path must not tell that it is unknown.
OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
# Key in an ASGI scope: name of the API key that the request came with.
CALLER = "hardcase.caller"


class Boundary:
    """ASGI middleware around the whole app: authentication before routing, a fixed text for what nobody expected.

    Args:
        app: What comes after.
        auth: Checks the Authorization header of everything outside `OPEN_PATHS`.
        stats: Where refused credentials are counted.
    """

    def __init__(self, app: ASGIApp, auth: Authenticator, stats: ServerStats) -> None:
        self._app = app
        self._auth = auth
        self._stats = stats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope; only `http` exists here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a websocket without an answer is refused by the server
        started = False

        async def remember(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start" and scope.get(UNREAD):
                # Part of the body was never read: where the next request would begin is not known.
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            if scope["path"] not in OPEN_PATHS:
                scope[CALLER] = self._auth.check(_authorization(scope))
            await self._app(scope, receive, remember)
        except ClientDisconnect:
            return  # nobody is left to be answered
        except Unauthenticated as error:
            self._stats.unauthenticated += 1
            await to_response(error_answer(error))(scope, receive, remember)
        except Exception as error:
            if started:
                raise  # half an answer went out: only closing the connection tells the client
            await to_response(error_answer(error))(scope, receive, remember)


def _authorization(scope: Scope) -> bytes | None:
    given = [bytes(value) for name, value in scope["headers"] if name == b"authorization"]
    if len(given) > 1:
        raise Unauthenticated("header 'Authorization' is given twice")
    return given[0] if given else None


def to_response(answer: HttpAnswer, accept_encoding: bytes | None = None) -> Response:
    """The data plane's answer as a Starlette response, compressed when the client asks; errors never are."""
    body, encoding = compress(answer.body, accept_encoding if answer.status == 200 else None)
    response = Response(body, answer.status)
    raw = [(name, value) for name, value in answer.headers if name.lower() != b"content-length"]
    if encoding is not None:
        raw += [(b"content-encoding", encoding), (b"vary", b"accept-encoding")]
    response.raw_headers = [*raw, (b"content-length", b"%d" % len(body))]
    return response


def http_error(error: HTTPException) -> Response:
    """Starlette's own errors (no such route, another method) in the protocol's form."""
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        response = to_response(error_answer(MethodNotAllowed(f"method not allowed; this path takes {allow}")))
        response.headers["allow"] = allow
        return response
    if error.status_code == 404:
        return to_response(error_answer(NotFound("no such path; the protocol's paths begin with /v2")))
    return to_response(error_answer(error))


def refuse_cross_site(request: Request) -> None:
    """Refuse a state change that a web page on another site asks a visitor's browser to make.

    A loopback server without credentials would otherwise obey any page that the developer has open. Browsers send
    `Origin` with every cross-origin POST and `Sec-Fetch-Site` with all; other clients send neither.

    Raises:
        Forbidden: the request comes from a page of another origin.
    """
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    if site not in ("none", "same-origin"):
        raise Forbidden("header 'Sec-Fetch-Site': state changes from other sites are refused")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden("header 'Origin': state changes from other sites are refused")


def json_response(value: Any, status: int = 200) -> Response:
    """JSON that is never compressed.

    tritonclient's asyncio client lets aiohttp ask for gzip, and reads everything but inference answers as it comes.
    """
    return Response(orjson.dumps(value), status, media_type="application/json")


def served_model(plane: DataPlane, model: str) -> ServedModel:
    """A model that this process hosts.

    Raises:
    NotFound: it hosts no such model.
    """
    served = plane.pool.models.get(model)
    if served is None:
        raise NotFound(f"unknown model '{model[:64]}'")
    return served
