"""How accurate a version is now: estimates by window, and the labelled records found by time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("windows", sa.Column("accuracy_due", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.create_index(op.f("ix_windows_accuracy_due"), "windows", ["accuracy_due"], unique=False)
    labelled = sa.text("label IS NOT NULL")
    op.create_index(
        "ix_records_labelled",
        "records",
        ["version_id", "time_ns"],
        unique=False,
        sqlite_where=labelled,
        postgresql_where=labelled,
    )
    op.create_table(
        "accuracy_estimates",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("variant", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("start_s", sa.BigInteger(), nullable=False),
        sa.Column("length_s", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("measure", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("level", sa.Float(), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("labels", sa.BigInteger(), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("best", sa.Boolean(), nullable=False),
        sa.Column("missing", sa.Text(), nullable=False),
        sa.Column("caveat", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_accuracy_estimates_version_id_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accuracy_estimates")),
        sa.UniqueConstraint(
            "version_id",
            "scope",
            "start_s",
            "variant",
            "method",
            name=op.f("uq_accuracy_estimates_version_id_scope_start_s_variant_method"),
        ),
    )
    op.create_index("ix_accuracy_estimates_start_s", "accuracy_estimates", ["start_s"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_table("accuracy_estimates")
    op.drop_index("ix_records_labelled", table_name="records")
    op.drop_index(op.f("ix_windows_accuracy_due"), table_name="windows")
    op.drop_column("windows", "accuracy_due")
