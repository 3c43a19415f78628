"""What people do about slices: history, batches, test sets, watches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitoring.schema_base import RowId

revision = "0010"
down_revision: str | None = "0009"
branch_labels = None
depends_on = None

_NAMES = (("owner", 64), ("fixed_in", 64), ("merged_into", 12), ("split_from", 12))


def upgrade() -> None:
    """Apply."""
    op.add_column("slices", sa.Column("edition", sa.Integer(), server_default="0", nullable=False))
    op.add_column("slices", sa.Column("wake_excess", sa.Float()))
    for name, length in _NAMES:
        op.add_column("slices", sa.Column(name, sa.String(length), server_default="", nullable=False))
    op.create_table(
        "slice_events",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("slice_id", sa.String(12), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("before", sa.String(16), nullable=False),
        sa.Column("after", sa.String(16), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("key", sa.String(100), unique=True),
    )
    op.create_index("ix_slice_events_slice_id_id", "slice_events", ["slice_id", "id"])
    op.create_table(
        "slice_watches",
        sa.Column("slice_id", sa.String(12), sa.ForeignKey("slices.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("limit", sa.Float(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("changed_s", sa.BigInteger(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("slice_id", sa.String(12), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("changed_ns", sa.BigInteger(), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(100), unique=True),
    )
    op.create_index("ix_batches_slice_id", "batches", ["slice_id"])
    op.create_index("ix_batches_created_ns", "batches", ["created_ns"])
    op.create_table(
        "batch_cases",
        sa.Column("batch_id", sa.String(12), sa.ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("case_id", sa.String(16), primary_key=True),
        sa.Column("position", sa.Integer(), nullable=False),
    )
    op.create_index("ix_batch_cases_case_id", "batch_cases", ["case_id"])
    op.create_table(
        "test_sets",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(120), nullable=False, unique=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("slice_id", sa.String(12), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(100), unique=True),
    )
    op.create_index("ix_test_sets_slice_id", "test_sets", ["slice_id"])
    op.create_table(
        "test_set_items",
        sa.Column("test_set_id", sa.String(12), sa.ForeignKey("test_sets.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True),
        sa.Column("case_id", sa.String(16), nullable=False),
        sa.Column("id_hash", sa.BigInteger(), nullable=False),
        sa.Column("record_id", sa.String(128), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("predicted", sa.Text()),
        sa.Column("content_hash", sa.BigInteger()),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("author", sa.String(64), nullable=False),
    )
    op.create_index("ix_test_set_items_id_hash", "test_set_items", ["id_hash"])
    op.create_index("ix_test_set_items_case_id", "test_set_items", ["case_id"])


def downgrade() -> None:
    """Take back."""
    for table in ("test_set_items", "test_sets", "batch_cases", "batches", "slice_watches", "slice_events"):
        op.drop_table(table)
    for name in ("wake_excess", "edition", *(n for n, _ in _NAMES)):
        op.drop_column("slices", name)
