"""Tables of the gate: what it decided, and which labelled sets it looked at. See `monitoring.schema`."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from monitoring.schema_base import metadata

gates = Table(
    "gates",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("candidate", String(64), nullable=False),
    Column("candidate_digest", String(80), nullable=False),
    Column("champion", String(64), nullable=False),
    Column("champion_digest", String(80), nullable=False),
    Column("training_id", String(64), nullable=False, server_default=""),  # "" where no training asked
    Column("outcome", String(16), nullable=False),  # monitoring.gate.contracts.Outcome
    Column("words", Text, nullable=False),
    Column("result", JSON, nullable=False),  # monitoring.gate.job.GateResult without its flips
    Column("negative_flips", Integer, nullable=False),
    Column("positive_flips", Integer, nullable=False),
    Column("report", String(16), nullable=False),  # monitoring.gate.rows.ReportState
    Column("created_ns", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Index("ix_gates_model_created_ns", "model", "created_ns"),
    Index("ix_gates_training_id", "training_id"),
)

gate_sets = Table(  # which labelled inputs a gate looked at: a fixed set wears out
    "gate_sets",
    metadata,
    Column("gate_id", String(64), ForeignKey("gates.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("model", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("kind", String(16), nullable=False),  # monitoring.gate.contracts.SetKind
    Column("source", String(200), nullable=False),  # what is looked at again and again: the same in every gate
    Column("digest", String(80), nullable=False),  # of the snapshot
    Column("inputs", Integer, nullable=False),
    Column("used", Integer, nullable=False),  # gates that had looked before
    Index("ix_gate_sets_model_source", "model", "source"),
)
