"""What gates decided, and which labelled sets they looked at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision: str | None = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "gates",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("candidate", sa.String(64), nullable=False),
        sa.Column("candidate_digest", sa.String(80), nullable=False),
        sa.Column("champion", sa.String(64), nullable=False),
        sa.Column("champion_digest", sa.String(80), nullable=False),
        sa.Column("training_id", sa.String(64), nullable=False, server_default=""),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("negative_flips", sa.Integer(), nullable=False),
        sa.Column("positive_flips", sa.Integer(), nullable=False),
        sa.Column("report", sa.String(16), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
    )
    op.create_index("ix_gates_model_created_ns", "gates", ["model", "created_ns"])
    op.create_index("ix_gates_training_id", "gates", ["training_id"])
    op.create_table(
        "gate_sets",
        sa.Column("gate_id", sa.String(64), sa.ForeignKey("gates.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("inputs", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
    )
    op.create_index("ix_gate_sets_model_source", "gate_sets", ["model", "source"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("gate_sets")
    op.drop_table("gates")
