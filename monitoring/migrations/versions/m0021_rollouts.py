"""Roll-outs and their log; how long each request took."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitoring.schema_base import RowId

revision = "0021"
down_revision: str | None = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("records", sa.Column("total_us", sa.BigInteger(), nullable=True))
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("candidate", sa.String(64), nullable=False),
        sa.Column("champion", sa.String(64)),
        sa.Column("gate_id", sa.String(64)),
        sa.Column("training_id", sa.String(64)),
        sa.Column("author", sa.String(64), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("standing", sa.JSON(), nullable=False),
        sa.Column("intent", sa.JSON()),
        sa.Column("wish", sa.JSON()),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("changed_ns", sa.BigInteger(), nullable=False),
        sa.Column("ended_ns", sa.BigInteger()),
    )
    op.create_index("ix_rollouts_model_created_ns", "rollouts", ["model", "created_ns"])
    op.create_index(
        "uq_rollouts_running",
        "rollouts",
        ["model"],
        unique=True,
        sqlite_where=sa.text("ended_ns IS NULL"),
        postgresql_where=sa.text("ended_ns IS NULL"),
    )
    op.create_table(
        "rollout_events",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("rollout_id", sa.String(16), sa.ForeignKey("rollouts.id"), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger()),
        sa.Column("evidence", sa.JSON(), nullable=False),
    )
    op.create_index("ix_rollout_events_rollout_id_id", "rollout_events", ["rollout_id", "id"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("rollout_events")
    op.drop_table("rollouts")
    op.drop_column("records", "total_us")
