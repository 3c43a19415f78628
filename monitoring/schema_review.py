"""Tables of what people decide about cases. See `monitoring.schema`.

An act is what somebody did at once: one decision, a bulk decision over thousands of cases, an import, an undo. Rows of
`decisions` are only ever added; together with the acts they are the audit trail. The columns of `cases` that they
move can be worked out from them.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from monitoring.schema_base import RowId, metadata

acts = Table(
    "acts",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("key", String(100), unique=True),  # the client's idempotency key, behind its actor; NULL without one
    Column("actor", String(64), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # monitoring.review.contracts.ActKind
    Column("detail", JSON, nullable=False),  # what was asked, without the cases one by one
    Column("cases", Integer, nullable=False),  # how many were changed
    Column("undoes", BigInteger),  # the act that this one takes back
    Column("undone_by", BigInteger),  # the act that took this one back
    Index("ix_acts_time_ns", "time_ns"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("act_id", BigInteger, ForeignKey("acts.id"), nullable=False, index=True),
    Column("case_id", String(16), nullable=False, index=True),  # no foreign key: the trail outlives the case
    Column("verdict", String(16)),  # monitoring.review.contracts.Verdict; NULL: an act that decides nothing
    Column("label", Text),  # JSON; with the verdict "label"
    Column("comment", Text),
    Column("before", JSON, nullable=False),  # monitoring.review.contracts.Standing
    Column("after", JSON, nullable=False),
    Column("withdrawn", Boolean, nullable=False),  # its act was undone: it counts no more
)

case_tags = Table(
    "case_tags",
    metadata,
    Column("case_id", String(16), ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(64), primary_key=True),
    Index("ix_case_tags_tag", "tag"),
)

settle_due = Table(
    "settle_due",
    metadata,
    Column("id_hash", BigInteger, primary_key=True),  # of records whose truth people changed; the loop settles them
)
