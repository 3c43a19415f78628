"""Tables of what the outside tells us and is told: keys of records, feedback by key, notices and their deliveries.

See `monitoring.schema`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from monitoring.schema_base import RowId, metadata

record_keys = Table(
    "record_keys",
    metadata,
    Column("seq", BigInteger, ForeignKey("records.seq", ondelete="CASCADE"), primary_key=True),
    Column("name", String(64), primary_key=True),  # of a request parameter or tag, as the settings list them
    Column("value", String(128), nullable=False),
    Column("key_hash", BigInteger, nullable=False, index=True),  # monitoring.business_keys.key_hash
)

keyed_feedback = Table(
    "keyed_feedback",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("uid", BigInteger, nullable=False, unique=True),  # the same item twice is one
    Column("key_hash", BigInteger, nullable=False, index=True),
    Column("model", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("value", String(128), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("item", JSON, nullable=False),  # label, labels, truth, score, comment, source
    Index("ix_keyed_feedback_time_ns", "time_ns"),
)

notices = Table(  # what happened that somebody may want to be told: written in the transaction of what happened
    "notices",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("event", String(120), nullable=False, unique=True),  # names what happened: the same twice is one
    Column("time_ns", BigInteger, nullable=False),
    Column("kind", String(48), nullable=False),  # monitoring.notify.contracts.NoticeKind
    Column("severity", String(16), nullable=False),  # monitoring.notify.contracts.Severity
    Column("model", String(64), nullable=False),  # "": of no single model
    Column("version", String(64), nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("page", Text, nullable=False),  # path of the console page
    Column("data", JSON, nullable=False),
    Column("routed", Boolean, nullable=False, index=True),  # its deliveries were made out
    Index("ix_notices_time_ns", "time_ns"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("notice_id", BigInteger, ForeignKey("notices.id", ondelete="CASCADE"), nullable=False),
    Column("channel", String(64), nullable=False),  # its name in the settings
    Column("state", String(16), nullable=False),  # monitoring.notify.contracts.DeliveryState
    Column("attempts", Integer, nullable=False),
    Column("next_ns", BigInteger, nullable=False),  # not before
    Column("done_ns", BigInteger),
    Column("problem", Text, nullable=False),  # of the last attempt; "" without one
    UniqueConstraint("notice_id", "channel"),
    Index("ix_deliveries_state_next_ns", "state", "next_ns"),
)
