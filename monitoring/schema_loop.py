"""Tables of the loop: turns (`trainings`), what their trainers said, and every decision about whether to train.

See `monitoring.schema` for the conventions. One row of `trainings` is one turn of the loop: see
`monitoring.loop.contracts.Stage`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from monitoring.schema_base import RowId, metadata

trigger_decisions = Table(
    "trigger_decisions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False),
    Column("time_ns", BigInteger, nullable=False),  # of the first look that said so
    Column("last_ns", BigInteger, nullable=False),  # ... and of the last one
    Column("looks", BigInteger, nullable=False),  # that said so, one after the other
    Column("decision", String(16), nullable=False),  # monitoring.triggers.contracts.Decision
    Column("actor", String(64), nullable=False),  # "hardcase", or who asked for a training by hand
    Column("words", Text, nullable=False),
    Column("reasons", JSON, nullable=False),  # monitoring.triggers.contracts.Reason, of the first look
    Column("evidence", JSON, nullable=False),  # monitoring.triggers.contracts.Evidence, of the first look
    Column("policy", JSON, nullable=False),  # monitoring.triggers.contracts.TriggerPolicy
    Column("training_id", String(12)),  # that it began
    Index("ix_trigger_decisions_model_id", "model", "id"),
)

trainings = Table(
    "trainings",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("number", Integer, nullable=False),  # counts the model's turns
    Column("flight", String(64), unique=True),  # the model until it has ended, then NULL: one at a time
    Column("stage", String(16), nullable=False),  # monitoring.loop.contracts.Stage
    Column("stage_ns", BigInteger, nullable=False),  # since when
    Column("asked_ns", BigInteger, nullable=False),
    Column("requested_ns", BigInteger),  # when it was decided for good: at once, or by an approval
    Column("began_ns", BigInteger),  # the training itself
    Column("trained_ns", BigInteger),
    Column("ended_ns", BigInteger),
    Column("actor", String(64), nullable=False),  # "hardcase", or who asked for it by hand
    Column("reason", Text, nullable=False),
    Column("decision_id", BigInteger, ForeignKey("trigger_decisions.id"), nullable=False),
    Column("approved_by", String(64), nullable=False, server_default=""),
    Column("cancel_by", String(64), nullable=False, server_default=""),  # somebody wants it ended
    Column("cancel_reason", Text, nullable=False, server_default=""),
    Column("champion", String(64), nullable=False),  # when it was asked for; "" without one
    Column("trainer", String(64), nullable=False, server_default=""),
    Column("seed", BigInteger, nullable=False),
    Column("budget_s", Float, nullable=False),
    Column("silence_s", Float, nullable=False),
    Column("parameters", JSON, nullable=False),  # of the trainer
    Column("recipe", JSON, nullable=False),  # monitoring.datasets.recipes.Recipe
    Column("snapshot", String(16), nullable=False, server_default=""),
    Column("snapshot_digest", String(80), nullable=False, server_default=""),
    Column("rows", BigInteger, nullable=False, server_default="0"),  # of the snapshot
    Column("labels", Integer, nullable=False, server_default="0"),  # new ones, when it was decided
    Column("present", Integer, nullable=False, server_default="0"),  # of the present traffic, when it was decided
    Column("version", String(64), nullable=False, server_default=""),  # that the package has
    Column("digest", String(80), nullable=False, server_default=""),  # of the package, once it was admitted
    Column("place", Text, nullable=False, server_default=""),  # process, Ray job or address, for people
    Column("said", BigInteger, nullable=False, server_default="0"),  # events of the running job that were taken over
    Column("step", BigInteger),  # progress, as the trainer last said
    Column("steps", BigInteger),
    Column("note", Text, nullable=False, server_default=""),  # what it is doing, in a line
    Column("metrics", JSON, nullable=False),  # {name: last value}
    Column("gate_id", String(32), nullable=False, server_default=""),
    Column("gate_words", Text, nullable=False, server_default=""),
    Column("rollout_id", String(32), nullable=False, server_default=""),
    Column("problem", Text, nullable=False, server_default=""),  # why it ended without a promotion
    UniqueConstraint("model", "number"),
    Index("ix_trainings_asked_ns", "asked_ns"),
    Index("ix_trainings_model_version", "model", "version"),
)

training_events = Table(
    "training_events",
    metadata,
    Column("training_id", String(12), ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True),  # counts the training's events
    Column("time_ns", BigInteger, nullable=False),  # when it was heard
    Column("kind", String(16), nullable=False),  # export.contracts.training.EventKind, or a stage: monitoring.loop.rows
    Column("step", BigInteger),
    Column("of", BigInteger),
    Column("name", String(128)),
    Column("value", Float),
    Column("text", Text, nullable=False),
    Column("path", Text),
)
