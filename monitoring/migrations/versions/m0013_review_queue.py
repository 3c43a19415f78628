"""Indexes of the review queue; feedback about one record among several with its id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels = None
depends_on = None

_SET = {"lease_by": ("lease_by",), "assignee": ("assignee",), "verdict": ("verdict", "decided_ns")}


def upgrade() -> None:
    """Apply."""
    op.add_column("feedback", sa.Column("about_ns", sa.BigInteger()))
    op.create_index("ix_cases_model_state_priority_queue_id", "cases", ["model", "state", "priority", "queue", "id"])
    for name, columns in _SET.items():
        given = sa.text(f"{name} <> ''")
        op.create_index(
            f"ix_cases_{'_'.join(columns)}", "cases", list(columns), sqlite_where=given, postgresql_where=given
        )


def downgrade() -> None:
    """Take back."""
    for columns in _SET.values():
        op.drop_index(f"ix_cases_{'_'.join(columns)}", "cases")
    op.drop_index("ix_cases_model_state_priority_queue_id", "cases")
    op.drop_column("feedback", "about_ns")
