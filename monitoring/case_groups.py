"""Groups of like cases, and the review queue: worked out for windows whose cases changed, earliest first.

Both are functions of the cases that there are. A window's groups depend on its cases and on the leaders of the windows
before it, so a change of a window's leaders makes the windows after it due as well. The work is a duty of the monitor,
in transactions of its own; what is due is in the database, written by whoever changed the cases.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.baselines import Baselines
from monitoring.case_order import queue_values, suppress
from monitoring.case_pools import AUDIT_BIT, PROBE_BIT
from monitoring.cases import mark_due
from monitoring.options import CaseOptions
from monitoring.particulars import measure_of
from monitoring.vectors import stack

WINDOWS_A_TURN = 8


@dataclass(frozen=True, slots=True)
class GroupCount:
    """How many a case in a list stands for.

    Attributes:
        cases: Cases in its group, itself among them.
        records: Flagged records with one of the group's inputs: at least as many, also those that became no case.
    """

    cases: int
    records: int


def update_groups(connection: sa.Connection, baselines: Baselines, options: CaseOptions) -> int:
    """Redo groups and queue of some windows that are due; returns how many are left."""
    d = t.case_windows_due.c
    for _ in range(WINDOWS_A_TURN):
        due = connection.execute(
            sa.select(t.case_windows_due).order_by(d.start_s, d.model, d.version).limit(1)
        ).one_or_none()
        if due is None:
            return 0
        here = sa.and_(d.model == due.model, d.version == due.version, d.start_s == due.start_s)
        connection.execute(t.case_windows_due.delete().where(here))
        if _redo(connection, baselines, options, due.model, due.version, due.start_s):
            c = t.cases.c
            later = sa.select(c.window_start_s).distinct().where(c.model == due.model, c.version == due.version)
            within = c.window_start_s <= due.start_s + int(options.group_s)
            for start_s in list(connection.scalars(later.where(c.window_start_s > due.start_s, within))):
                mark_due(connection, due.model, due.version, start_s)
    return int(connection.scalar(sa.select(sa.func.count()).select_from(t.case_windows_due)) or 0)


def mark_orphans(connection: sa.Connection) -> None:
    """Make windows due whose cases lost the one that stood for them: retention or erasure took it."""
    c, leader = t.cases.c, t.cases.alias("leader")
    gone = ~sa.exists().where(leader.c.id == c.group_id)
    orphans = sa.select(c.model, c.version, c.window_start_s).distinct().where(c.group_id.is_not(None), gone)
    for model, version, start_s in connection.execute(orphans).all():
        mark_due(connection, model, version, start_s)


def group_counts(connection: sa.Connection, ids: Iterable[str]) -> dict[str, GroupCount]:
    """For each of the cases that lead a group: how many it stands for."""
    c, r, v = t.cases.c, t.records.c, t.versions.c
    wanted = sorted(set(ids))
    seen = (
        sa.select(sa.func.count())
        .select_from(t.records.join(t.versions, r.version_id == v.id))
        .where(r.content_hash == c.content_hash, v.model == c.model, v.version == c.version)
        .correlate(t.cases)
        .scalar_subquery()
    )
    inputs = (
        sa.select(c.group_id, sa.func.count().label("cases"), sa.func.max(sa.func.coalesce(seen, 0)).label("records"))
        .where(c.group_id.in_(wanted))
        .group_by(c.group_id, c.content_hash)
    )
    found: dict[str, GroupCount] = {}
    for row in connection.execute(inputs):
        before = found.get(row.group_id, GroupCount(0, 0))
        found[row.group_id] = GroupCount(before.cases + row.cases, before.records + max(row.cases, row.records))
    return found


def _redo(
    connection: sa.Connection, baselines: Baselines, options: CaseOptions, model: str, version: str, start_s: int
) -> bool:
    """Groups and queue of one window; returns whether its leaders are others than before."""
    c = t.cases.c
    names = (c.id, c.flags, c.rank, c.audit_rank, c.content_hash, c.vector, c.group_id, c.likeness, c.queue, c.label)
    window = sa.and_(c.model == model, c.version == version, c.window_start_s == start_s)
    rows = [dict(row) for row in connection.execute(sa.select(*names).where(window)).mappings()]
    if not rows:
        return True  # whatever led here is gone
    rows.sort(key=lambda row: (-row["rank"], row["audit_rank"], row["id"]))
    before = sa.and_(
        c.model == model,
        c.version == version,
        c.window_start_s < start_s,
        c.window_start_s >= start_s - int(options.group_s),
        c.group_id == c.id,
    )
    query = sa.select(c.id, c.content_hash, c.vector).where(before).order_by(c.window_start_s, c.id)
    leaders = connection.execute(query).all()
    vectors = stack([leader.vector for leader in leaders] + [row["vector"] for row in rows])
    measure = measure_of(baselines.get(model, version))
    ids = [leader.id for leader in leaders] + [row["id"] for row in rows]
    folds = suppress(
        vectors[len(leaders) :],
        [row["content_hash"] for row in rows],
        measure.likeness,
        vectors[: len(leaders)],
        [leader.content_hash for leader in leaders],
    )
    hidden = [fold is not None or row["label"] is not None for row, fold in zip(rows, folds, strict=True)]
    values = _queue(rows, vectors[len(leaders) :], measure.typical, hidden, options)
    led = {row["id"] for row in rows if row["group_id"] == row["id"]}
    for row, fold, value in zip(rows, folds, values.tolist(), strict=True):
        group, likeness = (row["id"], 1.0) if fold is None else (ids[fold[0]], round(fold[1], 5))
        made = {"group_id": group, "likeness": likeness, "queue": value}
        if any(row[name] != new for name, new in made.items()):
            connection.execute(t.cases.update().where(c.id == row["id"]).values(**made))
    return led != {row["id"] for row, fold in zip(rows, folds, strict=True) if fold is None}


def _queue(rows: list[dict[str, Any]], vectors: Any, typical: float, hidden: list[bool], options: CaseOptions) -> Any:
    """The queue's values, in the order of `rows`; what was drawn and has no label is dealt in by its lot."""
    drawn = AUDIT_BIT | PROBE_BIT
    audits = np.array([bool(row["flags"] & drawn) and row["label"] is None for row in rows])
    by_lot = sorted(range(len(rows)), key=lambda i: (rows[i]["audit_rank"], rows[i]["id"]) if audits[i] else (-1.0, ""))
    order = np.array(by_lot, dtype=np.int64)
    values = np.empty(len(rows))
    values[order] = queue_values(
        np.array([rows[i]["rank"] for i in by_lot]),
        vectors[order],
        typical,
        audits[order],
        np.array(hidden)[order],
        options.audit_floor,
    )
    return values
