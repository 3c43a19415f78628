"""Errors that cross a boundary. A class says whose fault it is and what the caller should do.

HardcaseError
├── ClientError                the caller must change the request
│   ├── InvalidRequest         400  INVALID_ARGUMENT     a field is wrong; the text names it
│   ├── Unauthenticated        401  UNAUTHENTICATED      no credential, or a wrong one
│   ├── Forbidden              403  PERMISSION_DENIED    the credential does not cover this
│   ├── NotFound               404  NOT_FOUND            unknown model, version, case, page
│   ├── MethodNotAllowed       405  UNIMPLEMENTED        another HTTP method is expected
│   ├── Conflict               409  ABORTED              somebody else changed it first: read again
│   ├── PayloadTooLarge        413  RESOURCE_EXHAUSTED   send less, or raise the limit in the settings
│   └── UnsupportedMedia       415  INVALID_ARGUMENT     content type or encoding that nobody decodes
├── Unavailable                503  UNAVAILABLE          not now; ask again
│   └── Overloaded             503  RESOURCE_EXHAUSTED   the queue is full; `retry_after_s` says when
├── DeadlineExceeded           504  DEADLINE_EXCEEDED    the caller's or the server's time limit passed
├── NotSupported               501  UNIMPLEMENTED        in the protocol, not in this server
├── ModelFailed                500  INTERNAL             the model raised, or answered something impossible
└── PackageError               -    -                    a package was not accepted (never reaches inference clients)
    ├── AdmissionRefused                                 digests, operators, sizes: the package is not safe to load
    ├── ParityFailed                                     the exported files do not compute what the module computes
    ├── RegistryError                                    unknown version, taken name, lost race
    └── SnapshotError                                    a data set snapshot is damaged, or does not fit
"""

from __future__ import annotations


class HardcaseError(Exception):
    """Base of every error with a public text.

    Args:
        message: Text that may be shown to anybody: names the field, never a path, host, repr or traceback.
    """

    code: str = "internal"
    http_status: int = 500
    grpc_status: str = "INTERNAL"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ClientError(HardcaseError):
    """The request is at fault. Repeating it unchanged cannot help."""

    code = "client_error"
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


class InvalidRequest(ClientError):
    """A field of the request is wrong; the message names it."""

    code = "invalid_request"


class Unauthenticated(ClientError):
    """No credential was sent, or it is not known."""

    code = "unauthenticated"
    http_status = 401
    grpc_status = "UNAUTHENTICATED"


class Forbidden(ClientError):
    """The credential is known and does not cover this operation."""

    code = "forbidden"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"


class NotFound(ClientError):
    """What the request names does not exist."""

    code = "not_found"
    http_status = 404
    grpc_status = "NOT_FOUND"


class MethodNotAllowed(ClientError):
    """The path exists and expects another method."""

    code = "method_not_allowed"
    http_status = 405
    grpc_status = "UNIMPLEMENTED"


class Conflict(ClientError):
    """The thing changed since the caller read it."""

    code = "conflict"
    http_status = 409
    grpc_status = "ABORTED"


class PayloadTooLarge(ClientError):
    """The body, or what it inflates to, is over the limit."""

    code = "payload_too_large"
    http_status = 413
    grpc_status = "RESOURCE_EXHAUSTED"


class UnsupportedMedia(ClientError):
    """The content type or encoding is not one that this server decodes."""

    code = "unsupported_media"
    http_status = 415


class Unavailable(HardcaseError):
    """The server cannot answer now: starting, stopping, or the version is not loaded."""

    code = "unavailable"
    http_status = 503
    grpc_status = "UNAVAILABLE"


class Overloaded(Unavailable):
    """The queue is full. `retry_after_s` is the time after which a place is likely."""

    code = "overloaded"
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(HardcaseError):
    """A time limit passed before the answer was ready."""

    code = "deadline_exceeded"
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"


class NotSupported(HardcaseError):
    """The protocol has it; this server, or this model, does not."""

    code = "not_supported"
    http_status = 501
    grpc_status = "UNIMPLEMENTED"


class ModelFailed(HardcaseError):
    """The model raised, or its answer does not fit its signature."""

    code = "model_failed"


class PackageError(HardcaseError):
    """A package or a registry operation was refused."""

    code = "package_error"


class AdmissionRefused(PackageError):
    """The package is not safe to load; the message says which rule it breaks."""

    code = "admission_refused"


class ParityFailed(PackageError):
    """The exported files and the module part; the message says where and by how much.

    Args:
        message: The worst place, in words.
        report: The whole report (`export.parity.ParityReport`), where there is one.
    """

    code = "parity_failed"

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class RegistryError(PackageError):
    """The registry refused: unknown name or version, a version that exists, an alias that moved."""

    code = "registry_error"


class SnapshotError(PackageError):
    """A data set snapshot is damaged, or its rows do not fit what it says of itself; the message names file or row."""

    code = "snapshot_refused"
