"""What one record is made of: the types that cross between the replica that captures and the monitor that reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.datatypes import Datatype


class Outcome(StrEnum):
    """How a request ended. The values are label values of `hardcase_requests_total`."""

    OK = "ok"  # answered by the model
    INVALID = "invalid"  # refused: the request is at fault (4xx)
    REJECTED = "rejected"  # refused: overloaded, stopping, version not ready (503)
    DEADLINE = "deadline"  # its time limit passed (504)
    CANCELLED = "cancelled"  # the client went away before the model ran
    FAILED = "failed"  # the model raised or answered something impossible (500)


class DropReason(StrEnum):
    """Why a record that should have been captured was not."""

    BUFFER_FULL = "buffer_full"  # capture.buffer_bytes was reached: the writer is slower than the traffic
    DISK_FULL = "disk_full"  # the operating system refused the write
    QUOTA = "quota"  # capture.quota_bytes was reached: nobody reads or seals segments
    WRITE_ERROR = "write_error"  # any other failure of write or fsync
    TOO_LARGE = "too_large"  # one record is over the largest frame


class Durability(StrEnum):
    """What a written record survives, and when it is written relative to the answer."""

    ASYNC = "async"  # in the operating system within 50 ms of the answer
    BEFORE_ANSWER = "before_answer"  # in the operating system before the answer goes out
    SYNCED = "synced"  # on the disk (grouped fsync) before the answer goes out


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureOptions:
    """Settings of the record log's writer.

    Attributes:
        segment_bytes: A segment is sealed when it grows past this.
        segment_age_s: ... or when it is older than this and not empty.
        buffer_bytes: Records waiting for the writer thread; past it they are dropped and counted.
        quota_bytes: Bytes that all segments of the replica's log may hold; past it records are dropped and counted.
        flush_interval_s: How often the writer thread looks in ASYNC mode; below the promised 50 ms.
        sample: Share of ordinary records to keep, 0..1. Refused, failed and flagged records are always kept. The
            inclusion probability is stored in the record.
    """

    durability: Durability = Durability.ASYNC
    segment_bytes: int = 64 << 20
    segment_age_s: float = 60.0
    buffer_bytes: int = 64 << 20
    quota_bytes: int = 4 << 30
    flush_interval_s: float = 0.02
    sample: float = 1.0
    max_frame_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class TensorColumn:
    """Name and datatype of one recorded tensor; the column `in.<name>` or `out.<name>` of the frame."""

    name: str
    datatype: Datatype


@dataclass(frozen=True, slots=True)
class RecordSchema:
    """What the records of one (model, version) hold. One instance a version, made once, compared by identity.

    Attributes:
        digest: Digest of the package, so that a record names exactly what answered it.
    """

    model: str
    version: str
    digest: str = ""
    inputs: tuple[TensorColumn, ...] = ()
    outputs: tuple[TensorColumn, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """A tensor of a whole batch: row-major little-endian elements of all records one after the other.

    Attributes:
        data: C-contiguous array (rows, ...) or the equal bytes; not copied until it is written.
        row_shape: Shape of one row without the batch axis. A record's tensor has shape (its rows, *row_shape).
        row_bytes: Bytes of one row.
    """

    data: npt.NDArray[np.generic] | bytes | memoryview
    row_shape: tuple[int, ...]
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Ragged:
    """A tensor whose records differ in bytes (BYTES elements, or shapes that differ within a batch).

    Attributes:
        data: One buffer a record. BYTES elements are encoded as on the wire: 4-byte little-endian length, then bytes.
        shapes: One full shape a record, batch axis included.
    """

    data: Sequence[bytes | memoryview]
    shapes: Sequence[tuple[int, ...]]


TensorData: TypeAlias = Rows | Ragged


@dataclass(slots=True, kw_only=True)
class RecordBatch:
    """Records that share a schema and a moment: what one model execution, or one refusal, offers to capture.

    Every sequence has one entry a record. Optional sequences are None when no record has the thing, so that the
    common case costs nothing. The writer takes ownership: the caller must not change the arrays afterwards.

    Attributes:
        ids: Record ids, ASCII or UTF-8 bytes, at most 128 long.
        time_ns: Wall-clock nanoseconds since the epoch at which the request was complete on this machine.
        rows: Rows of each record; None means one each.
        inputs: As in the schema, or () when the payload is not recorded (refusals).
        outputs: As in the schema, or () when there is no answer.
        total_ns: From the request's last byte to the hand-over of the answer.
        compute_ns: Time of the execution that they were in; one for all, or one each.
        error: Public error text of each record, None where there is none.
        params: The request's parameters as JSON bytes.
        probability: Inclusion probability with which these records were kept.
        keep: True for each record that the writer's sampling must keep, with its probability unchanged.
    """

    schema: RecordSchema
    ids: Sequence[bytes]
    time_ns: Sequence[int]
    variant: str
    outcome: Outcome
    queue_ns: Sequence[int]
    total_ns: Sequence[int]
    compute_ns: int | Sequence[int] = 0
    rows: Sequence[int] | None = None
    inputs: Sequence[TensorData] = ()
    outputs: Sequence[TensorData] = ()
    error: Sequence[str | None] | None = None
    params: Sequence[bytes | None] | None = None
    trace_ids: Sequence[bytes | None] | None = None
    tags: Sequence[bytes | None] | None = None
    probability: float = 1.0
    keep: Sequence[bool] | None = None
    nbytes: int = 0  # payload bytes, for the buffer's bound; 0 lets the writer add them up


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """What somebody learned about a record afterwards. Exactly the protocol's feedback body, checked.

    Attributes:
        truth: One JSON-compatible value a row, for tasks that need more than a label: a number or a list of numbers, a
            list of labels, a list of boxes.
    """

    record_id: str
    model: str
    time_ns: int
    label: str | float | int | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    comment: str | None = None
    source: str | None = None
    truth: list[Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened to the replica: a version loaded, refused, flipped; a plan seen; start and stop.

    Attributes:
        kind: A short stable name: "replica_started", "version_ready", "version_unavailable", "plan_applied", ...
        detail: Facts as JSON-compatible values.
    """

    kind: str
    time_ns: int
    model: str = ""
    version: str = ""
    detail: dict[str, str | int | float | bool | None] = field(default_factory=dict)


def written(item: Feedback | Event) -> dict[str, Any]:
    """What the log holds of an item: a field that came later is left out while it is None, for older readers."""
    plain = asdict(item)
    return {name: value for name, value in plain.items() if name != "truth" or value is not None}
