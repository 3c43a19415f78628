"""Groups of like cases, the review queue, what "more like this" compares, and slices over time."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    columns: tuple[sa.Column[Any], ...] = (
        sa.Column("content_hash", sa.BigInteger(), nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("bins", sa.LargeBinary(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=True),
    )
    for column in columns:
        op.add_column("records", column)
    known = sa.text("content_hash IS NOT NULL")
    op.create_index("ix_records_content_hash", "records", ["content_hash"], sqlite_where=known, postgresql_where=known)
    columns = (
        sa.Column("content_hash", sa.BigInteger(), nullable=True),
        sa.Column("cell", sa.Integer(), nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("group_id", sa.String(length=16), nullable=True),
        sa.Column("likeness", sa.Float(), nullable=True),
        sa.Column("queue", sa.Float(), nullable=True),
    )
    for column in columns:
        op.add_column("cases", column)
    op.create_index("ix_cases_group_id", "cases", ["group_id"])
    op.create_index("ix_cases_model_queue_id", "cases", ["model", "queue", "id"])
    op.create_table(
        "case_windows_due",
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("start_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", "start_s", name=op.f("pk_case_windows_due")),
    )
    op.create_table(
        "slices",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("centre", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("first_s", sa.BigInteger(), nullable=False),
        sa.Column("last_s", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("failure_rate", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sa.Column("overall_rate", sa.Float(), nullable=False),
        sa.Column("labelled", sa.BigInteger(), nullable=False),
        sa.Column("labelled_wrong", sa.BigInteger(), nullable=False),
        sa.Column("p_value", sa.Float(), nullable=False),
        sa.Column("explains", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slices")),
    )
    op.create_index("ix_slices_model_last_s", "slices", ["model", "last_s"])
    op.create_table(
        "slice_points",
        sa.Column("slice_id", sa.String(length=12), nullable=False),
        sa.Column("end_s", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("failure_rate", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sa.Column("overall_rate", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["slice_id"], ["slices.id"], name=op.f("fk_slice_points_slice_id_slices"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("slice_id", "end_s", name=op.f("pk_slice_points")),
    )
    op.create_table(
        "slice_members",
        sa.Column("slice_id", sa.String(length=12), nullable=False),
        sa.Column("id_hash", sa.BigInteger(), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["slice_id"], ["slices.id"], name=op.f("fk_slice_members_slice_id_slices"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("slice_id", "id_hash", "time_ns", name=op.f("pk_slice_members")),
    )
    op.create_index("ix_slice_members_id_hash", "slice_members", ["id_hash"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("slice_members")
    op.drop_table("slice_points")
    op.drop_table("slices")
    op.drop_table("case_windows_due")
    op.drop_index("ix_cases_model_queue_id", "cases")
    op.drop_index("ix_cases_group_id", "cases")
    for column in ("queue", "likeness", "group_id", "vector", "cell", "content_hash"):
        op.drop_column("cases", column)
    op.drop_index("ix_records_content_hash", "records")
    for column in ("tags", "bins", "vector", "content_hash"):
        op.drop_column("records", column)
