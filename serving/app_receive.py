"""How the ASGI app reads a body: length first, then chunk by chunk under the limits and one absolute deadline."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from export.contracts.errors import InvalidRequest
from serving.http_limits import (
    IDENTITY,
    BodyCollector,
    check_content_length,
    inflate,
    receive_timeout,
    request_encoding,
)
from serving.options import Limits

# Key in an ASGI scope: the body was asked for and has not arrived to its end.
UNREAD = "hardcase.unread"


def raw_header(request: Request, name: bytes) -> bytes | None:
    """The first header called `name` (lower case), as it was sent."""
    for key, value in request.scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def only_header(request: Request, name: bytes) -> bytes | None:
    """The header called `name`, which must not be given twice: two readers could choose differently.

    Raises:
        InvalidRequest: it is given more than once.
    """
    values = [bytes(value) for key, value in request.scope["headers"] if key == name]
    if len(values) > 1:
        raise InvalidRequest(f"header '{name.decode().title()}' is given twice")
    return values[0] if values else None


async def receive_body(request: Request, limits: Limits, max_bytes: int | None = None) -> bytes:
    """Read and inflate the whole body.

    Args:
        request: Whose body nobody has read yet.
        limits: `body_bytes` holds for the body as sent and as inflated, `receive_s` for its arrival.
        max_bytes: A tighter limit for routes that need little.

    Raises:
        InvalidRequest, PayloadTooLarge, UnsupportedMedia, ReceiveTimeout: see `serving.http_limits`.
        ClientDisconnect: the client went away.
    """
    limit = limits.body_bytes if max_bytes is None else min(max_bytes, limits.body_bytes)
    if limit != limits.body_bytes:
        limits = Limits(body_bytes=limit, chunks=limits.chunks, receive_s=limits.receive_s)
    # All that can be judged by the head is judged before a byte of the body is asked for: a client that sent
    # `Expect: 100-continue` then gets the final answer instead of the invitation.
    request.scope[UNREAD] = True
    encoding = request_encoding(only_header(request, b"content-encoding"))
    collector = BodyCollector(limits, check_content_length(raw_header(request, b"content-length"), limits))
    try:
        async with asyncio.timeout(limits.receive_s):
            await _collect(request, collector)
    except TimeoutError:
        raise receive_timeout(limits, "body") from None
    request.scope[UNREAD] = False
    body = collector.finish()
    if encoding == IDENTITY:
        return body
    # zlib releases the GIL; the loop goes on answering others while a large body inflates.
    return await asyncio.to_thread(inflate, body, encoding, limit)


async def _collect(request: Request, collector: BodyCollector) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if chunk := message.get("body", b""):
            collector.count_chunk()
            collector.feed(bytes(chunk))
        if not message.get("more_body", False):
            return
