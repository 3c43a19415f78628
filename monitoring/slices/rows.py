"""Slices in the database: read a span, write what was found, go on where the last search ended."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.baselines import Baselines
from monitoring.facts import read_fact, write_fact
from monitoring.notify.contracts import NoticeKind
from monitoring.notify.happened import announce_slice
from monitoring.options import MonitorOptions
from monitoring.origins import NOT_TRAFFIC
from monitoring.records.record import Outcome
from monitoring.slices.clusters import Known
from monitoring.slices.found import Found, Rate, SliceKind, SliceState, Span, members, rate_of, search
from monitoring.slices.spans import span_of
from monitoring.slices.turn import Measured, change_states, regressed

NANOSECONDS = 1_000_000_000
MEMBERS = 500  # records that are kept with a slice
POINTS = 500  # of a slice's trend
DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Searched:
    """What a search of one model's span came to."""

    model: str
    end_s: int
    records: int
    overall: float
    found: list[Found]
    measured: dict[str, tuple[int, Rate]]
    keys: list[tuple[int, int]]
    back: dict[str, Measured]


def next_end(connection: sa.Connection, model: str, options: MonitorOptions) -> int | None:
    """End of the span that is to be searched now; None when none is due.

    Spans end at multiples of the search's step of event time, as soon as the newest record is past that and the
    lateness, so which spans there are depends on the records alone. Steps without any record are skipped.
    """
    step = options.window_s * options.slices.every_windows
    newest = connection.scalar(sa.select(sa.func.max(t.offsets.c.event_ns))) or 0
    now = int(newest / NANOSECONDS - options.lateness_s) // step * step
    done = read_fact(connection, fact_of(model))
    w, v = t.windows.c, t.versions.c
    first = sa.select(sa.func.min(w.start_s)).join(t.versions, w.version_id == v.id).where(v.model == model)
    start = connection.scalar(first if done is None else first.where(w.start_s >= int(done)))
    if start is None:
        return None
    end = (int(start) // step + 1) * step
    return end if end <= now else None


def look(connection: sa.Connection, baselines: Baselines, model: str, end_s: int, options: MonitorOptions) -> Searched:
    """Search the span that ends at `end_s`. Reads only."""
    span, keys = read_span(connection, baselines, model, end_s, options)
    rows = len(keys)
    known = connection.execute(sa.select(t.slices).where(t.slices.c.model == model)).mappings().all()
    found = search(model, span, _clusters(known), options.slices.keep) if rows else []
    have = {one.id for one in found}
    measured = {}
    for row in known:  # a slice that is no longer found is still measured, so that its trend shows it recover
        if row["id"] not in have and row["kind"] == SliceKind.ATTRIBUTES.value and rows:
            inside = members(span, [(name, value) for name, value in row["conditions"]])
            if len(inside):
                measured[row["id"]] = (len(inside), rate_of(span, inside))
    overall = float(span.failure.mean()) if rows else 0.0
    back = regressed(connection, model, span, known, {one.id: one.rows for one in found})
    return Searched(
        model=model,
        end_s=end_s,
        records=rows,
        overall=overall,
        found=found,
        measured=measured,
        keys=keys,
        back=back,
    )


def read_span(
    connection: sa.Connection, baselines: Baselines, model: str, end_s: int, options: MonitorOptions
) -> tuple[Span, list[tuple[int, int]]]:
    """The records of the span that ends at `end_s`, and the (hash, time) of each."""
    rows = _records(connection, model, end_s, options)
    f = t.feedback.c
    said = sa.select(f.id_hash).where(f.model == model, f.time_ns < end_s * NANOSECONDS, f.withdrawn.is_(False))
    labelled = set(connection.scalars(said.where(sa.or_(f.label.is_not(None), f.labels.is_not(None)))))
    span = span_of(rows, lambda row: row["id_hash"] in labelled, lambda version: baselines.get(model, version))
    usable = np.flatnonzero(np.isfinite(span.failure))
    if len(usable) < len(rows):
        rows = [rows[i] for i in usable.tolist()]
        span = span_of(rows, lambda row: row["id_hash"] in labelled, lambda version: baselines.get(model, version))
    keys = [(row["id_hash"], row["time_ns"]) for row in rows]
    return span, keys


def keep(connection: sa.Connection, result: Searched, options: MonitorOptions) -> None:
    """Write a search's result, and that it was done."""
    s, p = t.slices.c, t.slice_points.c
    before = set(connection.scalars(sa.select(s.id).where(s.model == result.model)))
    for one in result.found:
        write_found(connection, result, one)
        if one.id not in before:
            row = {"id": one.id, "model": result.model, "version": one.version, "words": one.words}
            announce_slice(connection, row, NoticeKind.SLICE_NEW, result.end_s, one.rate.rate)
    for identity, (size, rate) in sorted(result.measured.items()):
        _add_point(connection, identity, result, size, rate)
    sizes = result.measured | {one.id: (len(one.rows), one.rate) for one in result.found}
    seen = {key: Measured(rows=n, rate=rate, overall=result.overall) for key, (n, rate) in sizes.items()}
    change_states(connection, result.model, result.end_s, result.back, seen)
    oldest = result.end_s - int(options.slices.shown_days * DAY_S)
    parts = sa.select(s.merged_into).where(s.merged_into != "").correlate(None)
    forgotten = (s.state == SliceState.NEW.value, s.edition == 0, s.id.notin_(parts))  # nobody did anything about it
    connection.execute(t.slices.delete().where(s.model == result.model, s.last_s < oldest, *forgotten))
    step = options.window_s * options.slices.every_windows
    connection.execute(t.slice_points.delete().where(p.end_s < result.end_s - POINTS * step))
    write_fact(connection, fact_of(result.model), result.end_s)


def write_found(connection: sa.Connection, result: Searched, one: Found) -> None:
    """A slice that was found, with its point and members; what people did about it stays as it is."""
    values = _values(result, one)
    changed = connection.execute(t.slices.update().where(t.slices.c.id == one.id).values(**values))
    if changed.rowcount == 0:
        first = {"id": one.id, "state": SliceState.NEW.value, "first_s": result.end_s}
        connection.execute(t.slices.insert().values(**first, **values))
    _add_point(connection, one.id, result, len(one.rows), one.rate)
    _keep_members(connection, one, result.keys)


def _values(result: Searched, one: Found) -> dict[str, Any]:
    return {
        "model": result.model,
        "version": one.version,
        "kind": one.kind.value,
        "conditions": [list(condition) for condition in one.conditions],
        "words": one.words,
        "centre": None if one.centre is None else one.centre.astype("<f4").tobytes(),
        "last_s": result.end_s,
        "rows": len(one.rows),
        "failure_rate": one.rate.rate,
        "low": one.rate.low,
        "high": one.rate.high,
        "overall_rate": result.overall,
        "labelled": one.rate.labelled,
        "labelled_wrong": one.rate.labelled_wrong,
        "p_value": one.p_value,
        "explains": list(one.explains),
    }


def _add_point(connection: sa.Connection, identity: str, result: Searched, size: int, rate: Any) -> None:
    p = t.slice_points.c
    connection.execute(t.slice_points.delete().where(p.slice_id == identity, p.end_s == result.end_s))
    values = {"slice_id": identity, "end_s": result.end_s, "rows": size, "overall_rate": result.overall}
    rates = {"failure_rate": rate.rate, "low": rate.low, "high": rate.high}
    connection.execute(t.slice_points.insert().values(**values, **rates))


def _keep_members(connection: sa.Connection, one: Found, keys: Sequence[tuple[int, int]]) -> None:
    connection.execute(t.slice_members.delete().where(t.slice_members.c.slice_id == one.id))
    chosen = dict.fromkeys(keys[i] for i in one.rows[:MEMBERS].tolist())
    rows = [
        {"slice_id": one.id, "id_hash": id_hash, "time_ns": time_ns, "position": position}
        for position, (id_hash, time_ns) in enumerate(chosen)
    ]
    if rows:
        connection.execute(t.slice_members.insert(), rows)


def _records(connection: sa.Connection, model: str, end_s: int, options: MonitorOptions) -> list[dict[str, Any]]:
    """The newest records of the span, in the order of their time and key."""
    r, v = t.records.c, t.versions.c
    names = ("id_hash", "time_ns", "variant", "predicted", "p_wrong", "rows", "correct_rows", "vector", "bins", "tags")
    begin_ns = int((end_s - options.slices.span_s) * NANOSECONDS)
    query = (
        sa.select(*(r[name] for name in names), v.version)
        .join(t.versions, r.version_id == v.id)
        .where(v.model == model, r.outcome == Outcome.OK.value, r.variant.not_in(NOT_TRAFFIC))
        .where(r.time_ns >= begin_ns, r.time_ns < end_s * NANOSECONDS)
        .order_by(r.time_ns.desc(), r.id_hash.desc())
        .limit(options.slices.records)
    )
    return [dict(row) for row in reversed(connection.execute(query).mappings().all())]


def _clusters(known: Sequence[Any]) -> dict[str, list[Known]]:
    made: dict[str, list[Known]] = {}
    for row in sorted(known, key=lambda row: str(row["id"])):
        if row["centre"]:
            centre = np.frombuffer(row["centre"], dtype="<f4")
            made.setdefault(row["version"], []).append(Known(identity=row["id"], centre=centre))
    return made


def fact_of(model: str) -> str:
    """Name of the fact that says how far a model was searched."""
    name = f"slices:{model}"
    return name if len(name) <= 64 else f"slices:{hashlib.sha256(model.encode()).hexdigest()[:40]}"
