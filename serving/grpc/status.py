"""The one place that maps errors to gRPC: code, text and trailing metadata."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from export.contracts.errors import HardcaseError, Overloaded, Unavailable
from serving.errors import INTERNAL_TEXT, error_headers

_log = logging.getLogger("hardcase.serving")

# The codes of gRPC that errors of ours have (`HardcaseError.grpc_status`), and those of the transport itself.
CODES = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "ABORTED": 10,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How a call ends.

    Attributes:
        code: gRPC's number.
        message: Public text; empty for success.
        trailers: Trailing metadata besides code and text, for example when to ask again.
    """

    code: int
    message: str = ""
    trailers: tuple[tuple[str, str], ...] = ()


OK = Status(code=0)


def status_of(error: BaseException) -> Status:
    """An error as gRPC sees it. What is not one of ours gets a fixed text, and its traceback goes to the log."""
    if not isinstance(error, HardcaseError):
        _log.error("unexpected error", exc_info=error)
        error = HardcaseError(INTERNAL_TEXT)
    trailers = [(name.decode(), value.decode()) for name, value in error_headers(error)]
    if isinstance(error, Unavailable):
        # the key that gRPC's own retry policy reads
        wait_s = error.retry_after_s if isinstance(error, Overloaded) else 1
        trailers.append(("grpc-retry-pushback-ms", str(1000 * wait_s)))
    return Status(code=CODES[error.grpc_status], message=error.message, trailers=tuple(trailers))
