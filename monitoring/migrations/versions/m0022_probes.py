"""How much the draw for the alarms preferred doubtful records, by window."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision: str | None = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("audit_windows", sa.Column("probe_ratio", sa.Float(), nullable=False, server_default="0"))
