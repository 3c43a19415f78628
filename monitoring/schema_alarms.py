"""The alarms' tables; see `monitoring.schema` for the conventions."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, Text, UniqueConstraint

from monitoring.schema_base import RowId, metadata

audit_windows = Table(  # what the audit of a window was drawn from
    "audit_windows",
    metadata,
    Column("version_id", BigInteger, primary_key=True),
    Column("variant", String(16), primary_key=True),
    Column("start_s", BigInteger, primary_key=True),
    Column("records", BigInteger, nullable=False),  # answered and captured
    Column("probability", Float, nullable=False),  # the least with which capture kept one of them
    Column("weights", JSON, nullable=False),  # fixed-point sums of 1/probability by bin of P(wrong)
    Column("probe_ratio", Float, nullable=False, server_default="0"),  # probe_rate over audit_rate; 0: no probes
)

audit_labels = Table(  # the first comparable label of every audited record, and what it did to the evidence
    "audit_labels",
    metadata,
    Column("id", String(16), primary_key=True),  # as the case of the record
    Column("model", String(64), nullable=False),
    Column("version_id", BigInteger, nullable=False),
    Column("version", String(64), nullable=False),
    Column("variant", String(16), nullable=False),
    Column("record_id", String(128), nullable=False),
    Column("time_ns", BigInteger, nullable=False),  # of the record
    Column("start_s", BigInteger, nullable=False),  # of its window
    Column("label_ns", BigInteger, nullable=False),  # when the label came in
    Column("uid", BigInteger, nullable=False),  # of the piece of feedback
    Column("ready_ns", BigInteger, nullable=False),  # label_ns, or the end of the window where that is later
    Column("wrong", Float, nullable=False),  # share of the record's rows that were answered wrong
    Column("p_wrong", Float),
    Column("probability", Float, nullable=False),  # with which capture kept the record
    Column("inclusion_probability", Float, nullable=False),  # ... and the audit drew it
    Column("position", BigInteger),  # place in the model's evidence; NULL: waits, or counts for nothing
    Column("use", String(16), nullable=False),  # monitoring.alarms.labels.Use
    Column("weight", Float),
    Column("lifetime", Float),  # evidence after this label, by promise
    Column("run_length", Float),
    Index("ix_audit_labels_model_use_ready_ns", "model", "use", "ready_ns"),
    Index("ix_audit_labels_model_position", "model", "position"),
)

alarm_watches = Table(
    "alarm_watches",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("state", JSON, nullable=False),  # monitoring.alarms.watch.Watch
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", String(16), primary_key=True),  # of model, promise and number
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("promise", String(16), nullable=False),  # monitoring.alarms.watch.Promise
    Column("number", Integer, nullable=False),  # counts the model's alarms of this promise
    Column("state", String(16), nullable=False),  # monitoring.alarms.watch.AlarmState
    Column("limit", Float, nullable=False),  # the error rate that the evidence speaks against
    Column("tolerance", Float, nullable=False),
    Column("tolerance_source", Text, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("evidence", Float, nullable=False),  # when it fired
    Column("first_position", BigInteger, nullable=False),  # labels behind it: from ...
    Column("fired_position", BigInteger, nullable=False),  # ... to
    Column("from_ns", BigInteger, nullable=False),  # times of those records
    Column("fired_ns", BigInteger, nullable=False),
    Column("changed_ns", BigInteger, nullable=False),
    Column("resolved_position", BigInteger),
    Column("resolved_ns", BigInteger),
    Column("labels", Integer, nullable=False),
    Column("errors", Float, nullable=False),
    Column("estimate", Float),  # of the error rate, with its interval
    Column("low", Float),
    Column("high", Float),
    Column("examples", JSON, nullable=False),  # ids of failing cases, newest first
    Column("moved", JSON(none_as_null=True)),  # signals over their threshold beside it; NULL until they are computed
    UniqueConstraint("model", "promise", "number"),
    Index("ix_alarms_fired_ns", "fired_ns"),
)

alarm_events = Table(  # what happened to alarms, in order; who acts at alarms remembers the last id it has seen
    "alarm_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("alarm_id", String(16), nullable=False),
    Column("number", Integer, nullable=False),  # counts the alarm's events
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("promise", String(16), nullable=False),
    Column("state", String(16), nullable=False),  # the alarm's from now on
    Column("at_ns", BigInteger, nullable=False),  # event time: of the label that decided
    Column("position", BigInteger, nullable=False),
    Column("evidence", Float, nullable=False),
    Column("text", Text, nullable=False),
    UniqueConstraint("alarm_id", "number"),
)

silences = Table(
    "silences",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False),
    Column("promise", String(16)),  # NULL: both
    Column("from_ns", BigInteger, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Column("author", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_ns", BigInteger),  # earlier than agreed
    Column("ended_by", String(128)),
    Index("ix_silences_model_until_ns", "model", "until_ns"),
)
