"""Audited labels, the alarms' evidence, alarms and their history, silences."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "alarm_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("alarm_id", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("promise", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.Float(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_events")),
        sa.UniqueConstraint("alarm_id", "number", name=op.f("uq_alarm_events_alarm_id_number")),
    )
    op.create_table(
        "alarm_watches",
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_alarm_watches")),
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("promise", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("limit", sa.Float(), nullable=False),
        sa.Column("tolerance", sa.Float(), nullable=False),
        sa.Column("tolerance_source", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("evidence", sa.Float(), nullable=False),
        sa.Column("first_position", sa.BigInteger(), nullable=False),
        sa.Column("fired_position", sa.BigInteger(), nullable=False),
        sa.Column("from_ns", sa.BigInteger(), nullable=False),
        sa.Column("fired_ns", sa.BigInteger(), nullable=False),
        sa.Column("changed_ns", sa.BigInteger(), nullable=False),
        sa.Column("resolved_position", sa.BigInteger(), nullable=True),
        sa.Column("resolved_ns", sa.BigInteger(), nullable=True),
        sa.Column("labels", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Float(), nullable=False),
        sa.Column("estimate", sa.Float(), nullable=True),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("examples", sa.JSON(), nullable=False),
        sa.Column("moved", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
        sa.UniqueConstraint("model", "promise", "number", name=op.f("uq_alarms_model_promise_number")),
    )
    op.create_index("ix_alarms_fired_ns", "alarms", ["fired_ns"], unique=False)
    op.create_table(
        "audit_labels",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("variant", sa.String(length=16), nullable=False),
        sa.Column("record_id", sa.String(length=128), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("start_s", sa.BigInteger(), nullable=False),
        sa.Column("label_ns", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("ready_ns", sa.BigInteger(), nullable=False),
        sa.Column("wrong", sa.Float(), nullable=False),
        sa.Column("p_wrong", sa.Float(), nullable=True),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("inclusion_probability", sa.Float(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("use", sa.String(length=16), nullable=False),
        sa.Column("weight", sa.Float(), nullable=True),
        sa.Column("lifetime", sa.Float(), nullable=True),
        sa.Column("run_length", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_labels")),
    )
    op.create_index("ix_audit_labels_model_position", "audit_labels", ["model", "position"], unique=False)
    op.create_index("ix_audit_labels_model_use_ready_ns", "audit_labels", ["model", "use", "ready_ns"], unique=False)
    op.create_table(
        "audit_windows",
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("variant", sa.String(length=16), nullable=False),
        sa.Column("start_s", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("weights", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "variant", "start_s", name=op.f("pk_audit_windows")),
    )
    op.create_table(
        "silences",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("promise", sa.String(length=16), nullable=True),
        sa.Column("from_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_ns", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ended_ns", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_silences")),
    )
    op.create_index("ix_silences_model_until_ns", "silences", ["model", "until_ns"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_silences_model_until_ns", table_name="silences")
    op.drop_table("silences")
    op.drop_table("audit_windows")
    op.drop_index("ix_audit_labels_model_use_ready_ns", table_name="audit_labels")
    op.drop_index("ix_audit_labels_model_position", table_name="audit_labels")
    op.drop_table("audit_labels")
    op.drop_index("ix_alarms_fired_ns", table_name="alarms")
    op.drop_table("alarms")
    op.drop_table("alarm_watches")
    op.drop_table("alarm_events")
