"""Tables of data set snapshots and of the records that are in them. See `monitoring.schema`.

A snapshot itself is a folder (`export.contracts.dataset`); here is what lists, lineage and erasure ask of it. Rows of
the base data set have no record behind them and are in the folder only.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from monitoring.schema_base import metadata

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", String(16), primary_key=True),  # first 16 hex digits of the digest
    Column("digest", String(80), nullable=False, unique=True),  # of the manifest
    Column("name", String(120), nullable=False),
    Column("model", String(64), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("splits", JSON, nullable=False),  # {split: rows}
    Column("sources", JSON, nullable=False),  # {source: rows}
    Column("classes", JSON, nullable=False),  # {label as text: rows}
    Column("base", String(80)),  # digest of the snapshot whose rows it carries on
    Column("recipe", JSON, nullable=False),  # monitoring.datasets.recipes.Recipe; {} of imported ones
    Column("notes", JSON, nullable=False),  # sentences: what was left out, and why
    Column("newest_ns", BigInteger, nullable=False),  # time of its newest row
    Column("created_ns", BigInteger, nullable=False),  # when it was made here
    Column("created_by", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # monitoring.datasets.rows.SnapshotState
    Column("erased", Integer, nullable=False, server_default="0"),  # rows of it that had to go since
    Column("successor", String(16), nullable=False, server_default=""),  # the same without them
    Index("ix_snapshots_model_created_ns", "model", "created_ns"),
)

snapshot_items = Table(
    "snapshot_items",
    metadata,
    Column("snapshot_id", String(16), ForeignKey("snapshots.id", ondelete="CASCADE"), primary_key=True),
    Column("row_id", String(64), primary_key=True),
    Column("split", String(16), nullable=False),  # export.contracts.dataset.Split
    Column("source", String(16), nullable=False),  # export.contracts.dataset.Source
    Column("case_id", String(16), nullable=False, index=True),  # as if it were a case: it need not be one
    Column("id_hash", BigInteger, nullable=False, index=True),  # as in records: an erasure finds it by that
    Column("record_id", String(128), nullable=False),
    Column("time_ns", BigInteger, nullable=False),  # of the record
    Column("version", String(64), nullable=False),  # that answered it
    Column("label", Text, nullable=False),  # JSON: the truth
    Column("predicted", Text),  # JSON: what it answered
    Column("author", String(64), nullable=False),  # who said so
    Column("content_hash", BigInteger),  # of the inputs
    Column("weight", Integer, nullable=False),  # fixed point, 2**-20
    Index("ix_snapshot_items_content_hash", "content_hash"),
)
