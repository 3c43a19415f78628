"""Tables of what people do about slices: their history, labelling batches, protected test sets, watches.

See `monitoring.schema` for the conventions. Rows of `slice_events` and of the test sets are only ever added.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from monitoring.schema_base import RowId, metadata

slice_events = Table(
    "slice_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("slice_id", String(12), nullable=False),  # no foreign key: the history outlives the slice
    Column("time_ns", BigInteger, nullable=False),  # the end of the searched span where the loop did it
    Column("actor", String(64), nullable=False),  # "hardcase" where the loop did it
    Column("kind", String(16), nullable=False),  # monitoring.slices.issues.SliceAct
    Column("before", String(16), nullable=False),  # monitoring.slices.found.SliceState
    Column("after", String(16), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("key", String(100), unique=True),  # the client's idempotency key, behind its actor; NULL without one
    Index("ix_slice_events_slice_id_id", "slice_id", "id"),
)

slice_watches = Table(  # alerts: a slice whose failure rate is surely above a limit
    "slice_watches",
    metadata,
    Column("slice_id", String(12), ForeignKey("slices.id", ondelete="CASCADE"), primary_key=True),
    Column("limit", Float, nullable=False),  # failure rate
    Column("state", String(16), nullable=False),  # monitoring.slices.issues.WatchState
    Column("changed_s", BigInteger, nullable=False),  # end of the span that changed the state
    Column("created_ns", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
)

batches = Table(  # named sets of cases that are to be labelled together
    "batches",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(120), nullable=False),
    Column("model", String(64), nullable=False),  # "" where its cases are of several models
    Column("slice_id", String(12), nullable=False, index=True),  # "" where it came from no slice
    Column("state", String(16), nullable=False),  # monitoring.review.batches.BatchState
    Column("note", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("changed_ns", BigInteger, nullable=False),
    Column("cases", Integer, nullable=False),  # that were put into it
    Column("key", String(100), unique=True),  # the client's idempotency key, behind its actor; NULL without one
    Index("ix_batches_created_ns", "created_ns"),
)

batch_cases = Table(
    "batch_cases",
    metadata,
    Column("batch_id", String(12), ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("case_id", String(16), primary_key=True),  # no foreign key: the batch outlives the case
    Column("position", Integer, nullable=False),
    Index("ix_batch_cases_case_id", "case_id"),
)

test_sets = Table(  # failures that shall never come back; immutable
    "test_sets",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("model", String(64), nullable=False),
    Column("slice_id", String(12), nullable=False, index=True),  # "" where it came from no slice
    Column("words", Text, nullable=False),  # what it is about
    Column("created_ns", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("digest", String(80), nullable=False),  # sha256 of its items
    Column("items", Integer, nullable=False),
    Column("key", String(100), unique=True),
)

test_set_items = Table(
    "test_set_items",
    metadata,
    Column("test_set_id", String(12), ForeignKey("test_sets.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("case_id", String(16), nullable=False, index=True),
    Column("id_hash", BigInteger, nullable=False, index=True),  # as in records: an erasure finds it by that
    Column("record_id", String(128), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("version", String(64), nullable=False),  # that answered it
    Column("predicted", Text),  # what it answered
    Column("content_hash", BigInteger),  # of the inputs
    Column("label", Text, nullable=False),  # JSON: the truth
    Column("author", String(64), nullable=False),  # who said so
)
