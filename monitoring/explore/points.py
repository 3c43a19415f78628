"""The points of a version's map: a sample of its records, its cases, and its reference.

Which records are drawn depends only on what is stored: every n-th by their number, so that looking twice shows the
same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.baseline import Baseline
from monitoring.explore.clusters import cluster
from monitoring.explore.projection import FIT_ROWS, Projection, fit_projection
from monitoring.origins import NOT_TRAFFIC
from monitoring.slice_queries import slices
from monitoring.store import Store
from monitoring.vectors import Int8s, stack, to_vectors

MAX_POINTS = 50_000
MAX_SLICES = 20
Array: TypeAlias = npt.NDArray[Any]


class Kind(IntEnum):
    """What a point is."""

    RECORD = 0
    CASE = 1
    REFERENCE = 2


class Truth(IntEnum):
    """What is known of a point's answer."""

    UNKNOWN = 0
    RIGHT = 1
    WRONG = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPoints:
    """N points of a map. See `monitoring.explore.layout` for the columns.

    Attributes:
        columns: By name, (N,) each.
        projection: Onto what they were drawn; None: nothing could be drawn.
        slices: (id, words) of the slices that the column `slice` counts.
        totals: How many records and cases there are, of which the points are a sample.
    """

    columns: Mapping[str, Array]
    projection: Projection | None
    slices: tuple[tuple[str, str], ...] = ()
    totals: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["x"])


def map_points(store: Store, baseline: Baseline, model: str, version: str, limit: int = MAX_POINTS) -> MapPoints:
    """The points of a version, the reference first, then records, then cases, so that cases are drawn on top.

    At most `limit` points: half of them cases, where there are so many; at most 1,000 of the reference.
    """
    embedding = None if baseline.profile is None else baseline.profile.embedding
    reference: Int8s | None = None if embedding is None else to_vectors(embedding.sample[: limit // 4])
    with store.read() as connection:
        cases, case_count = _cases(connection, model, version, limit // 2)
        spare = limit - len(cases) - (0 if reference is None else len(reference))
        records, record_count = _records(connection, model, version, max(spare, 0), {c["place"] for c in cases})
    within = slice_places(store, model)
    projection = projection_of(baseline) or fit_projection(_vectors(records, cases)[:FIT_ROWS], "records")
    rows: list[dict[str, Any]] = [*_reference(reference), *records, *cases]
    vectors = stack([row["vector"] for row in rows]) if rows else np.empty((0, 0), dtype=np.int8)
    placed = np.empty((len(rows), 2), np.float32) if projection is None else projection.place(vectors)
    finite: Array = np.asarray(np.isfinite(placed).all(axis=1))
    drawn: Array = finite if projection is not None else np.zeros(len(rows), dtype=bool)
    groups = cluster(vectors[drawn]) if drawn.any() else np.empty(0, dtype=np.int16)
    shown = [row for row, there in zip(rows, drawn.tolist(), strict=True) if there]
    places = {place: number for number, (_, some) in reversed(list(enumerate(within.values()))) for place in some}
    return MapPoints(
        columns=_columns(shown, placed[drawn], groups, places),
        projection=projection,
        slices=tuple((identity, words) for identity, (words, _) in within.items()),
        totals={"records": record_count, "cases": case_count, "reference": 0 if reference is None else len(reference)},
    )


def projection_of(baseline: Baseline) -> Projection | None:
    """The plane of a version's reference; None without embeddings in its reference."""
    embedding = None if baseline.profile is None else baseline.profile.embedding
    return None if embedding is None else fit_projection(to_vectors(embedding.sample), "reference")


def _vectors(*parts: list[dict[str, Any]]) -> Int8s:
    rows = [row["vector"] for part in parts for row in part]
    return stack(rows) if rows else np.empty((0, 0), dtype=np.int8)


def _reference(vectors: Int8s | None) -> list[dict[str, Any]]:
    same = {"kind": Kind.REFERENCE, "time_ns": 0, "p_wrong": None, "predicted": None, "truth": Truth.UNKNOWN}
    if vectors is None:
        return []
    return [same | {"vector": v.tobytes(), "id": i, "place": None} for i, v in enumerate(vectors)]


def _cases(connection: sa.Connection, model: str, version: str, limit: int) -> tuple[list[dict[str, Any]], int]:
    """The newest cases, oldest first, and how many there are."""
    c = t.cases.c
    here = (c.model == model, c.version == version)
    total = int(connection.scalar(sa.select(sa.func.count()).select_from(t.cases).where(*here)) or 0)
    query = sa.select(c.id, c.id_hash, c.time_ns, c.p_wrong, c.predicted, c.correct, c.vector).where(*here)
    query = query.where(c.vector.is_not(None)).order_by(c.time_ns.desc(), c.id.desc()).limit(limit)
    return [
        {
            "kind": Kind.CASE,
            "id": int(row.id, 16),
            "place": (row.id_hash, row.time_ns),
            "time_ns": row.time_ns,
            "p_wrong": row.p_wrong,
            "predicted": row.predicted,
            "truth": Truth.UNKNOWN if row.correct is None else Truth.RIGHT if row.correct else Truth.WRONG,
            "vector": row.vector,
        }
        for row in reversed(connection.execute(query).all())
    ], total


def _records(
    connection: sa.Connection, model: str, version: str, limit: int, without: set[tuple[int, int]]
) -> tuple[list[dict[str, Any]], int]:
    """Every n-th record of the index, and how many the windows have counted."""
    v, r, w = t.versions.c, t.records.c, t.windows.c
    version_id = connection.scalar(sa.select(v.id).where(v.model == model, v.version == version))
    if version_id is None:
        return [], 0
    counted = sa.select(sa.func.coalesce(sa.func.sum(w.requests), 0)).where(
        w.version_id == version_id, w.variant != Variant.SHADOW.value
    )
    total = int(connection.scalar(counted) or 0)
    low, high = connection.execute(sa.select(sa.func.min(r.seq), sa.func.max(r.seq))).one()
    if low is None or limit < 1:
        return [], total
    step = max(1, (high - low + 1) // limit)
    found = _every(connection, version_id, low, high, step)
    if step > 1 and len(found) < limit // 2:  # other versions' records lie between
        step = max(1, step * max(len(found), 1) // limit)
        found = _every(connection, version_id, low, high, step)
    made = [
        {
            "kind": Kind.RECORD,
            "id": row.seq,
            "place": (row.id_hash, row.time_ns),
            "time_ns": row.time_ns,
            "p_wrong": row.p_wrong,
            "predicted": row.predicted,
            "truth": Truth.UNKNOWN
            if row.correct_rows is None
            else Truth.RIGHT
            if row.correct_rows == row.rows
            else Truth.WRONG,
            "vector": row.vector,
        }
        for row in found
        if (row.id_hash, row.time_ns) not in without
    ]
    return made[-limit:], total


def _every(connection: sa.Connection, version_id: int, low: int, high: int, step: int) -> list[Any]:
    """Records whose number is `low` plus a multiple of `step`: look-ups by key, however large the index is."""
    r = t.records.c
    names = (r.seq, r.id_hash, r.time_ns, r.p_wrong, r.predicted, r.correct_rows, r.rows, r.vector)
    wanted = (
        r.version_id == version_id,
        r.vector.is_not(None),
        r.variant.not_in(NOT_TRAFFIC),
    )
    if step == 1:
        return list(connection.execute(sa.select(*names).where(*wanted).order_by(r.seq)).all())
    at = sa.select(sa.literal(low, sa.BigInteger).label("n")).cte("at", recursive=True)
    at = at.union_all(sa.select(at.c.n + step).where(at.c.n + step <= high))
    query = sa.select(*names).select_from(at.join(t.records, r.seq == at.c.n)).where(*wanted).order_by(r.seq)
    return list(connection.execute(query).all())


def slice_places(store: Store, model: str) -> dict[str, tuple[str, set[tuple[int, int]]]]:
    """Words and records, as (id_hash, time_ns), of the model's current slices, the worst first, by id."""
    made: dict[str, tuple[str, set[tuple[int, int]]]] = {}
    s = t.slice_members.c
    for row in slices(store, model, current=True, limit=MAX_SLICES):
        with store.read() as connection:
            members = connection.execute(sa.select(s.id_hash, s.time_ns).where(s.slice_id == row.id))
            made[row.id] = (row.words, {(m.id_hash, m.time_ns) for m in members})
    return made


def _columns(
    rows: list[dict[str, Any]], placed: Array, groups: Array, places: Mapping[tuple[int, int], int]
) -> dict[str, Array]:
    def of(name: str, dtype: str, missing: Any = 0) -> Array:
        return np.array([missing if row[name] is None else row[name] for row in rows], dtype=dtype)

    return {
        "id": of("id", "<u8"),
        "time": of("time_ns", "<f8") / 1e9,
        "x": placed[:, 0].astype("<f4"),
        "y": placed[:, 1].astype("<f4"),
        "p_wrong": of("p_wrong", "<f4", np.nan),
        "predicted": of("predicted", "<i2", -1),
        "slice": np.array([places.get(row["place"], -1) for row in rows], dtype="<i2"),
        "cluster": groups.astype("<i2"),
        "kind": of("kind", "<u1"),
        "truth": of("truth", "<u1"),
    }
