"""Where the parts of a ModelInferRequest lie in its bytes, found without decoding it.

Clients send the same few hundred bytes before ever new tensors: names, shapes and wanted outputs, then the raw
contents. `scan` splits a message into that head, the request's id, and the places of the raw contents, so that the head
can be looked up instead of parsed and the tensors can be used where they lie. It takes only the canonical layout, the
one that every serialiser writes: fields in order of their numbers, raw contents last. Anything else is for protobuf.
"""

from __future__ import annotations

from typing import Any

# Tags of the top-level fields of ModelInferRequest; all are length-delimited.
_ID = 0x1A  # field 3
_OUTPUTS = 0x32  # field 6
_RAW = 0x3A  # field 7
_TAGS = frozenset((0x0A, 0x12, _ID, 0x22, 0x2A, _OUTPUTS))
_MAX_VARINT_BYTES = 5  # lengths below 2^31, as protobuf has them


class InferMessage:
    """One ModelInferRequest on its way to the parser of its version.

    Attributes:
        body: The whole message.
        head: The message without id and raw contents; None when the layout is not canonical.
        id: The id's bytes; empty for none, and when `head` is None.
        raws: Begin and end of each raw content; empty when `head` is None.
        timeout_ns: What is left of the caller's deadline; 0 for none.
        message: The decoded head or message, once somebody has decoded it.
    """

    __slots__ = ("body", "head", "id", "message", "raws", "timeout_ns")

    def __init__(self, body: bytes, head: bytes | None, request_id: bytes, raws: list[tuple[int, int]]) -> None:
        self.body = body
        self.head = head
        self.id = request_id
        self.raws = raws
        self.timeout_ns = 0
        self.message: Any = None


def scan(body: bytes) -> InferMessage:
    """Split a message; `head` is None for what only protobuf can judge, malformed messages among them.

    Args:
        body: A serialised ModelInferRequest, or any other bytes.
    """
    at = previous = id_at = id_end = 0
    request_id = b""
    end = len(body)
    raws: list[tuple[int, int]] = []
    try:
        while at < end:
            tag = body[at]
            if tag == _RAW:
                break
            if tag not in _TAGS or tag < previous or (tag == _ID == previous):
                return InferMessage(body, None, b"", [])
            previous = tag
            length = body[at + 1]
            start = at + 2
            if length > 0x7F:
                length, start = _varint(body, at + 1)
            stop = start + length
            if tag == _ID:
                id_at, id_end = at, stop
                request_id = body[start:stop]
            at = stop
        head_end = at
        while at < end:
            if body[at] != _RAW:
                return InferMessage(body, None, b"", [])
            length = body[at + 1]
            start = at + 2
            if length > 0x7F:
                length, start = _varint(body, at + 1)
            at = start + length
            raws.append((start, at))
    except IndexError:
        return InferMessage(body, None, b"", [])
    if at != end:
        return InferMessage(body, None, b"", [])
    head = body[:id_at] + body[id_end:head_end] if id_end else body[:head_end]
    return InferMessage(body, head, request_id, raws)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """A length and where what it measures begins.

    Raises:
        IndexError: no varint of a length is here.
    """
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        byte = body[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise IndexError
