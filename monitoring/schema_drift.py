"""Tables of drift. Conventions: `monitoring.schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Integer, String, Table, Text, UniqueConstraint

from monitoring.schema_base import RowId, metadata

signals = Table(
    "signals",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("version_id", BigInteger, ForeignKey("versions.id"), nullable=False),
    Column("scope", String(16), nullable=False),  # monitoring.drift.Scope
    Column("start_s", BigInteger, nullable=False),
    Column("length_s", Integer, nullable=False),
    Column("kind", String(16), nullable=False),  # monitoring.drift.SignalKind
    Column("method", String(16), nullable=False),  # monitoring.drift.Method
    Column("subject", String(128), nullable=False),  # feature, descriptor or score that is compared
    Column("state", String(24), nullable=False),  # monitoring.drift.SignalState
    Column("value", Float),
    Column("threshold", Float),
    Column("threshold_source", Text, nullable=False),
    Column("exceeded", Boolean, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("detail", Text),  # which feature was the farthest, where the subject is many
    UniqueConstraint("version_id", "scope", "start_s", "method", "subject"),
)
