"""The one place that maps errors to HTTP: status, headers and the body `{"error": text}`."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from export.contracts.errors import HardcaseError, MethodNotAllowed, Overloaded, Unauthenticated, Unavailable

INTERNAL_TEXT = "internal error"


def error_body(error: HardcaseError) -> tuple[int, bytes, bytes]:
    """Status, header lines ended by a blank line, and body of an error's answer."""
    if isinstance(error, Overloaded):  # few texts, and a great many answers when it is urgent
        return _overloaded_body(error.message, error.retry_after_s)
    return _body(error)


@lru_cache(256)
def _overloaded_body(message: str, retry_after_s: int) -> tuple[int, bytes, bytes]:
    return _body(Overloaded(message, retry_after_s))


def _body(error: HardcaseError) -> tuple[int, bytes, bytes]:
    body = msgspec.json.encode({"error": error.message})
    lines = [b"content-type: application/json", b"content-length: %d" % len(body)]
    lines += [b"%s: %s" % (name, value) for name, value in error_headers(error)]
    return error.http_status, b"\r\n".join(lines) + b"\r\n\r\n", body


def error_headers(error: HardcaseError) -> list[tuple[bytes, bytes]]:
    """Headers that an error asks for beyond type and length."""
    if isinstance(error, Overloaded):
        return [(b"retry-after", b"%d" % error.retry_after_s)]
    if isinstance(error, Unavailable):
        return [(b"retry-after", b"1")]
    if isinstance(error, Unauthenticated):
        return [(b"www-authenticate", b"Bearer")]
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", b"POST")]
    return []
