"""Random records whose content follows from their id, so that every reader can tell a wrong one from a right one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from export.contracts.datatypes import Datatype
from monitoring.records.counters import Accounting
from monitoring.records.decode import DecodedRecords
from monitoring.records.reader import Frame, RecordLogReader
from monitoring.records.record import Outcome, RecordBatch, RecordSchema, Rows, TensorColumn
from monitoring.records.writer import RecordLogWriter

SCHEMA = RecordSchema(
    "digits",
    "3",
    "sha256:0123",
    (TensorColumn("image", Datatype.FP32),),
    (TensorColumn("logits", Datatype.FP32), TensorColumn("embedding", Datatype.FP32)),
)


def values_of(record_id: str, n: int) -> np.ndarray:
    """`n` floats that belong to an id."""
    digest = hashlib.shake_128(record_id.encode()).digest(n)
    return np.frombuffer(digest, np.uint8).astype(np.float32)


def batch_of(ids: list[str], *, schema: RecordSchema = SCHEMA, outcome: Outcome = Outcome.OK) -> RecordBatch:
    """One row a record; image (1, 4, 4), logits (10,), embedding (8,), all functions of the id."""
    rows = np.stack([values_of(i, 34) for i in ids])
    return RecordBatch(
        schema=schema,
        ids=[i.encode() for i in ids],
        time_ns=[1_700_000_000_000_000_000 + k for k in range(len(ids))],
        variant="champion",
        outcome=outcome,
        queue_ns=[1000 * (k + 1) for k in range(len(ids))],
        total_ns=[2000 * (k + 1) for k in range(len(ids))],
        compute_ns=7000,
        inputs=(Rows(np.ascontiguousarray(rows[:, :16]), (1, 4, 4), 64),),
        outputs=(
            Rows(np.ascontiguousarray(rows[:, 16:26]), (10,), 40),
            Rows(np.ascontiguousarray(rows[:, 26:]), (8,), 32),
        ),
    )


def offer(writer: RecordLogWriter, ids: list[str], **options: object) -> None:
    """Count and offer, as the data plane does."""
    writer.slot(SCHEMA.model, SCHEMA.version).received(len(ids))
    writer.offer(batch_of(ids), **options)  # type: ignore[arg-type]


def check_frame(frame: Frame) -> list[str]:
    """The ids of a record frame, after comparing every value of every record with what its id demands."""
    records = frame.records()
    assert (records.model, records.version, records.digest) == ("digits", "3", "sha256:0123")
    image, logits = records.input("image").uniform, records.output("logits").uniform
    embedding = records.output("embedding").uniform
    assert image is not None
    assert logits is not None
    assert embedding is not None
    assert image.shape == (len(records), 1, 4, 4)
    for k, record_id in enumerate(records.ids):
        expected = values_of(record_id, 34)
        found = np.concatenate([image[k].ravel(), logits[k], embedding[k]])
        assert np.array_equal(found, expected), f"record {record_id} holds the values of another one"
    return records.ids


def read_ids(root: Path, source: str | None = None) -> list[str]:
    """Ids of all readable records of all sources, each checked."""
    reader = RecordLogReader(root)
    found: list[str] = []
    for name in reader.sources():
        if source in (None, name):
            for frame in reader.read(name, None, 1 << 60):
                if frame.kind == "records":
                    found += check_frame(frame)
    reader.close()
    return found


def assert_conserved(slots: Mapping[tuple[str, str], Accounting], *, requests: int | None = None) -> None:
    """requests = captured + sampled out + dropped + lost, for each (model, version), exactly."""
    for key, account in slots.items():
        assert account.in_flight == 0, f"{key}: {account}"
        assert min(account.lost_crash, account.lost_corrupt, account.captured, account.sampled_out) >= 0, account
    if requests is not None:
        assert sum(a.requests for a in slots.values()) == requests


def names(n: int, prefix: str = "r") -> Iterator[str]:
    """`n` ids."""
    return (f"{prefix}{i:06d}" for i in range(n))


def recorded(root: Path) -> list[DecodedRecords]:
    """The records of every frame under a folder of record logs, in the order in which they were written."""
    reader = RecordLogReader(root)
    frames = [f for source in reader.sources() for f in reader.read(source, None, 1 << 30)]
    return [f.records() for f in frames if f.kind == "records"]
