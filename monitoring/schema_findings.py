"""Tables of what was found among the records: due windows of cases, slices, accuracy, drift per slice, reports.

See `monitoring.schema`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from monitoring.schema_base import RowId, metadata

case_windows_due = Table(
    "case_windows_due",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("start_s", BigInteger, primary_key=True),  # the window's cases changed: groups and queue are to be redone
)

slices = Table(
    "slices",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),  # "" where the slice is about every version
    Column("kind", String(16), nullable=False),  # monitoring.slices.found.SliceKind
    Column("conditions", JSON, nullable=False),  # [[attribute, value], …]; of a cluster, what is typical of it
    Column("words", Text, nullable=False),
    Column("centre", LargeBinary),  # float32: by which a cluster is known again
    Column("state", String(16), nullable=False),  # monitoring.slices.found.SliceState
    Column("first_s", BigInteger, nullable=False),  # end of the first span in which it was found
    Column("last_s", BigInteger, nullable=False),  # ... of the last
    Column("rows", BigInteger, nullable=False),  # records in it over that last span
    Column("failure_rate", Float, nullable=False),
    Column("low", Float, nullable=False),  # 95 % interval
    Column("high", Float, nullable=False),
    Column("overall_rate", Float, nullable=False),
    Column("labelled", BigInteger, nullable=False),  # rows whose truth is known; the others count with P(wrong)
    Column("labelled_wrong", BigInteger, nullable=False),
    Column("p_value", Float, nullable=False),
    Column("explains", JSON, nullable=False),  # words of slices that this one makes unnecessary
    # What people decide about it; how it came about is in `slice_events`.
    Column("edition", Integer, nullable=False, server_default="0"),  # counts up with every change by people
    Column("owner", String(64), nullable=False, server_default=""),
    Column("fixed_in", String(64), nullable=False, server_default=""),  # version from which it may not come back
    Column("wake_excess", Float),  # ignored until it has so many failures more than usual
    Column("merged_into", String(12), nullable=False, server_default=""),
    Column("split_from", String(12), nullable=False, server_default=""),
    Index("ix_slices_model_last_s", "model", "last_s"),
)

slice_points = Table(
    "slice_points",
    metadata,
    Column("slice_id", String(12), ForeignKey("slices.id", ondelete="CASCADE"), primary_key=True),
    Column("end_s", BigInteger, primary_key=True),  # of the span that was looked at
    Column("rows", BigInteger, nullable=False),
    Column("failure_rate", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("overall_rate", Float, nullable=False),
)

slice_members = Table(
    "slice_members",
    metadata,
    Column("slice_id", String(12), ForeignKey("slices.id", ondelete="CASCADE"), primary_key=True),
    Column("id_hash", BigInteger, primary_key=True),  # of the record
    Column("time_ns", BigInteger, primary_key=True),
    Column("position", Integer, nullable=False),  # the most telling first
    Index("ix_slice_members_id_hash", "id_hash"),
)

slice_windows = Table(
    "slice_windows",
    metadata,
    Column("version_id", BigInteger, ForeignKey("versions.id"), primary_key=True),
    Column("length_s", Integer, primary_key=True),
    Column("start_s", BigInteger, primary_key=True),  # multiple of length_s
    Column("data", LargeBinary, nullable=False),  # monitoring.slice_windows.SliceStats
)

report_columns = Table(
    "report_columns",
    metadata,
    Column("report_id", String(20), primary_key=True),  # monitoring.report_shelf: the report's files go, these stay
    Column("position", Integer, primary_key=True),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # monitoring.report_shelf.ReportKind
    Column("cause", String(16), nullable=False),  # monitoring.report_shelf.ReportCause
    Column("start_s", BigInteger, nullable=False),
    Column("end_s", BigInteger, nullable=False),
    Column("name", String(128), nullable=False),  # column of the report, or measure of a quality report
    Column("method", String(32), nullable=False),
    Column("threshold", Float),  # NULL: a figure without one
    Column("value", Float),  # NULL: undefined on these rows
    Column("drifted", Boolean, nullable=False),
    Column("rows", BigInteger, nullable=False),  # of the window, after sampling
    Index("ix_report_columns_model_version_end_s", "model", "version", "end_s"),
)

accuracy_estimates = Table(
    "accuracy_estimates",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("version_id", BigInteger, ForeignKey("versions.id"), nullable=False),
    Column("variant", String(16), nullable=False),  # a variant, or "all"
    Column("scope", String(16), nullable=False),  # monitoring.accuracy.estimate.AccuracyScope
    Column("start_s", BigInteger, nullable=False),  # of the newest window in it
    Column("length_s", BigInteger, nullable=False),  # back from that window's end
    Column("method", String(16), nullable=False),  # monitoring.accuracy.estimate.Method
    Column("measure", String(16), nullable=False),  # monitoring.accuracy.estimate.Measure
    Column("value", Float),  # NULL: `missing` says why
    Column("low", Float),
    Column("high", Float),
    Column("level", Float),  # nominal coverage of [low, high]; NULL without an interval
    Column("rows", BigInteger, nullable=False),
    Column("labels", BigInteger, nullable=False),  # behind it
    Column("trusted", Boolean, nullable=False),
    Column("best", Boolean, nullable=False),  # the one that is shown where there is room for one
    Column("missing", Text, nullable=False),
    Column("caveat", Text, nullable=False),
    UniqueConstraint("version_id", "scope", "start_s", "variant", "method"),
    Index("ix_accuracy_estimates_start_s", "start_s"),
)
