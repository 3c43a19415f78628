"""Answers that are more than a class or a number, and how they compare with the truth."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels = None
depends_on = None

_COUNTS = ("matched", "missed", "spurious", "error_sum")


def upgrade() -> None:
    """Apply."""
    op.add_column("records", sa.Column("answer", sa.JSON(), nullable=True))
    op.add_column("cases", sa.Column("answer", sa.JSON(), nullable=True))
    for name in _COUNTS:
        op.add_column("windows", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Take back."""
    for name in reversed(_COUNTS):
        op.drop_column("windows", name)
    op.drop_column("cases", "answer")
    op.drop_column("records", "answer")
