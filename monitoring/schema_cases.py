"""Tables of failure cases, their tensors, and what was said about records. See `monitoring.schema`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    false,
    text,
)

from monitoring.schema_base import RowId, metadata

cases = Table(
    "cases",
    metadata,
    Column("id", String(16), primary_key=True),  # hex of xxh64 of model, record id and time
    Column("id_hash", BigInteger, nullable=False),
    Column("record_id", String(128), nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("variant", String(16), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("window_start_s", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # export.contracts.cases.CaseState
    Column("flags", Integer, nullable=False),  # every reason that ever held
    Column("rank", Float, nullable=False),  # queue order, highest first: p_wrong, or 1 for a rule
    Column("p_wrong", Float),
    Column("confidence", Float),
    Column("predicted", Integer),
    Column("predicted_label", Text),
    Column("answer", JSON(none_as_null=True)),  # monitoring.tasks: interval, labels or boxes of that row
    Column("label", Text),  # effective ground truth, JSON
    Column("correct", Boolean),  # NULL while nobody knows
    Column("scores", JSON, nullable=False),  # {score: value}
    Column("probabilities", JSON),  # of all classes, at most 1,000; NULL for other tasks
    Column("outcome", String(16), nullable=False),
    Column("error", Text),
    Column("rows", Integer, nullable=False),
    Column("row", Integer, nullable=False),  # the row that the scores speak of
    Column("inclusion_probability", Float),  # of audit cases
    Column("audit_rank", Float),  # in [0, 1): audit cases are those below the rate
    Column("timing_us", JSON, nullable=False),  # {queue, compute, total}
    Column("params", Text),
    Column("trace_id", String(64)),
    Column("tags", Text),
    Column("comment", Text),  # of the latest feedback that had one
    Column("source", String(255), nullable=False),
    Column("input_state", String(16), nullable=False),  # monitoring.case_rows.InputState
    Column("content_hash", BigInteger),  # xxh64 of the inputs: the same in two cases is the same input
    Column("cell", Integer),  # region of the embedding: each has places of its own in a window's pool
    Column("vector", LargeBinary),  # int8, as in records
    Column("group_id", String(16)),  # the case that stands for this one in lists; its own id where it stands for itself
    Column("likeness", Float),  # cosine to that case's vector; 1 for the same input
    Column("queue", Float),  # place in the review queue, highest first; NULL until it is worked out
    # What people move (monitoring.review.contracts.Standing); how it came about is in `acts` and `decisions`.
    Column("edition", Integer, nullable=False, server_default="0"),
    Column("lease_by", String(64), nullable=False, server_default=""),
    Column("lease_until_ns", BigInteger, nullable=False, server_default="0"),
    Column("assignee", String(64), nullable=False, server_default=""),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("opinions", Integer, nullable=False, server_default="1"),
    Column("verdict", String(16), nullable=False, server_default=""),
    Column("decided_by", String(64), nullable=False, server_default=""),
    Column("decided_ns", BigInteger, nullable=False, server_default="0"),
    Column("decided_label", Text, nullable=False, server_default=""),
    Index("ix_cases_model_rank_id", "model", "rank", "id"),
    Index("ix_cases_model_time_ns_id", "model", "time_ns", "id"),
    Index("ix_cases_model_version_window_start_s", "model", "version", "window_start_s"),
    Index("ix_cases_id_hash", "id_hash"),
    Index("ix_cases_group_id", "group_id"),
    Index("ix_cases_model_queue_id", "model", "queue", "id"),
    Index("ix_cases_model_state_priority_queue_id", "model", "state", "priority", "queue", "id"),  # what to lease next
    Index(
        "ix_cases_lease_by", "lease_by", sqlite_where=text("lease_by <> ''"), postgresql_where=text("lease_by <> ''")
    ),
    Index(
        "ix_cases_assignee", "assignee", sqlite_where=text("assignee <> ''"), postgresql_where=text("assignee <> ''")
    ),
    Index(
        "ix_cases_verdict_decided_ns",
        "verdict",
        "decided_ns",
        sqlite_where=text("verdict <> ''"),
        postgresql_where=text("verdict <> ''"),
    ),
)

case_tensors = Table(
    "case_tensors",
    metadata,
    Column("case_id", String(16), ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
    Column("direction", String(3), primary_key=True),  # "in" or "out"
    Column("name", String(255), primary_key=True),
    Column("position", Integer, nullable=False),  # in the order of the signature
    Column("datatype", String(8), nullable=False),
    Column("shape", JSON, nullable=False),  # of `data`, batch axis first
    Column("data", LargeBinary, nullable=False),  # row-major little-endian; BYTES as on the wire
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("uid", BigInteger, nullable=False, unique=True),  # xxh64 of the whole item: the same one twice is one
    Column("id_hash", BigInteger, nullable=False, index=True),
    Column("model", String(64), nullable=False),
    Column("record_id", String(128), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("label", Text),  # JSON
    Column("labels", JSON),
    Column("score", Float),
    Column("comment", Text),
    Column("author", Text),  # the item's `source`
    Column("joined", Boolean, nullable=False),  # a record with this id is known
    Column("withdrawn", Boolean, nullable=False, server_default=false()),  # by an undo: counts no more
    Column("about_ns", BigInteger),  # time of the one record it is about; NULL: every record with that id
    Index("ix_feedback_model_time_ns", "model", "time_ns"),
)
