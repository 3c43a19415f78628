"""Split a slice: by the values of an attribute, or into groups of inputs that look alike.

The parts are slices like those that a search finds: conditions or a centre, so later searches measure them and know
them again. They are made from the records of the newest searched span.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from export.contracts.errors import InvalidRequest
from monitoring import schema as t
from monitoring.baselines import Baselines
from monitoring.facts import read_fact
from monitoring.options import MonitorOptions
from monitoring.slices.acts import Doing, record, row_of
from monitoring.slices.found import Found, SliceKind, SliceState, Span, in_words, members, rate_of, slice_id
from monitoring.slices.issues import SliceAct
from monitoring.slices.rows import Searched, fact_of, read_span, write_found
from monitoring.store import Store

LOOKS = "looks"  # split by the embedding
MIN_PART = 10  # records
MOST_PARTS = 12
_PIECES = 2
_ROUNDS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """An attribute by which a slice can be split.

    Attributes:
        by: What to give to `split`.
        parts: Values that enough of its records have.
        spread: Largest failure rate of a part less the smallest.
    """

    by: str
    parts: int
    spread: float


def choices(
    store: Store, baselines: Baselines, options: MonitorOptions, identity: str
) -> tuple[tuple[Choice, ...], Searched | None]:
    """By what a slice can be split, the most telling first."""
    with store.read() as connection:
        row = row_of(connection, identity)
        span, searched = _newest_span(connection, baselines, row, options)
    if span is None or searched is None:
        return (), None
    inside = _inside(span, searched, row, store)
    made = []
    for name in span.attributes if row["kind"] == SliceKind.ATTRIBUTES.value else ():
        parts = _by_attribute(row, span, inside, name)
        if len(parts) > 1:
            rates = [part.rate.rate for part in parts]
            made.append(Choice(by=name, parts=len(parts), spread=max(rates) - min(rates)))
    looks = _by_looks(row, span, inside)
    if looks:
        rates = [part.rate.rate for part in looks]
        made.append(Choice(by=LOOKS, parts=len(looks), spread=max(rates) - min(rates)))
    return tuple(sorted(made, key=lambda choice: (-choice.spread, choice.by))), searched


def split(
    store: Store, baselines: Baselines, options: MonitorOptions, identity: str, by: str, doing: Doing
) -> list[str]:
    """Split a slice; returns the ids of its parts.

    Args:
        store: The monitor's database.
        baselines: Of the versions.
        options: Of the monitor: how long a span is.
        identity: The slice.
        by: An attribute's name, or `LOOKS`.
        doing: Who, when.

    Raises:
        InvalidRequest: it does not fall into two parts of at least ten records that way.
    """
    with store.read() as connection:
        row = row_of(connection, identity)
        span, searched = _newest_span(connection, baselines, row, options)
    parts: list[Found] = []
    if span is not None and searched is not None:
        inside = _inside(span, searched, row, store)
        parts = _by_looks(row, span, inside) if by == LOOKS else _by_attribute(row, span, inside, by)
    if len(parts) < 2 or searched is None:  # a split has at least two parts
        raise InvalidRequest(
            f"split by '{by}' this slice does not fall into two parts of at least {MIN_PART} records"
            + ("; one that was found by its looks can only be split by 'looks'" if row["centre"] else "")
        )
    with store.write() as connection:
        row = row_of(connection, identity)
        ids = [part.id for part in parts]
        if not record(connection, row, SliceAct.SPLIT, doing, {"by": by, "into": ids}):
            return ids
        for part in parts:
            write_found(connection, searched, part)
            changed = t.slices.update().where(t.slices.c.id == part.id)
            connection.execute(changed.values(split_from=identity, edition=t.slices.c.edition + 1))
            told = {"slice_id": part.id, "time_ns": doing.now_ns, "actor": doing.actor, "kind": SliceAct.SPLIT.value}
            state = SliceState.NEW.value
            connection.execute(
                t.slice_events.insert().values(**told, before=state, after=state, detail={"from": identity}, key=None)
            )
    return ids


def _newest_span(
    connection: sa.Connection, baselines: Baselines, row: Any, options: MonitorOptions
) -> tuple[Span | None, Searched | None]:
    end_s = read_fact(connection, fact_of(row["model"]))
    if end_s is None:
        return None, None
    span, keys = read_span(connection, baselines, row["model"], int(end_s), options)
    overall = float(span.failure.mean()) if len(keys) else 0.0
    about = {"model": row["model"], "end_s": int(end_s), "records": len(keys), "overall": overall, "keys": keys}
    return span, Searched(**about, found=[], measured={}, back={})


def _inside(span: Span, searched: Searched, row: Any, store: Store) -> npt.NDArray[np.int64]:
    """Its records in the span: by its conditions, or of a cluster those that were kept with it."""
    if row["kind"] == SliceKind.ATTRIBUTES.value:
        return members(span, [(name, value) for name, value in row["conditions"]])
    m = t.slice_members.c
    with store.read() as connection:
        kept = connection.execute(sa.select(m.id_hash, m.time_ns).where(m.slice_id == row["id"])).all()
    mine = {(k.id_hash, k.time_ns) for k in kept}
    return np.array([i for i, key in enumerate(searched.keys) if key in mine], dtype=np.int64)


def _by_attribute(row: Any, span: Span, inside: npt.NDArray[np.int64], name: str) -> list[Found]:
    column = span.attributes.get(name)
    given = {condition[0] for condition in row["conditions"]}
    if column is None or name in given or row["kind"] != SliceKind.ATTRIBUTES.value:
        return []
    values, counts = np.unique(column[inside], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    large = [str(values[i]) for i in order if counts[i] >= MIN_PART and str(values[i])][:MOST_PARTS]
    made = []
    for value in large:
        conditions = tuple(sorted([*((a, b) for a, b in row["conditions"]), (name, value)]))
        rows = inside[column[inside] == value]
        made.append(_part(row, span, rows, slice_id(row["model"], conditions), conditions, in_words(conditions), None))
    return made if len(made) > 1 else []


def _by_looks(row: Any, span: Span, inside: npt.NDArray[np.int64]) -> list[Found]:
    """Two means of the unit vectors (Lloyd 1982), from the two records that are farthest apart along the first axis."""
    best: list[Found] = []
    for version, (places, units) in sorted(span.vectors.items()):
        where = np.flatnonzero(np.isin(places, inside))
        if (row["version"] and version != row["version"]) or len(where) < _PIECES * MIN_PART:
            continue
        mine = units[where].astype(np.float64)  # (record, width)
        axis = np.linalg.svd(mine - mine.mean(axis=0), full_matrices=False)[2][0]
        along = mine @ axis
        centres = np.stack([mine[int(np.argmin(along))], mine[int(np.argmax(along))]])
        piece = np.zeros(len(mine), dtype=np.int64)
        for _ in range(_ROUNDS):
            piece = np.argmax(mine @ centres.T, axis=1)
            if min(np.bincount(piece, minlength=_PIECES)) == 0:
                break
            moved = np.stack([mine[piece == i].mean(axis=0) for i in range(_PIECES)])
            moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
            if np.allclose(moved, centres):
                break
            centres = moved
        if min(np.bincount(piece, minlength=_PIECES)) < MIN_PART:
            continue
        middle = units.mean(axis=0).astype(np.float64)
        made = []
        for i in range(_PIECES):
            off = mine[piece == i].mean(axis=0) - middle
            centre = (off / max(float(np.linalg.norm(off)), 1e-12)).astype(np.float32)
            rows = places[where[piece == i]]
            name = f"{row['id']}\0{version}\0".encode() + np.round(centre, 3).tobytes()
            identity = hashlib.sha256(name).hexdigest()[:12]
            words = f"{row['words']}, {'one' if i == 0 else 'the other'} of two looks"
            made.append(_part(row, span, rows, identity, tuple(map(tuple, row["conditions"])), words, centre, version))
        if sum(len(part.rows) for part in made) > sum(len(part.rows) for part in best):
            best = made
    return best


def _part(
    row: Any,
    span: Span,
    rows: npt.NDArray[np.int64],
    identity: str,
    conditions: tuple[tuple[str, str], ...],
    words: str,
    centre: npt.NDArray[np.float32] | None,
    version: str = "",
) -> Found:
    return Found(
        id=identity,
        kind=SliceKind.ATTRIBUTES if centre is None else SliceKind.CLUSTER,
        version=version,
        conditions=conditions,
        words=words[:500],
        centre=centre,
        rows=rows[np.argsort(-span.failure[rows], kind="stable")],
        rate=rate_of(span, rows),
        p_value=float(row["p_value"]),
    )
