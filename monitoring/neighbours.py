"""More like this: the nearest of everything recorded, by the direction of the embedding.

The truth is the vector column of the record index, so a record that retention or erasure takes is gone from here too:
what is held in memory is a copy by rows' numbers, extended when records arrive, and every answer is looked up in the
index before it is given.

The search has two steps. The signs of 128 random projections leave some thousands of candidates (Charikar, STOC 2002);
those are compared exactly. A graph index would have to be built, which takes minutes for a million rows, and cannot
forget; `docs/decisions/0122-neighbours-in-two-steps.md` has times and recall.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.origins import NOT_TRAFFIC
from monitoring.store import Store
from monitoring.vectors import Floats, Int8s, cosines, stack

Codes = npt.NDArray[np.uint64]

VERSIONS_HELD = 4  # of which vectors are kept in memory, the last asked for
EXACT_BELOW = 20_000  # rows up to which every one is compared
CODE_BITS = 128
CANDIDATES = 5_000
_BLOCK = 50_000
_ALL_BITS = (1 << 64) - 1
_SPARE = 1.5  # room that a growing array makes for what comes


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """A record that is like the one asked about."""

    seq: int
    record_id: str
    model: str
    version: str
    time_ns: int
    likeness: float
    predicted: int | None
    p_wrong: float | None
    correct_rows: int | None
    rows: int
    label: str | None
    case_id: str | None
    input_state: str | None  # of the case
    source: str
    segment: int
    offset: int
    sequence: int
    worst_row: int


@dataclass(kw_only=True, slots=True)
class Held:
    """Vectors of one version, with their codes: the first `count` rows of the arrays."""

    seqs: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    vectors: Int8s = field(default_factory=lambda: np.empty((0, 0), np.int8))
    codes: list[Codes] = field(default_factory=list)
    middle: Floats | None = None
    count: int = 0
    last_seq: int = 0

    def add(self, seqs: npt.NDArray[np.int64], vectors: Int8s) -> None:
        """Append rows; vectors of another width than the first are left out."""
        if self.count and vectors.shape[1] != self.vectors.shape[1]:
            return
        if self.middle is None:
            self.middle = np.asarray(vectors.mean(axis=0), dtype=np.float32)
        need = self.count + len(seqs)
        if need > len(self.seqs):
            self._grow(int(need * _SPARE), vectors.shape[1])
        self.seqs[self.count : need] = seqs
        self.vectors[self.count : need] = vectors
        for column, code in zip(self.codes, self._code(vectors).T, strict=True):
            column[self.count : need] = code
        self.count = need

    def nearest(self, vector: bytes, k: int) -> tuple[list[int], list[float]]:
        """The k rows with the highest cosine to a vector, highest first, and the cosines."""
        one = np.frombuffer(vector, dtype=np.int8)
        if not self.count or self.vectors.shape[1] != len(one) or k < 1:
            return [], []
        if self.count <= EXACT_BELOW:
            candidates = np.arange(self.count)
        else:
            wanted = self._code(one[None])[0]
            apart = np.bitwise_count(self.codes[0][: self.count] ^ wanted[0])
            for column, code in zip(self.codes[1:], wanted[1:], strict=True):
                apart += np.bitwise_count(column[: self.count] ^ code)
            within = np.cumsum(np.bincount(apart, minlength=CODE_BITS + 1))
            reach = int(np.searchsorted(within, max(CANDIDATES, 20 * k)))
            candidates = np.flatnonzero(apart <= reach)
        alike = cosines(self.vectors[candidates], one[None])[:, 0]
        best = candidates[np.lexsort((candidates, -alike))[:k]] if len(alike) <= k else _top(candidates, alike, k)
        likeness = cosines(self.vectors[best], one[None])[:, 0]
        return [int(i) for i in best], [round(float(x), 5) for x in likeness]

    def _grow(self, room: int, width: int) -> None:
        seqs, vectors = np.empty(room, np.int64), np.empty((room, width), np.int8)
        codes = [np.empty(room, np.uint64) for _ in range(CODE_BITS // 64)]
        if self.count:
            seqs[: self.count], vectors[: self.count] = self.seqs[: self.count], self.vectors[: self.count]
            for new, old in zip(codes, self.codes, strict=True):
                new[: self.count] = old[: self.count]
        self.seqs, self.vectors, self.codes = seqs, vectors, codes

    def _code(self, vectors: Int8s) -> Codes:
        """(rows, 2) signs of the projections, packed."""
        middle = self.middle if self.middle is not None else np.float32(0.0)
        signs = (vectors.astype(np.float32) - middle) @ _planes(vectors.shape[1]) > 0.0
        return np.ascontiguousarray(np.packbits(signs, axis=1)).view(np.uint64)


def _top(candidates: npt.NDArray[np.int64], alike: Floats, k: int) -> npt.NDArray[np.int64]:
    among = np.argpartition(-alike, k - 1)[:k]
    return candidates[among[np.lexsort((candidates[among], -alike[among]))]]


@lru_cache(maxsize=8)
def _planes(width: int) -> Floats:
    return np.asarray(np.random.default_rng(width).standard_normal((width, CODE_BITS)), dtype=np.float32)


class Neighbours:
    """Finds like records. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: OrderedDict[int, Held] = OrderedDict()
        self._cases: OrderedDict[tuple[str, str], tuple[tuple[int, int], Held]] = OrderedDict()
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drop what is held in memory; the next question reads it again."""
        with self._lock:
            self._held.clear()
            self._cases.clear()

    def of_records(self, model: str, version: str, vector: bytes, k: int, cases_only: bool = False) -> list[Neighbour]:
        """The k nearest recorded inputs of a version, nearest first; of records with a case only, if so asked.

        The record itself, when it is recorded, is the first of them.
        """
        with self._store.read() as connection:
            v = t.versions.c
            version_id = connection.scalar(sa.select(v.id).where(v.model == model, v.version == version))
            if version_id is None:
                return []
            if cases_only:
                with self._lock:
                    cases = self._cases_of(connection, model, version)
                    order, likeness = cases.nearest(vector, 2 * k)  # some may have been deleted meanwhile
                    ids = [f"{int(cases.seqs[i]) & _ALL_BITS:016x}" for i in order]
                return _rows_of_cases(connection, dict(zip(ids, likeness, strict=True)))[:k]
            with self._lock:
                held = self._fresh(connection, version_id)
                order, likeness = held.nearest(vector, 2 * k)  # some may have been deleted meanwhile
                wanted_seqs = {int(held.seqs[i]): float(s) for i, s in zip(order, likeness, strict=True)}
            return _rows(connection, wanted_seqs)[:k]

    def _cases_of(self, connection: sa.Connection, model: str, version: str) -> Held:
        """Vectors of the cases of a version; the numbers of its rows are the ids of the cases."""
        known = self._cases.pop((model, version), None) or ((0, 0), Held())
        mark, fresh = self._store.index.ids_since(model, version, known[0])
        held = Held() if mark[0] != known[0][0] else known[1]
        c = t.cases.c
        if len(fresh) > _BLOCK // 10:  # so many: cheaper to read all of them in one go
            held = Held()
            query = sa.select(c.id, c.vector).where(c.model == model, c.version == version, c.vector.is_not(None))
            for rows in connection.execute(query.execution_options(yield_per=_BLOCK)).partitions():
                held.add(_numbers([row.id for row in rows]), stack([row.vector for row in rows]))
        for chunk in [] if held.count and len(fresh) > _BLOCK // 10 else _chunks(fresh):
            rows = connection.execute(sa.select(c.id, c.vector).where(c.id.in_(chunk), c.vector.is_not(None))).all()
            if rows:
                held.add(_numbers([row.id for row in rows]), stack([row.vector for row in rows]))
        self._cases[model, version] = (mark, held)
        while len(self._cases) > VERSIONS_HELD:
            self._cases.popitem(last=False)
        return held

    def _fresh(self, connection: sa.Connection, version_id: int) -> Held:
        held = self._held.pop(version_id, None) or Held()
        self._held[version_id] = held
        while len(self._held) > VERSIONS_HELD:
            self._held.popitem(last=False)
        r = t.records.c
        oldest = connection.scalar(sa.select(sa.func.min(r.seq))) or 0
        gone = int(np.searchsorted(held.seqs[: held.count], oldest))
        if gone > held.count // 4:  # retention moved on: let go of what it took
            kept = Held(last_seq=held.last_seq)
            if gone < held.count:
                kept.add(held.seqs[gone : held.count].copy(), held.vectors[gone : held.count].copy())
            held = self._held[version_id] = kept
        query = sa.select(r.seq, r.vector).where(r.version_id == version_id, r.vector.is_not(None))
        query = query.where(r.variant.not_in(NOT_TRAFFIC)).order_by(r.seq).limit(_BLOCK)
        while rows := connection.execute(query.where(r.seq > held.last_seq)).all():
            held.add(np.array([row.seq for row in rows], np.int64), stack([row.vector for row in rows]))
            held.last_seq = rows[-1].seq
            if len(rows) < _BLOCK:
                break
        return held


def _numbers(ids: list[str]) -> npt.NDArray[np.int64]:
    return np.array([int(identity, 16) for identity in ids], np.uint64).view(np.int64)


def _chunks(ids: list[str]) -> list[list[str]]:
    return [ids[i : i + 500] for i in range(0, len(ids), 500)]


_NAMES = ("seq", "record_id", "time_ns", "predicted", "p_wrong", "correct_rows", "rows", "label",
          "source", "segment", "offset", "sequence", "worst_row")  # fmt: skip


def _query(*, outer: bool = True) -> sa.Select[Any]:
    r, v, c = t.records.c, t.versions.c, t.cases.c
    return (
        sa.select(*(r[name] for name in _NAMES), v.model, v.version, c.id.label("case_id"), c.input_state)
        .join(t.versions, r.version_id == v.id)
        .join(t.cases, sa.and_(c.id_hash == r.id_hash, c.time_ns == r.time_ns, c.variant == r.variant), isouter=outer)
    )


def _rows(connection: sa.Connection, wanted: dict[int, float]) -> list[Neighbour]:
    rows = connection.execute(_query().where(t.records.c.seq.in_(list(wanted)))).mappings()
    made = [Neighbour(**row, likeness=wanted[row["seq"]]) for row in rows]
    return sorted(made, key=lambda n: (-n.likeness, n.time_ns, n.record_id))


def _rows_of_cases(connection: sa.Connection, wanted: dict[str, float]) -> list[Neighbour]:
    # From the cases to their records: an outer join would walk all records.
    rows = connection.execute(_query(outer=False).where(t.cases.c.id.in_(list(wanted)))).mappings()
    made = [Neighbour(**row, likeness=wanted[row["case_id"]]) for row in rows]
    return sorted(made, key=lambda n: (-n.likeness, n.time_ns, n.record_id))
