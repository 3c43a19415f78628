"""What lies in labelling tools."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitoring.schema_base import RowId

revision = "0015"
down_revision: str | None = "0014"
branch_labels = None
depends_on = None

_COUNTS = ("failures", "next_ns", "answered_ns", "pushed", "pulled", "refused", "hints")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "external_projects",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("tool", sa.String(16), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("config", sa.String(64), nullable=False),
        sa.Column("external_id", sa.String(64), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.String(40), nullable=False),
        sa.Column("asked_ns", sa.BigInteger(), nullable=False),
        sa.Column("looked_ns", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("tool", "model", "config"),
    )
    op.create_table(
        "external_tasks",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("tool", sa.String(16), nullable=False),
        sa.Column("case_id", sa.String(16), nullable=False),
        sa.Column("batch", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("project_id", sa.BigInteger()),
        sa.Column("external_id", sa.String(64)),
        sa.Column("asked_by", sa.String(64), nullable=False),
        sa.Column("asked_ns", sa.BigInteger(), nullable=False),
        sa.Column("pushed_ns", sa.BigInteger()),
        sa.Column("pulled_ns", sa.BigInteger()),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.UniqueConstraint("tool", "case_id"),
    )
    op.create_index("ix_external_tasks_project_id_external_id", "external_tasks", ["project_id", "external_id"])
    op.create_index("ix_external_tasks_tool_state_id", "external_tasks", ["tool", "state", "id"])
    op.create_table(
        "external_tools",
        sa.Column("tool", sa.String(16), primary_key=True),
        sa.Column("failing_ns", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
    )


def downgrade() -> None:
    """Take back."""
    for table in ("external_tools", "external_tasks", "external_projects"):
        op.drop_table(table)
