"""What changed among the cases, by triggers; views of the case list that people keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitoring.schema_base import RowId

revision = "0016"
down_revision: str | None = "0015"
branch_labels = None
depends_on = None

_TABLES = (("cases", "id"), ("case_tags", "case_id"))
_EVENTS = (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
_FUNCTION = """
CREATE FUNCTION hardcase_note_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    INSERT INTO case_changes (case_id, xact) VALUES (OLD.{key}, pg_current_xact_id()::text::bigint);
  ELSE
    INSERT INTO case_changes (case_id, xact) VALUES (NEW.{key}, pg_current_xact_id()::text::bigint);
  END IF;
  RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "case_changes",
        sa.Column("seq", RowId, primary_key=True, autoincrement=True),
        sa.Column("case_id", sa.String(16), nullable=False),
        sa.Column("xact", sa.BigInteger(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_case_changes_xact", "case_changes", ["xact"])
    op.create_table(
        "saved_views",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("owner", "name"),
    )
    for table, key in _TABLES:
        if op.get_bind().dialect.name == "sqlite":
            for event, row in _EVENTS:
                op.execute(
                    f"CREATE TRIGGER note_{table}_{event.lower()} AFTER {event} ON {table} "
                    f"BEGIN INSERT INTO case_changes (case_id, xact) VALUES ({row}.{key}, 0); END"
                )
        else:
            op.execute(_FUNCTION.format(table=table, key=key))
            op.execute(
                f"CREATE TRIGGER note_{table} AFTER INSERT OR UPDATE OR DELETE ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION hardcase_note_{table}()"
            )


def downgrade() -> None:
    """Take back."""
    for table, _ in _TABLES:
        if op.get_bind().dialect.name == "sqlite":
            for event, _ in _EVENTS:
                op.execute(f"DROP TRIGGER note_{table}_{event.lower()}")
        else:
            op.execute(f"DROP TRIGGER note_{table} ON {table}")
            op.execute(f"DROP FUNCTION hardcase_note_{table}()")
    op.drop_table("saved_views")
    op.drop_table("case_changes")
