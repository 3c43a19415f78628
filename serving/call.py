"""What a transport knows about an inference request besides its body."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ANONYMOUS = "anonymous"


class Transport(StrEnum):
    """How a request came in, and so how its body is written."""

    HTTP = "http"  # JSON with binary tensors behind it
    GRPC = "grpc"  # a ModelInferRequest message


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The head of an inference request, free of its transport. Equal heads may share one, so it holds no request's own.

    Attributes:
        model: Name from the path, percent-decoded.
        version: Version from the path, None when the traffic plan chooses.
        transport: How the body is written.
        header_length: Raw value of `Inference-Header-Content-Length`, None without it.
        sticky: Value of the header that keeps a client on one variant (`serving.sticky_header`), None without it.
        traceparent: Raw W3C trace context header.
        tracestate: Raw W3C trace state header.
    """

    model: str
    version: str | None = None
    transport: Transport = Transport.HTTP
    header_length: bytes | None = None
    sticky: bytes | None = None
    traceparent: bytes | None = None
    tracestate: bytes | None = None

    @property
    def trace_id(self) -> bytes | None:
        """The 32 hex digits of the trace; None when there is none or the header is malformed."""
        return trace_id(self.traceparent) if self.traceparent is not None else None


def trace_id(traceparent: bytes) -> bytes | None:
    """The 32 hex digits of a W3C `traceparent` header; None when it is malformed.

    Example:
        >>> trace_id(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        b'4bf92f3577b34da6a3ce929d0e0e4736'
    """
    if len(traceparent) < 55 or traceparent[2:3] != b"-" or traceparent[35:36] != b"-":
        return None
    trace = traceparent[3:35]
    return trace if not trace.strip(b"0123456789abcdef") and trace.strip(b"0") else None
