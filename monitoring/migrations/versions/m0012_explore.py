"""Selections of cases, and what versions say to inputs that were sent again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitoring.schema_base import RowId

revision = "0012"
down_revision: str | None = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "selections",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
    )
    op.create_table(
        "selection_cases",
        sa.Column("selection_id", sa.String(12), sa.ForeignKey("selections.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("case_id", sa.String(16), sa.ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("ix_selection_cases_case_id", "selection_cases", ["case_id"])
    op.create_table(
        "replays",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("chosen", sa.JSON(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("finished_ns", sa.BigInteger()),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("failed", sa.JSON(), nullable=False),
        sa.Column("cancel", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_replays_model", "replays", ["model"])
    op.create_table(
        "case_answers",
        sa.Column("case_id", sa.String(16), sa.ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("predicted", sa.Integer()),
        sa.Column("confidence", sa.Float()),
        sa.Column("p_wrong", sa.Float()),
        sa.Column("value", sa.Float()),
        sa.Column("answer", sa.JSON(none_as_null=True)),
        sa.Column("error", sa.Text()),
    )


def downgrade() -> None:
    """Take back."""
    for table in ("case_answers", "replays", "selection_cases", "selections"):
        op.drop_table(table)
