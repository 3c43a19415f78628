"""Data set snapshots and the records in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision: str | None = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "snapshots",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("splits", "sources", "classes")),
        sa.Column("base", sa.String(80)),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("recipe", "notes")),
        sa.Column("newest_ns", sa.BigInteger(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("erased", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("successor", sa.String(16), nullable=False, server_default=""),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_snapshots_model_created_ns", "snapshots", ["model", "created_ns"])
    op.create_table(
        "snapshot_items",
        sa.Column("snapshot_id", sa.String(16), sa.ForeignKey("snapshots.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("row_id", sa.String(64), primary_key=True),
        sa.Column("split", sa.String(16), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("case_id", sa.String(16), nullable=False),
        sa.Column("id_hash", sa.BigInteger(), nullable=False),
        sa.Column("record_id", sa.String(128), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("predicted", sa.Text()),
        sa.Column("author", sa.String(64), nullable=False),
        sa.Column("content_hash", sa.BigInteger()),
        sa.Column("weight", sa.Integer(), nullable=False),
    )
    for column in ("case_id", "id_hash", "content_hash"):
        op.create_index(f"ix_snapshot_items_{column}", "snapshot_items", [column])


def downgrade() -> None:
    """Take back."""
    op.drop_table("snapshot_items")
    op.drop_table("snapshots")
