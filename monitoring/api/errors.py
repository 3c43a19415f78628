"""The one place that turns an exception into an answer of the monitor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from export.contracts.errors import HardcaseError, Overloaded
from monitoring.people.roster import TooSoon

log = logging.getLogger(__name__)

INTERNAL_TEXT = "the monitor failed to answer: its log says why"
_TEXTS = {404: "there is nothing at this address", 405: "this address expects another HTTP method"}


def install(app: FastAPI, page: Any) -> None:
    """Register the handlers.

    Args:
        app: The application.
        page: `page(request, status, text) -> Response` draws the same error for a person; used outside `/api`.
    """

    def answer(request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
        if wants_page and request.query_params.get("format") != "json":
            response: Response = page(request, status, text)
        else:
            response = JSONResponse({"error": text}, status)
        response.headers.update(headers or {})
        return response

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, HardcaseError)
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Overloaded | TooSoon) else None
        return answer(request, error.http_status, error.message, headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, 400, _words(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(
            request, error.status_code, _TEXTS.get(error.status_code, str(error.detail)), dict(error.headers or {})
        )

    def unexpected(request: Request) -> Response:
        return answer(request, 500, INTERNAL_TEXT)

    app.add_exception_handler(HardcaseError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_middleware(Unexpected, answer=unexpected)


class Unexpected:
    """Answers what nobody expected with a fixed text, and logs it.

    Starlette's own handler for `Exception` raises again after the answer, and the server then cuts the connection.
    """

    def __init__(self, app: ASGIApp, answer: Callable[[Request], Response]) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; when that raises before an answer has begun, answer 500."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if begun or scope["type"] != "http":
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            await self._answer(Request(scope, receive))(scope, receive, send)


def _words(error: RequestValidationError) -> str:
    """The first complaint: which field, and what is wrong with it."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "body"
    text = str(first["msg"]).removeprefix("Value error, ")
    return f"{place[:100]}: {text[0].lower()}{text[1:]}"
