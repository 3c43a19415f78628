"""Scores of every record, and the models of P(wrong) that were fitted on reviewed ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("records", sa.Column("scores", sa.LargeBinary(), nullable=True))
    op.add_column("records", sa.Column("fit", sa.Integer(), nullable=True))
    op.create_index("ix_feedback_model_time_ns", "feedback", ["model", "time_ns"], unique=False)
    op.create_table(
        "score_fits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("until_ns", sa.BigInteger(), nullable=False),
        sa.Column("active_ns", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("labels", sa.Integer(), nullable=False),
        sa.Column("model", sa.JSON(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_score_fits_version_id_versions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_score_fits")),
        sa.UniqueConstraint("version_id", "number", name=op.f("uq_score_fits_version_id_number")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("score_fits")
    op.drop_index("ix_feedback_model_time_ns", table_name="feedback")
    op.drop_column("records", "fit")
    op.drop_column("records", "scores")
