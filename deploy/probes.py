"""Small questions to services on this machine, answered in a moment or not at all. Standard library only."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether GET of `url` is answered with 200 now."""
    return get(url, timeout_s)[0] == 200


def get(url: str, timeout_s: float = 2.0, *, token: str | None = None) -> tuple[int, bytes]:
    """Status and body of a GET; status 0 when there is no answer. Never follows a redirect or a proxy."""
    return _ask("GET", url, timeout_s, b"", token)


def post_json(url: str, body: Any, timeout_s: float = 2.0, *, token: str | None = None) -> tuple[int, bytes]:
    """Status and body of a POST of JSON; status 0 when there is no answer."""
    return _ask("POST", url, timeout_s, json.dumps(body).encode(), token)


def _ask(method: str, url: str, timeout_s: float, body: bytes, token: str | None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json"} if body else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        connection.request(method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()
