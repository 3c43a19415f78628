"""Keys of records, feedback by key, notices and their deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitoring.schema_base import RowId

revision = "0011"
down_revision: str | None = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "record_keys",
        sa.Column("seq", sa.BigInteger(), sa.ForeignKey("records.seq", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(128), nullable=False),
        sa.Column("key_hash", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_record_keys_key_hash", "record_keys", ["key_hash"])
    op.create_table(
        "keyed_feedback",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("uid", sa.BigInteger(), nullable=False, unique=True),
        sa.Column("key_hash", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(128), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("item", sa.JSON(), nullable=False),
    )
    op.create_index("ix_keyed_feedback_key_hash", "keyed_feedback", ["key_hash"])
    op.create_index("ix_keyed_feedback_time_ns", "keyed_feedback", ["time_ns"])
    op.create_table(
        "notices",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("event", sa.String(120), nullable=False, unique=True),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(48), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("page", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("routed", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_notices_routed", "notices", ["routed"])
    op.create_index("ix_notices_time_ns", "notices", ["time_ns"])
    op.create_table(
        "deliveries",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("notice_id", sa.BigInteger(), sa.ForeignKey("notices.id", ondelete="CASCADE"), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_ns", sa.BigInteger(), nullable=False),
        sa.Column("done_ns", sa.BigInteger()),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.UniqueConstraint("notice_id", "channel"),
    )
    op.create_index("ix_deliveries_state_next_ns", "deliveries", ["state", "next_ns"])


def downgrade() -> None:
    """Take back."""
    for table in ("deliveries", "notices", "keyed_feedback", "record_keys"):
        op.drop_table(table)
