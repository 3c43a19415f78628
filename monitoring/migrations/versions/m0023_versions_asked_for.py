"""Versions of the experiment tracker that a person here asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision: str | None = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("experiment_imports", sa.Column("asked_by", sa.String(64), server_default="", nullable=False))


def downgrade() -> None:
    """Take back."""
    op.drop_column("experiment_imports", "asked_by")
