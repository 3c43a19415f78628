"""Writing what the alarms stand on: populations and labels as records and feedback come in. One transaction each.

`monitoring.alarms.rows_turn` takes the labels from here into the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.alarms.bets import Floats
from monitoring.alarms.draw import chances_of
from monitoring.alarms.labels import Population, Use
from monitoring.batches import Batch
from monitoring.keys import case_id
from monitoring.options import CaseOptions, MonitorOptions
from monitoring.records.record import Outcome
from monitoring.scores import Scored
from monitoring.tasks.protocol import Row, Verdict
from monitoring.window_rows import NANOSECONDS, WindowKey, window_start

Populations = dict[WindowKey, Population]


def add_population(populations: Populations, key: WindowKey, batch: Batch, scored: Scored, here: Any) -> None:
    """Count the records of a batch marked by `here`, (N,), that the audit is drawn from: answers that clients got."""
    if batch.outcome is not Outcome.OK or not batch.outputs or batch.variant == Variant.SHADOW.value:
        return
    p = p_of_records(scored, len(batch))
    populations.setdefault(key, Population()).add(p[here], batch.probability[here])


def p_of_records(scored: Scored, records: int) -> Floats:
    """P(wrong) of each record's worst row, (records,); NaN where not known."""
    return scored.p_wrong[scored.worst].astype(np.float64) if len(scored.p_wrong) else np.full(records, np.nan)


def write_populations(connection: sa.Connection, populations: Populations, cases: CaseOptions) -> None:
    """Add to what is stored of each window."""
    a = t.audit_windows.c
    for key in sorted(populations, key=lambda k: (k.version_id, k.variant, k.start_s)):
        added = populations[key]
        where = sa.and_(a.version_id == key.version_id, a.variant == key.variant, a.start_s == key.start_s)
        row = connection.execute(sa.select(t.audit_windows).where(where)).mappings().one_or_none()
        if row is None:
            place = {"version_id": key.version_id, "variant": key.variant, "start_s": key.start_s}
            ratio = cases.probe_rate / cases.audit_rate if cases.audit_rate > 0.0 else 0.0
            values = {"records": added.records, "probability": added.probability, "weights": added.weights.tolist()}
            connection.execute(t.audit_windows.insert().values(**place, **values, probe_ratio=ratio))
        else:
            values = {
                "records": row["records"] + added.records,
                "probability": min(row["probability"], added.probability),
                "weights": (np.asarray(row["weights"], dtype=np.int64) + added.weights).tolist(),
            }
            connection.execute(t.audit_windows.update().where(where).values(**values))


def audit_label(
    record: Row, said: Sequence[tuple[Mapping[str, Any], Verdict]], options: MonitorOptions
) -> dict[str, Any] | None:
    """The row of `audit_labels` of a record that was drawn: its first comparable label, or None while there is none.

    Args:
        record: A row of `records` with its model and version.
        said: Rows of `feedback` about it with what they say, by time and uid.
        options: Of the monitor.
    """
    first = next(((i, v) for i, v in said if v.correct is not None and v.rows), None)
    if first is None:
        return None
    item, verdict = first
    rates = (options.cases.audit_rate, options.cases.probe_rate)
    start_s = window_start(record["time_ns"], options.window_s)
    same = ("model", "version_id", "version", "variant", "record_id", "time_ns", "p_wrong", "probability")
    use = Use.WAITING if record["variant"] == Variant.CHAMPION.value else Use.OTHER_VARIANT
    return {name: record[name] for name in same} | {
        "id": case_id(record["model"], record["record_id"], record["time_ns"], record["variant"]),
        "start_s": start_s,
        "label_ns": item["time_ns"],
        "uid": item["uid"],
        "ready_ns": max(item["time_ns"], (start_s + options.window_s) * NANOSECONDS),
        "wrong": 1.0 - (verdict.correct or 0) / verdict.rows,
        "inclusion_probability": float(chances_of(_known(record["p_wrong"]), *rates)) * record["probability"],
        "use": use.value,
    }


def _known(p_wrong: float | None) -> float:
    return float("nan") if p_wrong is None else p_wrong


def write_labels(connection: sa.Connection, labels: Iterable[dict[str, Any]]) -> None:
    """Store labels; one that is there follows an earlier label that came later, until it is counted."""
    wanted = {row["id"]: row for row in labels}
    a = t.audit_labels.c
    names = list(wanted)
    known: dict[str, Any] = {}
    for i in range(0, len(names), 500):
        query = sa.select(a.id, a.use, a.label_ns, a.uid).where(a.id.in_(names[i : i + 500]))
        known.update({row.id: row for row in connection.execute(query)})
    fresh = [row for identity, row in wanted.items() if identity not in known]
    if fresh:
        connection.execute(t.audit_labels.insert(), fresh)
    for identity, row in wanted.items():
        stored = known.get(identity)
        if stored is None or stored.use not in (Use.WAITING.value, Use.OTHER_VARIANT.value):
            continue
        if (stored.label_ns, stored.uid) != (row["label_ns"], row["uid"]):
            connection.execute(t.audit_labels.update().where(a.id == identity).values(**row))


def drop_labels(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Take away labels that were withdrawn before they were counted. Evidence that was given stays given."""
    a = t.audit_labels.c
    open_uses = (Use.WAITING.value, Use.OTHER_VARIANT.value)
    for i in range(0, len(ids), 500):
        connection.execute(t.audit_labels.delete().where(a.id.in_(ids[i : i + 500]), a.use.in_(open_uses)))
