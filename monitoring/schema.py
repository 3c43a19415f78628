"""The monitor's tables. `monitoring.migrations` makes them; a test holds the two equal.

Conventions: times are integers, nanoseconds (`_ns`) or seconds (`_s`) since the epoch, UTC. Hashes are 64 bits, stored
signed. Everything that a record changes is written in the transaction that moves its source's offset, so no row here
is ever half of a batch. Sums are integers (fixed point where the quantity is real), so that they do not depend on the
order in which batches arrive.
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
    text,
    true,
)

from monitoring.schema_alarms import alarm_events, alarm_watches, alarms, audit_labels, audit_windows, silences
from monitoring.schema_base import RowId, metadata
from monitoring.schema_cases import case_tensors, cases, feedback
from monitoring.schema_datasets import snapshot_items, snapshots
from monitoring.schema_drift import signals
from monitoring.schema_experiments import experiment_imports, experiment_runs, experiment_versions
from monitoring.schema_explore import case_answers, replays, selection_cases, selections
from monitoring.schema_findings import (
    accuracy_estimates,
    case_windows_due,
    report_columns,
    slice_members,
    slice_points,
    slice_windows,
    slices,
)
from monitoring.schema_gate import gate_sets, gates
from monitoring.schema_listing import case_changes, saved_views
from monitoring.schema_loop import training_events, trainings, trigger_decisions
from monitoring.schema_notify import deliveries, keyed_feedback, notices, record_keys
from monitoring.schema_people import api_keys, audit_events, sessions, sign_in_tries, users
from monitoring.schema_review import acts, case_tags, decisions, settle_due
from monitoring.schema_rollouts import rollout_events, rollouts
from monitoring.schema_slices import batch_cases, batches, slice_events, slice_watches, test_set_items, test_sets
from monitoring.schema_tools import external_projects, external_tasks, external_tools
from monitoring.schema_upkeep import archive_files, dead_letters, erasure_items, erasures, events, facts, leases, purges

__all__ = [
    "RowId",
    "accuracy_estimates",
    "acts",
    "alarm_events",
    "alarm_watches",
    "alarms",
    "api_keys",
    "archive_files",
    "audit_events",
    "audit_labels",
    "audit_windows",
    "batch_cases",
    "batches",
    "case_answers",
    "case_changes",
    "case_tags",
    "case_tensors",
    "case_windows_due",
    "cases",
    "dead_letters",
    "decisions",
    "deliveries",
    "erasure_items",
    "erasures",
    "events",
    "experiment_imports",
    "experiment_runs",
    "experiment_versions",
    "external_projects",
    "external_tasks",
    "external_tools",
    "facts",
    "feedback",
    "gate_sets",
    "gates",
    "keyed_feedback",
    "leases",
    "metadata",
    "notices",
    "purges",
    "record_keys",
    "replays",
    "report_columns",
    "rollout_events",
    "rollouts",
    "saved_views",
    "selection_cases",
    "selections",
    "sessions",
    "settle_due",
    "sign_in_tries",
    "signals",
    "silences",
    "slice_events",
    "slice_members",
    "slice_points",
    "slice_watches",
    "slice_windows",
    "slices",
    "snapshot_items",
    "snapshots",
    "test_set_items",
    "test_sets",
    "training_events",
    "trainings",
    "trigger_decisions",
    "users",
]

offsets = Table(
    "offsets",
    metadata,
    Column("source", String(255), primary_key=True),  # folder name of a replica's incarnation
    Column("segment", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),  # of the last frame that was consumed
    Column("event_ns", BigInteger, nullable=False),  # latest record time seen in this source
    Column("finalised", Boolean, nullable=False),  # the writer is dead and everything it left was read
)

versions = Table(
    "versions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("digest", String(80), nullable=False),
    Column("first_ns", BigInteger, nullable=False),  # earliest record time
    Column("last_ns", BigInteger, nullable=False),  # latest record time
    UniqueConstraint("model", "version"),
)

accounting = Table(
    "accounting",
    metadata,
    Column("source", String(255), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("captured", BigInteger, nullable=False),
    Column("sampled_out", BigInteger, nullable=False),
    Column("dropped", JSON, nullable=False),  # {reason: count}
    Column("lost", BigInteger, nullable=False),  # by a crash: counted, never written
    Column("corrupt", BigInteger, nullable=False),  # written, and no longer readable
    Column("final", Boolean, nullable=False),  # the writer is dead: these numbers will not change
    Column("ingested", BigInteger, nullable=False),  # records that the monitor has consumed
)

records = Table(
    "records",
    metadata,
    Column("seq", RowId, primary_key=True, autoincrement=True),  # order of arrival
    Column("id_hash", BigInteger, nullable=False),  # xxh64 of model, NUL, record id
    Column("time_ns", BigInteger, nullable=False),
    Column("record_id", String(128), nullable=False),
    Column("version_id", BigInteger, nullable=False),
    Column("variant", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("worst_row", Integer, nullable=False),  # row with the highest p_wrong; the scores are its
    Column("predicted", Integer),  # class index of that row
    Column("predicted_rows", JSON),  # class index of every row, when there is more than one
    Column("confidence", Float),
    Column("p_wrong", Float),
    Column("value", Float),  # the answer of a regression with one value
    Column("answer", JSON(none_as_null=True)),  # one entry a row, where class and value do not say it all
    Column("flags", Integer, nullable=False),  # bits of monitoring.flags.FLAG_BITS
    Column("probability", Float, nullable=False),  # with which capture kept the record
    Column("source", String(255), nullable=False),
    Column("segment", BigInteger, nullable=False),  # position of the frame *before* the record's; -1: the beginning
    Column("offset", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("label", Text),  # effective label, JSON
    Column("correct_rows", Integer),  # rows answered right by that label; NULL: not comparable, or no label
    Column("scores", LargeBinary),  # of the worst row: float32 in the order of monitoring.score_rows.STORED
    Column("fit", Integer),  # number of the score_fits row that gave p_wrong; 0: the one made at export
    Column("content_hash", BigInteger),  # xxh64 of the inputs, of flagged records: monitoring.contents
    Column("vector", LargeBinary),  # int8, the worst row's embedding: monitoring.vectors
    Column("bins", LargeBinary),  # uint8, the worst row's watched inputs as levels: monitoring.slices.columns
    Column("tags", Text),  # JSON: tags and parameters with a single value
    Column("total_us", BigInteger),  # from received to answered
    # Not unique: clients use ids again, even within one batch. What was read already is told by its sequence number.
    Index("ix_records_id_hash", "id_hash"),
    Index(
        "ix_records_content_hash",
        "content_hash",
        sqlite_where=text("content_hash IS NOT NULL"),
        postgresql_where=text("content_hash IS NOT NULL"),
    ),
    Index(
        "ix_records_labelled",
        "version_id",
        "time_ns",
        sqlite_where=text("label IS NOT NULL"),
        postgresql_where=text("label IS NOT NULL"),
    ),
)

score_fits = Table(
    "score_fits",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("version_id", BigInteger, ForeignKey("versions.id"), nullable=False),
    Column("number", Integer, nullable=False),  # 1, 2, … within the version; 0 is the model made at export
    Column("until_ns", BigInteger, nullable=False),  # labels given before this were used
    Column("active_ns", BigInteger, nullable=False),  # records from this time on are scored with it, if it was adopted
    Column("state", String(16), nullable=False),  # monitoring.score_fits.FitState
    Column("labels", Integer, nullable=False),  # labelled records behind it
    Column("model", JSON),  # export.contracts.fusion.FailureModel; NULL where nothing could be fitted
    Column("evidence", JSON, nullable=False),  # monitoring.score_fits.Evidence: what was compared, and how it came out
    UniqueConstraint("version_id", "number"),
)

windows = Table(
    "windows",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("version_id", BigInteger, ForeignKey("versions.id"), nullable=False),
    Column("variant", String(16), nullable=False),
    Column("start_s", BigInteger, nullable=False),  # multiple of length_s
    Column("length_s", Integer, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),  # scored rows of requests that were answered
    Column("outcomes", JSON, nullable=False),  # {outcome: requests}
    Column("flagged", BigInteger, nullable=False),  # records with a score, novelty or rule flag
    Column("labelled", BigInteger, nullable=False),  # rows with a comparable label
    Column("correct", BigInteger, nullable=False),
    Column("audit_labelled", BigInteger, nullable=False),  # the same over audit records only: unbiased
    Column("audit_correct", BigInteger, nullable=False),
    Column("p_wrong_sum", BigInteger, nullable=False),  # fixed point, 2**-20
    Column("matched", BigInteger, nullable=False, server_default="0"),  # predicted labels or boxes that are true
    Column("missed", BigInteger, nullable=False, server_default="0"),  # true ones that were not predicted
    Column("spurious", BigInteger, nullable=False, server_default="0"),  # predicted ones that are not true
    Column("error_sum", BigInteger, nullable=False, server_default="0"),  # |error| in tolerances, fixed point 2**-20
    Column("late", BigInteger, nullable=False),  # records that came after the watermark had passed the window's end
    Column("signals_due", Boolean, nullable=False, index=True),  # changed since its signals were computed
    Column("accuracy_due", Boolean, nullable=False, index=True, server_default=true()),  # ... since its estimates were
    Column("stats", LargeBinary, nullable=False),  # monitoring.windows.WindowStats
    UniqueConstraint("version_id", "length_s", "start_s", "variant"),
    Index("ix_windows_start_s", "start_s"),
)

window_samples = Table(
    "window_samples",
    metadata,
    Column("window_id", BigInteger, ForeignKey("windows.id", ondelete="CASCADE"), primary_key=True),
    Column("data", LargeBinary, nullable=False),  # monitoring.windows.WindowSample: a uniform sample of rows
)
