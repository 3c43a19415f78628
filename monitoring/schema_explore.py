"""Tables of what people gather and try: selections of cases, and what versions say to inputs that were sent again.

See `monitoring.schema`.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from monitoring.schema_base import RowId, metadata

selections = Table(
    "selections",
    metadata,
    Column("id", String(12), primary_key=True),  # random hex: it stands in addresses
    Column("model", String(64), nullable=False),
    Column("title", String(200), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("cases", Integer, nullable=False),  # when it was made; retention may have taken some since
)

selection_cases = Table(
    "selection_cases",
    metadata,
    Column("selection_id", String(12), ForeignKey("selections.id", ondelete="CASCADE"), primary_key=True),
    Column("case_id", String(16), ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_selection_cases_case_id", "case_id"),
)

replays = Table(
    "replays",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False),
    Column("versions", JSON, nullable=False),  # that are asked
    Column("chosen", JSON, nullable=False),  # which cases: monitoring.explore.replays.Chosen
    Column("actor", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # monitoring.explore.replays.ReplayState
    Column("created_ns", BigInteger, nullable=False),
    Column("finished_ns", BigInteger),
    Column("total", Integer, nullable=False),  # questions: cases times versions
    Column("done", Integer, nullable=False),
    Column("failed", JSON, nullable=False),  # {reason: questions}
    Column("cancel", Boolean, nullable=False),
    Index("ix_replays_model", "model"),
)

case_answers = Table(
    "case_answers",
    metadata,
    Column("case_id", String(16), ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("time_ns", BigInteger, nullable=False),
    Column("predicted", Integer),  # of the case's row, as are the others
    Column("confidence", Float),
    Column("p_wrong", Float),
    Column("value", Float),
    Column("answer", JSON(none_as_null=True)),
    Column("error", Text),  # why there is no answer
)
