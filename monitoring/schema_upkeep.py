"""Tables of the upkeep: dead letters, events, facts, archive, erasures, leases. Conventions: `monitoring.schema`."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from monitoring.schema_base import RowId, metadata

archive_files = Table(
    "archive_files",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("path", String(400), nullable=False, unique=True),  # relative to the archive's folder
    Column("kind", String(16), nullable=False),  # monitoring.archive.files.FileKind
    Column("source", String(255), nullable=False),
    Column("first_segment", BigInteger, nullable=False),
    Column("last_segment", BigInteger, nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("erased", BigInteger, nullable=False),  # rows that were in it and were erased
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("columns", JSON, nullable=False),  # {name: Arrow type}
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
    Column("first_sequence", BigInteger, nullable=False),  # as `records.sequence`: of the frame before
    Column("last_sequence", BigInteger, nullable=False),
    Index("ix_archive_files_source_last_sequence", "source", "last_sequence"),
    Index("ix_archive_files_model_last_ns", "model", "last_ns"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("requested_ns", BigInteger, nullable=False),
    Column("finished_ns", BigInteger),
    Column("state", String(16), nullable=False),  # monitoring.erasure.ErasureState
    Column("author", Text, nullable=False),
    Column("model", String(64)),  # NULL: of every model
    Column("records", Integer, nullable=False),  # ids that were asked for
    Column("counts", JSON, nullable=False),  # {kind of copy: how many went}
    Column("reason", Text),  # why it is not finished yet
)

erasure_items = Table(
    "erasure_items",
    metadata,
    Column("erasure_id", String(16), ForeignKey("erasures.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("record_id", String(128)),  # NULL once the erasure is finished: only the digest is kept
    Column("digest", String(64), nullable=False, index=True),  # SHA-256 of the record id
)

purges = Table(
    "purges",
    metadata,
    Column("source", String(255), primary_key=True),
    Column("segment", BigInteger, nullable=False),  # what may not stay is gone from all segments up to this one
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(300), primary_key=True),  # "monitor:<id>", "source:<name>" or "duties"
    Column("holder", String(64), nullable=False),
    Column("token", BigInteger, nullable=False),  # counts up with every new holder: the fence of its writes
    Column("expires_ns", BigInteger, nullable=False),  # by the database's clock
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("source", String(255), nullable=False),
    Column("segment", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("item", Integer, nullable=False),  # record within the frame; -1: the whole frame
    Column("reason", String(48), nullable=False),  # stable name
    Column("detail", Text, nullable=False),
    UniqueConstraint("source", "segment", "sequence", "item"),
)

events = Table(
    "events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("source", String(255), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("kind", String(48), nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
    UniqueConstraint("source", "sequence"),
    Index("ix_events_time_ns", "time_ns"),
)

facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
)
