"""Tables of what lies in labelling tools. See `monitoring.schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, UniqueConstraint

from monitoring.schema_base import RowId, metadata

external_projects = Table(  # a project for each labelling config of each model
    "external_projects",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("tool", String(16), nullable=False),  # monitoring.integrations.names.Tool
    Column("model", String(64), nullable=False),
    Column("config", String(64), nullable=False),  # sha256 of what annotators may answer, as the tool was told
    Column("external_id", String(64), nullable=False),  # as the tool numbers it
    Column("created_ns", BigInteger, nullable=False),
    Column("seen", String(40), nullable=False),  # changes up to here were fetched: a time of the tool's clock; ""
    Column("asked_ns", BigInteger, nullable=False),  # when something last said that there are changes
    Column("looked_ns", BigInteger, nullable=False),  # when it was last looked for changes, with success
    UniqueConstraint("tool", "model", "config"),
)

external_tasks = Table(  # a case is in a tool at most once
    "external_tasks",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("tool", String(16), nullable=False),
    Column("case_id", String(16), nullable=False),  # no foreign key: what lies in the tool outlives the case
    Column("batch", String(64), nullable=False),  # "" where its case was pushed by itself
    Column("state", String(16), nullable=False),  # monitoring.integrations.names.TaskState
    Column("project_id", BigInteger),  # of external_projects; NULL while it waits
    Column("external_id", String(64)),  # as the tool numbers it; NULL while it waits
    Column("asked_by", String(64), nullable=False),
    Column("asked_ns", BigInteger, nullable=False),
    Column("pushed_ns", BigInteger),
    Column("pulled_ns", BigInteger),  # when its annotations last changed something here
    Column("digest", String(64), nullable=False),  # sha256 of the annotations that were imported last; "" for none
    Column("attempts", Integer, nullable=False),
    Column("problem", Text, nullable=False),  # why it was not pushed or not imported; ""
    UniqueConstraint("tool", "case_id"),
    Index("ix_external_tasks_project_id_external_id", "project_id", "external_id"),
    Index("ix_external_tasks_tool_state_id", "tool", "state", "id"),
)

external_tools = Table(
    "external_tools",
    metadata,
    Column("tool", String(16), primary_key=True),
    Column("failing_ns", BigInteger, nullable=False),  # since when it does not answer; 0: it does
    Column("problem", Text, nullable=False),  # what its last failure was; ""
    Column("failures", BigInteger, nullable=False),  # turns in a row that failed
    Column("next_ns", BigInteger, nullable=False),  # not called before
    Column("answered_ns", BigInteger, nullable=False),  # when it last answered; 0: never
    Column("pushed", BigInteger, nullable=False),  # tasks, ever
    Column("pulled", BigInteger, nullable=False),  # annotations taken over, ever
    Column("refused", BigInteger, nullable=False),  # annotations that do not fit the model's answers, ever
    Column("hints", BigInteger, nullable=False),  # webhooks that were genuine, ever
)
