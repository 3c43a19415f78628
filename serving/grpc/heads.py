"""Heads of gRPC calls: from HPACK blocks to what the lane needs, and from a status to trailers.

A client's calls differ in their bodies; their header blocks are the same dozen bytes once HPACK's table has learnt the
fields. So a block that left the table as it was is remembered, until a block changes the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import hpack
from hpack.table import HeaderTable

from export.contracts.errors import HardcaseError, InvalidRequest, NotSupported, Unauthenticated
from serving.grpc.http2 import Code, Http2Error, header_block
from serving.grpc.service import PLAIN, GrpcService, Metadata
from serving.grpc.status import Status

_HEADS_KEPT = 256
_KEY_BYTES = 1024
_UNITS_NS = {72: 3_600_000_000_000, 77: 60_000_000_000, 83: 1_000_000_000, 109: 1_000_000, 117: 1000, 110: 1}
_LONGEST_NS = 1 << 62
ENCODINGS = {b"": "", b"identity": "", b"gzip": "gzip", b"deflate": "deflate"}
_MESSAGE_BYTES = 2048  # of an error's text; clients limit what trailers may hold
_SAFE = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"  # what grpc-message carries as it is

RESPONSE_HEAD = b"\x88" + header_block(((b"content-type", b"application/grpc"),))
OK_TRAILERS = header_block(((b"grpc-status", b"0"),))


@dataclass(frozen=True, slots=True)
class CallHead:
    """A call before its messages.

    Attributes:
        path: The method.
        metadata: Who calls, and what the data plane wants to know.
        timeout_ns: What the caller gives it; 0 for none.
        encoding: Of compressed messages: "", "gzip" or "deflate".
        refusal: Why the call ends before it begins; None when it does not.
        http_status: Not 200 for what is not gRPC at all.
    """

    path: str = ""
    metadata: Metadata = PLAIN
    timeout_ns: int = 0
    encoding: str = ""
    refusal: HardcaseError | None = None
    http_status: int = 200


class _Table(HeaderTable):
    """A table that counts its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Called by the decoder."""
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """Bytes that the table may hold."""
        return super().maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.__set__(self, newmax)  # type: ignore[attr-defined]


class HeadReader:
    """Reads the header blocks of one connection.

    Args:
        service: Checks credentials.
        head_bytes: Largest list of header fields.
    """

    def __init__(self, service: GrpcService, head_bytes: int) -> None:
        self._service = service
        self._decoder = hpack.Decoder(max_header_list_size=head_bytes)
        self._table = _Table()
        self._decoder.header_table = self._table
        self._known: dict[bytes, CallHead] = {}

    def read(self, block: bytes) -> CallHead:
        """The head of a block.

        Raises:
            Http2Error: it cannot be decoded; the connection's table is lost with it.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        before = self._table.changes
        try:
            fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, "header fields over the limit") from None
        except (hpack.HPACKError, IndexError, ValueError, UnicodeDecodeError):
            raise Http2Error(Code.COMPRESSION_ERROR, "header block cannot be decoded") from None
        head = self._head(fields)
        if self._table.changes != before:
            self._known.clear()
        elif head.refusal is None and len(block) <= _KEY_BYTES:
            if len(self._known) >= _HEADS_KEPT:
                self._known.clear()
            self._known[block] = head
        return head

    def _head(self, fields: list[tuple[bytes, bytes]]) -> CallHead:
        given = dict(fields)
        path = given.get(b":path", b"").decode("latin-1")
        if given.get(b":method") != b"POST" or not given.get(b"content-type", b"").startswith(b"application/grpc"):
            return CallHead(path, http_status=415 if given.get(b":method") == b"POST" else 405)
        metadata = {name: value for name, value in given.items() if name in self._service.wanted_keys}
        try:
            if sum(name == b"authorization" for name, _ in fields) > 1:
                raise Unauthenticated("metadata 'authorization' is given twice")
            known = self._service.metadata(path, metadata)
            encoding = ENCODINGS.get(given.get(b"grpc-encoding", b""))
            if encoding is None:
                raise NotSupported("metadata 'grpc-encoding' must be gzip, deflate or identity")
            return CallHead(path, known, read_timeout(given.get(b"grpc-timeout")), encoding)
        except HardcaseError as error:
            return CallHead(path, refusal=error)


def read_timeout(value: bytes | None) -> int:
    """A `grpc-timeout` in nanoseconds; 0 without one.

    Raises:
        InvalidRequest: it is not one to eight digits and a unit.

    Example:
        >>> read_timeout(b"250m"), read_timeout(None)
        (250000000, 0)
    """
    if value is None:
        return 0
    digits, unit = value[:-1], _UNITS_NS.get(value[-1] if value else 0)
    if unit is None or not digits.isdigit() or len(digits) > 8:
        raise InvalidRequest("metadata 'grpc-timeout' must be at most eight digits and one of H M S m u n")
    return max(1, min(int(digits) * unit, _LONGEST_NS))


def trailers_of(status: Status) -> bytes:
    """A status as a block of trailers."""
    fields = [(b"grpc-status", b"%d" % status.code)]
    if status.message:
        fields.append((b"grpc-message", quote(status.message[:_MESSAGE_BYTES], safe=_SAFE).encode()))
    fields += [(name.encode(), value.encode()) for name, value in status.trailers]
    return header_block(fields)
