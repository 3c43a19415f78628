"""What one HTTP body may cost: size, chunks, inflation; and which compression an answer gets. Pure, for both lanes.

Nothing here knows a socket, a clock or an event loop. The fast lane and the ASGI app feed chunks as they arrive and
turn the raised error into an answer. After any of these errors the connection's position in the byte stream is not
known (part of the body was never read), so the answer must carry `Connection: close`.

    collector = BodyCollector(limits, content_length=head.content_length)
    collector.feed(chunk)            # raises PayloadTooLarge before the body is held
    body = inflate(collector.finish(), head.content_encoding, limits.body_bytes)
"""

from __future__ import annotations

import zlib

from export.contracts.errors import ClientError, InvalidRequest, PayloadTooLarge, UnsupportedMedia
from serving.options import Limits

# RFC 1952 lets a gzip file have many members. Empty members are 20 bytes each, and each costs a new inflater, so a body
# of 64 MiB could ask for three million of them. Encoders of request bodies write one.
MAX_GZIP_MEMBERS = 16
# Below this an answer is sent as it is: gzip's own header and trailer and the client's work cost more than is saved.
MIN_COMPRESS_BYTES = 512
# Level 1 runs at about 100 MB/s; higher levels gain a few per cent on tensors and cost several times the CPU.
COMPRESS_LEVEL = 1
_INFLATE_AT_LEAST = 1 << 16
# A receiving server may not judge longer strings; 19 digits are already 10 exabytes.
_MAX_LENGTH_DIGITS = 19

IDENTITY = "identity"


class ReceiveTimeout(ClientError):
    """The request did not arrive within `limits.receive_s`. The answer closes the connection (RFC 9110, 15.5.9)."""

    code = "receive_timeout"
    http_status = 408
    grpc_status = "DEADLINE_EXCEEDED"


class HeadTooLarge(ClientError):
    """Request line and headers are over `limits.head_bytes` (RFC 6585, section 5)."""

    code = "head_too_large"
    http_status = 431
    grpc_status = "RESOURCE_EXHAUSTED"


def receive_timeout(limits: Limits, part: str) -> ReceiveTimeout:
    """The error for a request whose `part` ("headers" or "body") came too slowly."""
    return ReceiveTimeout(f"the request's {part} did not arrive within {limits.receive_s:g} s")


def head_too_large(limits: Limits) -> HeadTooLarge:
    """The error for a head that grew past its limit."""
    return HeadTooLarge(f"request line and headers are larger than {limits.head_bytes} bytes")


def check_content_length(raw: bytes | None, limits: Limits) -> int | None:
    """Read a Content-Length header before any of the body is read.

    Args:
        raw: The header's value, or None when there is none.
        limits: `body_bytes` is checked.

    Returns:
        The announced length, or None.

    Raises:
        InvalidRequest: not a plain decimal number.
        PayloadTooLarge: more than the server would read: answer now, do not wait for the body.
    """
    if raw is None:
        return None
    if not raw.isdigit():
        raise InvalidRequest("header 'Content-Length' is not a decimal number")
    if len(raw) > _MAX_LENGTH_DIGITS or (length := int(raw)) > limits.body_bytes:
        raise PayloadTooLarge(f"header 'Content-Length' is over the limit of {limits.body_bytes} bytes for a body")
    return length


class BodyCollector:
    """Holds one request body while it arrives, and refuses it as soon as it is over a limit.

    Args:
        limits: `body_bytes` and `chunks` are enforced.
        content_length: What the head announced, from `check_content_length`; None for a chunked body.
    """

    __slots__ = ("_chunks", "_content_length", "_limit", "_max_chunks", "_parts", "_size")

    def __init__(self, limits: Limits, content_length: int | None = None) -> None:
        self._limit = limits.body_bytes
        self._max_chunks = limits.chunks
        self._content_length = content_length
        self._parts: list[bytes] = []
        self._size = 0
        self._chunks = 0

    @property
    def size(self) -> int:
        """Bytes held so far."""
        return self._size

    def feed(self, chunk: bytes) -> None:
        """Add bytes.

        Raises:
            PayloadTooLarge: the body is over the limit; what was held is let go.
        """
        self._size += len(chunk)
        if self._size > self._limit:
            self._parts = []
            raise PayloadTooLarge(f"the body is larger than {self._limit} bytes")
        self._parts.append(chunk)

    def count_chunk(self) -> None:
        """Note the head of one chunk of a chunked body. Chunks cost more than their bytes, so their number is bounded.

        Raises:
            PayloadTooLarge: more chunks than the limit.
        """
        self._chunks += 1
        if self._chunks > self._max_chunks:
            self._parts = []
            raise PayloadTooLarge(f"the body has more than {self._max_chunks} chunks")

    def finish(self) -> bytes:
        """The whole body.

        Raises:
            InvalidRequest: fewer or more bytes came than Content-Length announced.
        """
        parts, self._parts = self._parts, []
        if self._content_length is not None and self._size != self._content_length:
            raise InvalidRequest(
                f"the body has {self._size} bytes, header 'Content-Length' says {self._content_length}"
            )
        return parts[0] if len(parts) == 1 else b"".join(parts)


def request_encoding(raw: bytes | None) -> str:
    """The encoding named by a request's Content-Encoding header: "identity", "gzip" or "deflate".

    Raises:
        UnsupportedMedia: another encoding, or several on top of each other.
    """
    if not raw:
        return IDENTITY
    name = raw.strip().lower()
    if name in (b"gzip", b"x-gzip"):
        return "gzip"
    if name == b"deflate":
        return "deflate"
    if name in (b"identity", b""):
        return IDENTITY
    raise UnsupportedMedia("header 'Content-Encoding' must be gzip, deflate or identity, and only one of them")


def inflate(body: bytes, encoding: bytes | str | None, limit: int) -> bytes:
    """Undo a request's Content-Encoding without ever holding more than `limit` inflated bytes.

    "deflate" means the zlib format (RFC 9110 8.4.1.2); a raw DEFLATE stream, which some clients send, is read as well.
    The inflater releases the GIL: a caller on an event loop hands large bodies to a thread.

    Args:
        body: The body as received.
        encoding: The raw header, or the result of `request_encoding`.
        limit: Largest inflated size in bytes.

    Raises:
        UnsupportedMedia: see `request_encoding`.
        PayloadTooLarge: it inflates to more than `limit`.
        InvalidRequest: damaged, cut short, or followed by other bytes.
    """
    name = request_encoding(encoding.encode() if isinstance(encoding, str) else encoding)
    if name == IDENTITY:
        return body
    try:
        return _gunzip(body, limit) if name == "gzip" else _inflate_deflate(body, limit)
    except zlib.error:
        raise InvalidRequest(f"the body is not valid {name} data") from None


def _gunzip(body: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    room, rest = limit, body
    for _ in range(MAX_GZIP_MEMBERS):
        part, rest = _inflate_one(rest, zlib.MAX_WBITS | 16, room, limit, "gzip")
        parts.append(part)
        room -= len(part)
        if not rest:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise InvalidRequest(f"the gzip body has more than {MAX_GZIP_MEMBERS} members")


def _inflate_deflate(body: bytes, limit: int) -> bytes:
    # RFC 1950: the low nibble of the first byte is 8 and the first two bytes are a multiple of 31.
    zlib_header = len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    out, rest = _inflate_one(body, zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS, limit, limit, "deflate")
    if rest:
        raise InvalidRequest("bytes follow the end of the deflate body")
    return out


def _inflate_one(data: bytes, wbits: int, room: int, limit: int, name: str) -> tuple[bytes, bytes]:
    """One compressed stream at the start of `data`, and the bytes after it."""
    inflater = zlib.decompressobj(wbits)
    # zlib holds twice what one call returns while it joins its blocks: in quarters, a bomb costs little over the limit.
    step = max(room // 4, _INFLATE_AT_LEAST) + 1
    parts: list[bytes] = []
    size = 0
    while True:
        # One byte past the room tells "exactly full" from "more to come"; zlib treats 0 as "no limit".
        part = inflater.decompress(data, min(step, room - size + 1))
        size += len(part)
        if size > room:
            raise PayloadTooLarge(f"the {name} body inflates to more than {limit} bytes")
        parts.append(part)
        data = inflater.unconsumed_tail
        if inflater.eof:
            return parts[0] if len(parts) == 1 else b"".join(parts), inflater.unused_data
        if not data and len(part) < step:
            raise InvalidRequest(f"the {name} body is cut short")


def answer_encoding(accept: bytes | None) -> str | None:
    """Which compression an Accept-Encoding header asks for: "gzip", "deflate", or None (RFC 9110, 12.5.3).

    The higher weight wins; gzip wins a tie. "*" stands for gzip unless gzip is named itself.

    Example:
        >>> answer_encoding(b"gzip;q=0, deflate")
        'deflate'
    """
    if not accept:
        return None
    weights: dict[str, float] = {}
    for item in accept.lower().split(b","):
        name, *parameters = (piece.strip() for piece in item.split(b";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith(b"q="):
                weight = _weight(parameter[2:])
        weights[name.decode("latin-1")] = weight
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    deflate = weights.get("deflate", 0.0)
    if max(gzip, deflate) <= 0.0 or weights.get(IDENTITY, 0.0) > max(gzip, deflate):
        return None
    return "gzip" if gzip >= deflate else "deflate"


def _weight(raw: bytes) -> float:
    try:
        weight = float(raw)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0


def compress(body: bytes, accept: bytes | None) -> tuple[bytes, bytes | None]:
    """Compress an answer when it was asked for and is worth it.

    Returns:
        The body to send and the value of its Content-Encoding header, None when it is sent as it is.
    """
    if len(body) < MIN_COMPRESS_BYTES or (name := answer_encoding(accept)) is None:
        return body, None
    deflater = zlib.compressobj(COMPRESS_LEVEL, wbits=zlib.MAX_WBITS | (16 if name == "gzip" else 0))
    return deflater.compress(body) + deflater.flush(), name.encode()
