"""The record index: one row a record, written by the driver directly because there are tens of thousands a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.batches import Batch
from monitoring.case_rows import to_json
from monitoring.keys import printable
from monitoring.particulars import Particulars
from monitoring.score_rows import pack
from monitoring.scores import Scored

_COLUMNS = (
    "id_hash",
    "time_ns",
    "record_id",
    "version_id",
    "variant",
    "outcome",
    "rows",
    "worst_row",
    "predicted",
    "predicted_rows",
    "confidence",
    "p_wrong",
    "value",
    "answer",
    "flags",
    "probability",
    "source",
    "segment",
    "offset",
    "sequence",
    "content_hash",
    "vector",
    "bins",
    "tags",
    "scores",
    "fit",
    "total_us",
)
_LATER = {"seq", "label", "correct_rows"}
assert set(_COLUMNS) | _LATER == set(t.records.c.keys())


def newest_record(connection: sa.Connection) -> int:
    """`records.seq` of the record that was inserted last."""
    return int(connection.scalar(sa.select(sa.func.max(t.records.c.seq))) or 0)


def insert_records(
    connection: sa.Connection,
    batch: Batch,
    scored: Scored,
    version_id: int,
    id_hashes: npt.NDArray[np.int64],
    flags: npt.NDArray[np.int64],
    noted: Particulars,
) -> None:
    """Index the records of a batch."""
    n = len(batch)
    known = len(batch.row_record) > 0
    worst = scored.worst if known else None
    first = np.searchsorted(batch.row_record, np.arange(n)) if known else None
    predicted = _optional(scored.predicted[worst], scored.predicted[worst] >= 0) if known else [None] * n
    confidence = _optional(scored.confidence[worst]) if known else [None] * n
    p_wrong = _optional(scored.p_wrong[worst]) if known else [None] * n
    answers = scored.answered.value
    value = _optional(answers[worst]) if known and answers is not None else [None] * n
    worst_row = (worst - first).tolist() if worst is not None and first is not None else [0] * n
    places = [(p.place.source, p.place.segment, p.place.offset, p.place.sequence) for p in batch.pieces]
    repeats = [len(p.items) for p in batch.pieces]
    source, segment, offset, sequence = (
        [part for place, times in zip(places, repeats, strict=True) for part in [place[i]] * times] for i in range(4)
    )
    rows = zip(
        id_hashes.tolist(),
        batch.time_ns.tolist(),
        [printable(identity) for identity in batch.ids],
        [version_id] * n,
        [batch.variant] * n,
        [batch.outcome.value] * n,
        batch.rows.tolist(),
        worst_row,
        predicted,
        _predicted_rows(batch, scored) if known else [None] * n,
        confidence,
        p_wrong,
        value,
        _answers(batch, scored) if known else [None] * n,
        flags.tolist(),
        batch.probability.tolist(),
        source,
        segment,
        offset,
        sequence,
        noted.contents,
        [noted.vector_of(record) for record in range(n)] if noted.vectors is not None else [None] * n,
        [row.tobytes() for row in noted.bins] if noted.bins is not None else [None] * n,
        noted.tags,
        pack(scored.answered.scores, worst) if worst is not None else [None] * n,
        _optional(scored.fit, np.isfinite(scored.p_wrong[worst])) if worst is not None else [None] * n,
        batch.total_us.tolist(),
        strict=True,
    )
    connection.exec_driver_sql(_statement(connection.dialect), list(rows))


def _statement(dialect: sa.Dialect) -> str:
    quote = dialect.identifier_preparer.quote
    mark = "?" if dialect.paramstyle == "qmark" else "%s"
    names, marks = ", ".join(map(quote, _COLUMNS)), ", ".join([mark] * len(_COLUMNS))
    return f"INSERT INTO records ({names}) VALUES ({marks})"


def _optional(values: Any, known: Any = None) -> list[Any]:
    """A list with None where a value is not known."""
    plain: list[Any] = values.tolist()
    known = np.isfinite(values) if known is None else known
    if known.all():
        return plain
    return [value if there else None for value, there in zip(plain, known.tolist(), strict=True)]


def _predicted_rows(batch: Batch, scored: Scored) -> list[str | None]:
    """JSON of the predicted class of every row, for records of several rows."""
    several = batch.rows != 1
    if not several.any():
        return [None] * len(batch)
    made: list[str | None] = []
    for record, many in enumerate(several.tolist()):
        classes = scored.predicted[batch.rows_of(record)].tolist() if many else []
        made.append(to_json([None if c < 0 else c for c in classes]) if many else None)
    return made


def _answers(batch: Batch, scored: Scored) -> list[str | None]:
    """JSON of the answers, one entry a row, where class and value do not say it all."""
    details = scored.answered.details
    if details is None:
        return [None] * len(batch)
    return [to_json(details[batch.rows_of(record)]) for record in range(len(batch))]
