"""What the fast lane puts around an answer: the Date header, and compression when the client asks for it."""

from __future__ import annotations

from time import time
from wsgiref.handlers import format_date_time

from serving.http_limits import compress


def compressed(headers: bytes, body: bytes, accept: bytes) -> tuple[bytes, bytes]:
    """An answer as the client's Accept-Encoding wants it."""
    body, encoding = compress(body, accept)
    if encoding is None:
        return headers, body
    lines = [line for line in headers.split(b"\r\n") if line and not line.startswith(b"content-length:")]
    lines += [b"content-encoding: " + encoding, b"vary: accept-encoding", b"content-length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n", body


class _Clock:
    """The Date header, made once a second."""

    second = 0
    line = b""


def date_line() -> bytes:
    """The Date header of now."""
    second = int(time())
    if second != _Clock.second:
        _Clock.second = second
        _Clock.line = b"date: " + format_date_time(second).encode() + b"\r\n"
    return _Clock.line
