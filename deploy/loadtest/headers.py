"""Header blocks of gRPC calls: written without any table, and searched for `grpc-status`.

We announce a dynamic table of size zero, so blocks stand on their own: equal bytes mean equal headers, and a block that
was read once is known for good.

References:
    RFC 7541, HPACK: Header Compression for HTTP/2, 2015; sections 5.1 (integers), 5.2 (strings), 6.2.2 (literals), and
    appendix A (static table).
"""

from __future__ import annotations

from collections.abc import Sequence

import hpack

_METHOD_POST, _SCHEME_HTTP, _SCHEME_HTTPS = b"\x83", b"\x86", b"\x87"
_PATH, _AUTHORITY = 4, 1  # names in the static table
GRPC_STATUS = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


def request_block(authority: str, path: str, metadata: Sequence[tuple[str, str]], *, tls: bool) -> bytes:
    """The header block of a gRPC call, without Huffman and without any table."""
    parts = [_METHOD_POST, _SCHEME_HTTPS if tls else _SCHEME_HTTP]
    parts += [_integer(_PATH, 4) + _string(path), _integer(_AUTHORITY, 4) + _string(authority)]
    fixed = (("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "hardcase-bench"))
    for name, value in (*fixed, *metadata):
        parts.append(b"\x00" + _string(name) + _string(value))
    return b"".join(parts)


def call_outcome(block: bytes) -> str:
    """How a call ended, by its trailers: "OK", another status's name, or what is wrong with them.

    Example:
        >>> call_outcome(bytes.fromhex("88000b") + b"grpc-status" + bytes([1]) + b"8")
        'RESOURCE_EXHAUSTED'
    """
    try:
        found = read_block(block)
    except ValueError:
        return "unreadable trailers"
    http, grpc = found.get(":status", "200"), found.get("grpc-status", "")
    if grpc.isdigit() and int(grpc) < len(GRPC_STATUS):
        return GRPC_STATUS[int(grpc)]
    return f"http {http}" if http != "200" else "no status"


def read_block(block: bytes) -> dict[str, str]:
    """The headers of a block that refers to no dynamic table.

    Raises:
        ValueError: it is no header block, or not one of ours.
    """
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    try:
        return {_text(name): _text(value) for name, value in decoder.decode(block, raw=True)}
    except (hpack.HPACKError, IndexError) as error:
        raise ValueError(f"not a header block: {error}") from None


def _text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode("latin-1")


def _integer(value: int, bits: int) -> bytes:
    """5.1: an integer with a prefix of `bits` bits, the others zero."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    out, value = [most], value - most
    while value >= 128:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _string(text: str) -> bytes:
    data = text.encode("latin-1")
    return _integer(len(data), 7) + data
