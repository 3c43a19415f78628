"""Turns of the loop, what trainers said, and every decision about whether to train."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitoring.schema_base import RowId

revision = "0018"
down_revision: str | None = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "trigger_decisions",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_ns", sa.BigInteger(), nullable=False),
        sa.Column("looks", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("training_id", sa.String(12)),
    )
    op.create_index("ix_trigger_decisions_model_id", "trigger_decisions", ["model", "id"])
    op.create_table(
        "trainings",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("flight", sa.String(64), unique=True),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("stage_ns", sa.BigInteger(), nullable=False),
        sa.Column("asked_ns", sa.BigInteger(), nullable=False),
        sa.Column("requested_ns", sa.BigInteger()),
        sa.Column("began_ns", sa.BigInteger()),
        sa.Column("trained_ns", sa.BigInteger()),
        sa.Column("ended_ns", sa.BigInteger()),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decision_id", sa.BigInteger(), sa.ForeignKey("trigger_decisions.id"), nullable=False),
        sa.Column("approved_by", sa.String(64), nullable=False, server_default=""),
        sa.Column("cancel_by", sa.String(64), nullable=False, server_default=""),
        sa.Column("cancel_reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("champion", sa.String(64), nullable=False),
        sa.Column("trainer", sa.String(64), nullable=False, server_default=""),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("budget_s", sa.Float(), nullable=False),
        sa.Column("silence_s", sa.Float(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("snapshot", sa.String(16), nullable=False, server_default=""),
        sa.Column("snapshot_digest", sa.String(80), nullable=False, server_default=""),
        sa.Column("rows", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("labels", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("present", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("version", sa.String(64), nullable=False, server_default=""),
        sa.Column("digest", sa.String(80), nullable=False, server_default=""),
        sa.Column("place", sa.Text(), nullable=False, server_default=""),
        sa.Column("said", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("step", sa.BigInteger()),
        sa.Column("steps", sa.BigInteger()),
        sa.Column("note", sa.Text(), nullable=False, server_default=""),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("gate_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("gate_words", sa.Text(), nullable=False, server_default=""),
        sa.Column("rollout_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("problem", sa.Text(), nullable=False, server_default=""),
        sa.UniqueConstraint("model", "number"),
    )
    op.create_index("ix_trainings_asked_ns", "trainings", ["asked_ns"])
    op.create_index("ix_trainings_model_version", "trainings", ["model", "version"])
    op.create_table(
        "training_events",
        sa.Column("training_id", sa.String(12), sa.ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.BigInteger(), primary_key=True),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("step", sa.BigInteger()),
        sa.Column("of", sa.BigInteger()),
        sa.Column("name", sa.String(128)),
        sa.Column("value", sa.Float()),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("path", sa.Text()),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("training_events")
    op.drop_table("trainings")
    op.drop_table("trigger_decisions")
