"""Tables of the case list: what changed, and the views that people keep. See `monitoring.schema`.

`case_changes` is written by triggers, so that no writer of cases can forget it: `monitoring.listing.columns` keeps
columns of all cases in memory and follows it.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, String, Table, Text, UniqueConstraint

from monitoring.schema_base import RowId, metadata

case_changes = Table(
    "case_changes",
    metadata,
    Column("seq", RowId, primary_key=True, autoincrement=True),
    Column("case_id", String(16), nullable=False),
    Column("xact", BigInteger, nullable=False),  # PostgreSQL's transaction: sequences there commit out of order; else 0
    Index("ix_case_changes_xact", "xact"),
    sqlite_autoincrement=True,  # a number is never used again, or a reader would miss what it stands for
)

saved_views = Table(
    "saved_views",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("owner", String(64), nullable=False),  # who made it, and may change it
    Column("name", String(64), nullable=False),
    Column("query", Text, nullable=False),  # the list's address after the question mark
    Column("shared", Boolean, nullable=False),  # everybody sees it
    Column("created_ns", BigInteger, nullable=False),
    UniqueConstraint("owner", "name"),
)
