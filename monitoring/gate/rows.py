"""The gate's tables: what was decided, and how often each labelled set was looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from export.contracts import codec
from export.contracts.dataset import Split
from export.contracts.errors import NotFound
from monitoring import schema as t
from monitoring.gate.contracts import Outcome
from monitoring.gate.job import GateResult
from monitoring.gate.options import GateOptions
from monitoring.store import Store


class ReportState(StrEnum):
    """What there is of a gate's files."""

    KEPT = "kept"
    ERASED = "erased"  # an input in it was erased: report and list of inputs were deleted, the verdict stays


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRow:
    """A gate. Columns as in `monitoring.schema_gate.gates`; `result` has no flips."""

    id: str
    model: str
    candidate: str
    candidate_digest: str
    champion: str
    champion_digest: str
    training_id: str
    outcome: Outcome
    words: str
    result: GateResult
    negative_flips: int
    positive_flips: int
    report: ReportState
    created_ns: int
    seconds: float


def record_gate(connection: sa.Connection, result: GateResult, *, now_ns: int) -> str:
    """Write a verdict down and count its looks at the sets; returns the gate's id. The same gate again changes nothing.

    Args:
        connection: Within a transaction.
        result: What the job left.
        now_ns: Time of the table's row.
    """
    g = t.gates.c
    if connection.scalar(sa.select(g.id).where(g.id == result.id)) is not None:
        return result.id
    plain = codec.to_plain(replace(result, negative_flips=(), positive_flips=()))
    connection.execute(
        t.gates.insert().values(
            id=result.id,
            model=result.model,
            candidate=result.candidate.version,
            candidate_digest=result.candidate.digest,
            champion=result.champion.version,
            champion_digest=result.champion.digest,
            training_id=result.training_id,
            outcome=result.outcome.value,
            words=result.words,
            result=plain,
            negative_flips=len(result.negative_flips),
            positive_flips=len(result.positive_flips),
            report=ReportState.KEPT.value,
            created_ns=now_ns,
            seconds=result.seconds.get("all", 0.0),
        )
    )
    sets = [
        {
            "gate_id": result.id,
            "position": position,
            "model": result.model,
            "name": one.name[:200],
            "kind": one.kind.value,
            "source": one.source[:200],
            "digest": one.digest,
            "inputs": one.inputs,
            "used": one.used,
        }
        for position, one in enumerate(result.sets)
    ]
    if sets:
        connection.execute(t.gate_sets.insert(), sets)
    return result.id


def uses(connection: sa.Connection, model: str) -> Mapping[str, int]:
    """{source of a set: gates of the model that looked at it}."""
    s = t.gate_sets.c
    query = sa.select(s.source, sa.func.count()).where(s.model == model).group_by(s.source)
    return {source: int(n) for source, n in connection.execute(query)}


def look(connection: sa.Connection, gate_id: str) -> GateRow | None:
    """One gate; None where there is none."""
    row = connection.execute(sa.select(t.gates).where(t.gates.c.id == gate_id)).mappings().one_or_none()
    return None if row is None else _row(row)


def one_gate(store: Store, gate_id: str) -> GateRow:
    """One gate.

    Raises:
        NotFound: there is none.
    """
    with store.read() as connection:
        row = look(connection, gate_id)
    if row is None:
        raise NotFound("there is no gate with this id")
    return row


def newest(store: Store, model: str | None = None, before_ns: int | None = None, limit: int = 50) -> Sequence[GateRow]:
    """Gates, newest first.

    Args:
        store: The database.
        model: Only of this one.
        before_ns: Only older ones.
        limit: How many at most.
    """
    g = t.gates.c
    query = sa.select(t.gates).order_by(g.created_ns.desc(), g.id).limit(limit)
    if model is not None:
        query = query.where(g.model == model)
    if before_ns is not None:
        query = query.where(g.created_ns < before_ns)
    with store.read() as connection:
        return [_row(row) for row in connection.execute(query).mappings()]


def audited_labels(store: Store, model: str, options: GateOptions, snapshot: str | None = None) -> int:
    """Audited records with a comparable label in the gate's window, without those that were trained on.

    Args:
        store: The database.
        model: Whose.
        options: The window.
        snapshot: Id of the snapshot that the champion was trained on.
    """
    a, v, i = t.audit_labels.c, t.versions.c, t.snapshot_items.c
    with store.read() as connection:
        newest_ns = connection.scalar(sa.select(sa.func.max(v.last_ns)).where(v.model == model)) or 0
        since = int(newest_ns) - round(options.audited_s * 1e9)
        query = sa.select(sa.func.count()).select_from(t.audit_labels).where(a.model == model, a.time_ns >= since)
        if snapshot is not None:
            query = query.where(
                a.id.not_in(sa.select(i.case_id).where(i.snapshot_id == snapshot, i.split != Split.TEST.value))
            )
        return min(int(connection.scalar(query) or 0), options.audited_inputs)


def _row(row: sa.RowMapping) -> GateRow:
    values: dict[str, Any] = {field.name: row[field.name] for field in dataclasses.fields(GateRow)}
    values["result"] = codec.from_plain(GateResult, row["result"])
    return GateRow(**values | {"outcome": Outcome(row["outcome"]), "report": ReportState(row["report"])})
