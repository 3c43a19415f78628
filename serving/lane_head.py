"""The head of an HTTP request as the fast lane needs it; None for requests that have to go the normal way."""

from __future__ import annotations

from dataclasses import dataclass

import httptools

from serving.call import Call


@dataclass(frozen=True, slots=True)
class LaneHead:
    """What the head of an inference request says; equal bytes always give equal heads."""

    call: Call
    content_length: int
    authorization: bytes | None
    accept_encoding: bytes | None


class _HeadReader:
    """Parses one head with the same parser that uvicorn uses, and says whether the lane can take the request."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~")
_ONCE = (b"content-length", b"inference-header-content-length", b"authorization", b"host")
_SPECIAL = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"))


def read_head(head: bytes, sticky_header: bytes = b"") -> LaneHead | None:
    """The head as the lane needs it; None when the request has to go the normal way.

    Args:
        head: Request line and headers, with the blank line.
        sticky_header: Lower-case name of the header that keeps a client on one variant; empty for none.
    """
    reader = _HeadReader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    plain = reader.complete and parser.get_method() == b"POST" and parser.get_http_version() == "1.1"
    if not plain or not parser.should_keep_alive():
        return None
    parts = reader.url.split(b"/")  # "", v2, models, {m}, [versions, {v},] infer
    if len(parts) == 5 and parts[4] == b"infer":
        version = None
    elif len(parts) == 7 and parts[4] == b"versions" and parts[6] == b"infer":
        version = parts[5].decode("ascii", "replace")
    else:
        return None
    if not parts[3] or not _PLAIN.issuperset(parts[3]) or (version is not None and not _PLAIN.issuperset(parts[5])):
        return None  # percent-encoded or odd names: the router decides
    names = [name for name, _ in reader.headers]
    if any(names.count(name) > 1 for name in _ONCE):
        return None
    fields = dict(reader.headers)
    if not _SPECIAL.isdisjoint(names):
        return None
    length = fields.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 18:
        return None
    return LaneHead(
        call=Call(
            model=parts[3].decode(),
            version=version,
            header_length=fields.get(b"inference-header-content-length"),
            sticky=fields.get(sticky_header),
            traceparent=fields.get(b"traceparent"),
            tracestate=fields.get(b"tracestate"),
        ),
        content_length=int(length),
        authorization=fields.get(b"authorization"),
        accept_encoding=fields.get(b"accept-encoding"),
    )
