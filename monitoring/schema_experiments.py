"""Tables of what an experiment tracker was told and of what came from its registry. See `monitoring.schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, UniqueConstraint

from monitoring.schema_base import RowId, metadata

experiment_runs = Table(  # a training, and the run that tells of it
    "experiment_runs",
    metadata,
    Column("training_id", String(64), primary_key=True),  # no foreign key: what lies in the tracker outlives the row
    Column("experiment", String(64), nullable=False),  # as the tracker numbers it
    Column("run", String(64), nullable=False),
    Column("metrics", BigInteger, nullable=False),  # events of the training before this one were told
    Column("digest", String(64), nullable=False),  # sha256 of the rest that it was told last; "" for nothing yet
    Column("complete", Boolean, nullable=False),  # the training has ended, and everything was told
    Column("problem", Text, nullable=False),  # why something was left out; ""
)

experiment_versions = Table(  # a version of ours as a version of the tracker's registry
    "experiment_versions",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("name", String(256), nullable=False),  # of the registered model
    Column("number", String(16), nullable=False),  # as the tracker numbers it
    Column("run", String(64), nullable=False),  # "" where no training of ours made it
    Column("digest", String(64), nullable=False),  # sha256 of the tags that it was given last
)

experiment_imports = Table(  # a version that somebody registered in the tracker, for us
    "experiment_imports",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("name", String(256), nullable=False),  # of the registered model
    Column("number", String(16), nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),  # that it got here; "" before
    Column("training_id", String(64), nullable=False),  # its turn of the loop; "" before
    Column("state", String(16), nullable=False),  # monitoring.integrations.mlflow.contracts.ImportState
    Column("told", String(16), nullable=False),  # the state that the tracker was told last; "" before
    Column("attempts", Integer, nullable=False),
    Column("found_ns", BigInteger, nullable=False),
    Column("problem", Text, nullable=False),  # why it was refused, or could not be fetched; ""
    Column("asked_by", String(64), nullable=False, server_default=""),  # who asked for it here; "" for a tag over there
    UniqueConstraint("name", "number"),
    Index("ix_experiment_imports_state", "state"),
)
