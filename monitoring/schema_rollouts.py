"""Tables of roll-outs: where each stands with everything it has counted, and the complete log of what happened.

See `monitoring.schema`.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text, text

from monitoring.schema_base import RowId, metadata

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("candidate", String(64), nullable=False),
    Column("champion", String(64)),  # who answered when it began; NULL: nobody
    Column("gate_id", String(64)),
    Column("training_id", String(64)),
    Column("author", String(64), nullable=False),
    Column("policy", JSON, nullable=False),  # monitoring.rollout.policy.RolloutPolicy
    Column("state", String(16), nullable=False),  # monitoring.rollout.policy.RolloutState
    Column("reason", Text, nullable=False),  # why it stands where it stands
    Column("standing", JSON, nullable=False),  # monitoring.rollout.standing.Standing: what was counted, how far
    Column("intent", JSON),  # the plan that is being written; NULL between two writes
    Column("wish", JSON),  # what a person asked and the duty has not done yet
    Column("step", Integer, nullable=False),  # index into the policy's steps; -1 before the first
    Column("created_ns", BigInteger, nullable=False),
    Column("changed_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Index("ix_rollouts_model_created_ns", "model", "created_ns"),
    Index(  # one at a time
        "uq_rollouts_running",
        "model",
        unique=True,
        sqlite_where=text("ended_ns IS NULL"),
        postgresql_where=text("ended_ns IS NULL"),
    ),
)

rollout_events = Table(  # append-only
    "rollout_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("rollout_id", String(16), ForeignKey("rollouts.id"), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # monitoring.rollout.policy.EventKind
    Column("step", Integer, nullable=False),
    Column("actor", String(64), nullable=False),  # who decided: a person, or "rollout"
    Column("words", Text, nullable=False),
    Column("revision", BigInteger),  # of the plan, after it
    Column("evidence", JSON, nullable=False),  # what was known then
    Index("ix_rollout_events_rollout_id_id", "rollout_id", "id"),
)
