"""What people decide about cases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitoring.schema_base import RowId

revision = "0009"
down_revision: str | None = "0008"
branch_labels = None
depends_on = None

_COUNTS = (("edition", "0"), ("priority", "0"), ("opinions", "1"))
_TIMES = ("lease_until_ns", "decided_ns")
_NAMES = (("lease_by", 64), ("assignee", 64), ("verdict", 16), ("decided_by", 64))


def upgrade() -> None:
    """Apply."""
    for name, usual in _COUNTS:
        op.add_column("cases", sa.Column(name, sa.Integer(), server_default=usual, nullable=False))
    for name in _TIMES:
        op.add_column("cases", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    for name, length in _NAMES:
        op.add_column("cases", sa.Column(name, sa.String(length), server_default="", nullable=False))
    op.add_column("cases", sa.Column("decided_label", sa.Text(), server_default="", nullable=False))
    op.add_column("feedback", sa.Column("withdrawn", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "acts",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("key", sa.String(100), unique=True),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.Column("undoes", sa.BigInteger()),
        sa.Column("undone_by", sa.BigInteger()),
    )
    op.create_index("ix_acts_time_ns", "acts", ["time_ns"])
    op.create_table(
        "decisions",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("act_id", sa.BigInteger(), sa.ForeignKey("acts.id"), nullable=False),
        sa.Column("case_id", sa.String(16), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("label", sa.Text()),
        sa.Column("comment", sa.Text()),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_decisions_act_id", "decisions", ["act_id"])
    op.create_index("ix_decisions_case_id", "decisions", ["case_id"])
    op.create_table(
        "case_tags",
        sa.Column("case_id", sa.String(16), sa.ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("tag", sa.String(64), primary_key=True),
    )
    op.create_index("ix_case_tags_tag", "case_tags", ["tag"])
    op.create_table("settle_due", sa.Column("id_hash", sa.BigInteger(), primary_key=True))


def downgrade() -> None:
    """Take back."""
    for table in ("settle_due", "case_tags", "decisions", "acts"):
        op.drop_table(table)
    op.drop_column("feedback", "withdrawn")
    for name in ("decided_label", *(n for n, _ in _NAMES + _COUNTS), *_TIMES):
        op.drop_column("cases", name)
