"""Columns of all cases, in memory: what a list is filtered, searched, sorted and counted by.

A copy of the table `cases`, followed through `case_changes`: triggers note there what was added, changed and deleted,
so whoever writes cases need not know of this. A row of the arrays is a *slot*; it belongs to one case for good, and
what was deleted is only marked until the next full read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from export.contracts.cases import CaseState
from monitoring import schema as t
from monitoring.attributes import read_attributes
from monitoring.listing.words import Bools, Ints, Names, Words
from monitoring.review.machine import WAITING

STATES = tuple(CaseState)
CHUNK = 500
BLOCK = 50_000
TAG_SEPARATOR = "\x1f"

_STATE_CODES = {state.value: i for i, state in enumerate(STATES)}
_WAITS = np.array([state in WAITING for state in STATES])  # by state code
_NUMBERS: dict[str, npt.DTypeLike] = {
    "id": np.uint64,  # its sixteen hex digits as a number: the same order
    "id_hash": np.int64,
    "time_ns": np.int64,
    "decided_ns": np.int64,
    "lease_until_ns": np.int64,
    "rank": np.float64,
    "queue": np.float64,
    "p_wrong": np.float32,  # NaN: not scored
    "confidence": np.float32,
    "flags": np.uint16,
    "priority": np.int32,
    "predicted": np.int32,  # class index; -1 without one
    "state": np.uint8,  # place in `STATES`
    "correct": np.int8,  # -1 while nobody knows
    "leads": np.bool_,  # stands for itself in grouped lists
    "alive": np.bool_,
}
TEXTS = ("model", "version", "variant", "outcome", "answer", "label", "client", "tags", "comment", "assignee",
         "verdict", "decided_by")  # fmt: skip
"""Columns of codes: `answer` is what was predicted, `label` the truth of the row, `client` the tags of the request,
`tags` those of reviewers."""

_C = t.cases.c
_READ = (
    _C.id, _C.id_hash, _C.time_ns, _C.decided_ns, _C.lease_until_ns, _C.rank,
    sa.func.coalesce(_C.queue, 0.0).label("queue"), _C.p_wrong,
    _C.confidence, _C.flags, _C.priority, sa.func.coalesce(_C.predicted, -1).label("predicted"), _C.state, _C.correct,
    _C.group_id, _C.record_id, _C.row, _C.model, _C.version, _C.variant, _C.outcome, _C.predicted_label, _C.label,
    _C.tags, _C.comment, _C.assignee, _C.verdict, _C.decided_by,
)  # fmt: skip


def _arrays() -> dict[str, npt.NDArray[Any]]:
    made = {name: np.empty(0, kind) for name, kind in _NUMBERS.items()}
    return made | {name: np.empty(0, np.int32) for name in TEXTS}


@dataclass(kw_only=True, slots=True)
class Columns:
    """The arrays, of which the first `count` rows are used; not safe for several threads: see `index.CaseIndex`."""

    count: int = 0
    dead: int = 0
    stamp: int = 0  # counts up with every change
    born: int = 0  # the stamp with which it was read: others were read at another time
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=_arrays)
    words: dict[str, Words] = field(default_factory=lambda: {name: Words() for name in TEXTS})
    names: Names = field(default_factory=Names)  # record ids
    now_ns: int = 0  # of the question
    _labels: dict[tuple[str | None, int], str] = field(default_factory=dict)
    _clients: dict[str | None, str] = field(default_factory=dict)
    _sorted: dict[str, tuple[Ints, Any]] = field(default_factory=dict)  # slots, values; as of `_sorted_count`
    _sorted_count: int = 0
    _shown: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    _shown_stamp: int = -1
    _shown_from_ns: int = 0
    _shown_until_ns: int = 0

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """A column."""
        return self.arrays[name][: self.count]

    def states(self) -> npt.NDArray[np.uint8]:
        """State of every slot as lists show it: a lease is one until it is past. Not to be written to."""
        self.shown_since_ns()
        return self._shown

    def shown_since_ns(self) -> int:
        """Since when no lease ended: the same number and the same stamp are the same `states`."""
        same = self._shown_stamp == self.stamp and self._shown_from_ns <= self.now_ns < self._shown_until_ns
        if not same:
            ends = self["lease_until_ns"]
            held = _WAITS[self["state"]] & (ends > self.now_ns)
            self._shown = np.where(held, np.uint8(_STATE_CODES[CaseState.LEASED.value]), self["state"])
            self._shown_stamp, self._shown_from_ns = self.stamp, self.now_ns
            self._shown_until_ns = int(ends[held].min(initial=np.iinfo(np.int64).max))
        return self._shown_from_ns

    def slots(self, name: str, wanted: Sequence[int]) -> tuple[Ints, Ints]:
        """Where `name` ("id" or "id_hash") has one of these values: (slot, place in `wanted`) pairs."""
        if self.count - self._sorted_count > max(BLOCK // 10, self.count // 50) or self._sorted_count > self.count:
            orders = {n: np.argsort(self[n], kind="stable") for n in ("id", "id_hash")}
            self._sorted = {n: (order, self[n][order]) for n, order in orders.items()}
            self._sorted_count = self.count
        values = np.array(wanted, dtype=self.arrays[name].dtype)
        slots, places = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        if self._sorted_count:
            order, ordered = self._sorted[name]
            low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
            many = high - low
            places.append(np.repeat(np.arange(len(values)), many))
            within = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
            slots.append(order[np.repeat(low, many) + within])
        tail = self[name][self._sorted_count :]
        if len(tail) and len(values):
            by_value = np.argsort(values, kind="stable")
            at = np.minimum(np.searchsorted(values[by_value], tail), len(values) - 1)
            found = np.flatnonzero(values[by_value][at] == tail)
            slots.append(found + self._sorted_count)
            places.append(by_value[at[found]])
        return np.concatenate(slots), np.concatenate(places)

    def put(self, rows: Sequence[Any], tags: dict[str, str]) -> None:
        """Take rows of `_READ` in: new ones at the end, known ones in place."""
        if not rows:
            return
        self.stamp += 1
        slots = np.full(len(rows), -1, np.int64)
        if self.count:
            found, places = self.slots("id", [int(row[0], 16) for row in rows])
            slots[places] = found
        fresh = np.flatnonzero(slots < 0)
        self._room(self.count + len(fresh))
        slots[fresh] = np.arange(self.count, self.count + len(fresh))
        self.names.add(rows[i].record_id for i in fresh.tolist())
        before = self.count
        self.count += len(fresh)
        back = np.flatnonzero((slots < before) & ~self.arrays["alive"][slots])  # cases that were gone
        self.names.write(slots[back], [rows[i].record_id for i in back.tolist()])
        self.dead -= len(back)
        for name, values in self._values(rows, tags).items():
            self.arrays[name][slots] = values

    def drop(self, ids: Sequence[str]) -> None:
        """Forget cases that were deleted, with every text of theirs that the arrays name."""
        slots, _ = self.slots("id", [int(identity, 16) for identity in ids])
        slots = slots[self.arrays["alive"][slots]]
        if len(slots):
            self.stamp += 1
            self.dead += len(slots)
            self.arrays["alive"][slots] = False
            self.names.blank(slots)

    def _values(self, rows: Sequence[Any], tags: dict[str, str]) -> dict[str, Any]:
        columns: dict[str, Any] = dict(zip((c.key for c in _READ), zip(*rows, strict=True), strict=True))
        made: dict[str, Any] = {
            name: np.array(columns[name], dtype=kind) for name, kind in _NUMBERS.items() if name in _PLAIN
        }
        made["id"] = np.array([int(text, 16) for text in columns["id"]], np.uint64)
        made["state"] = [_STATE_CODES[text] for text in columns["state"]]
        made["correct"] = [-1 if value is None else int(value) for value in columns["correct"]]
        made["leads"] = [g is None or g == i for g, i in zip(columns["group_id"], columns["id"], strict=True)]
        made["alive"] = True
        pairs = zip(columns["predicted_label"], columns["predicted"], strict=True)
        columns["answer"] = [text if text is not None else "" if index < 0 else str(index) for text, index in pairs]
        columns["label"] = list(map(self._label, zip(columns["label"], columns["row"], strict=True)))
        columns["client"] = list(map(self._client, columns["tags"]))
        columns["tags"] = [tags.get(identity, "") for identity in columns["id"]]
        return made | {name: self.words[name].codes(columns[name]) for name in TEXTS}

    def _label(self, pair: tuple[str | None, int]) -> str:
        if pair[0] is None:
            return ""
        if (known := self._labels.get(pair)) is None:
            known = self._labels[pair] = label_text(*pair)
        return known

    def _client(self, text: str | None) -> str:
        if text is None:
            return ""
        if (known := self._clients.get(text)) is None:
            pairs = [f"{name}={value}" for name, value in read_attributes(text.encode()).items()]
            known = self._clients[text] = TAG_SEPARATOR.join(pairs or [text])
        return known

    def _room(self, need: int) -> None:
        if need <= len(self.arrays["id"]):
            return
        room = max(need, self.count * 3 // 2)
        for name, old in self.arrays.items():
            self.arrays[name] = np.empty(room, old.dtype)
            self.arrays[name][: self.count] = old[: self.count]


_PLAIN = ("id_hash", "time_ns", "decided_ns", "lease_until_ns", "rank", "queue", "p_wrong", "confidence", "flags",
          "priority", "predicted")  # fmt: skip


def label_text(label: str | None, row: int) -> str:
    """What a label says of a row, as people write it: "7", "seven", "cat, dog"; boxes and the like as they stand."""
    try:
        value = json.loads(label or '""')
    except ValueError:
        return label or ""
    if isinstance(value, dict) and isinstance(value.get("rows"), list):
        value = value["rows"][row] if row < len(value["rows"]) else ""
    if isinstance(value, list) and all(isinstance(x, str | int | float) for x in value):
        return ", ".join(str(x) for x in value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def read_all(connection: sa.Connection) -> Columns:
    """The columns of every case there is."""
    made = Columns()
    tags = _tags(connection, None)
    for block in connection.execute(sa.select(*_READ).execution_options(yield_per=BLOCK)).partitions():
        made.put(block, tags)
    return made


def read_some(connection: sa.Connection, columns: Columns, ids: Sequence[str]) -> None:
    """Bring some cases up to date."""
    for chunk in _chunks(ids):
        rows = connection.execute(sa.select(*_READ).where(_C.id.in_(chunk))).all()
        columns.put(rows, _tags(connection, chunk))
        there = {row.id for row in rows}
        columns.drop([identity for identity in chunk if identity not in there])


def _tags(connection: sa.Connection, ids: Sequence[str] | None) -> dict[str, str]:
    g = t.case_tags.c
    query = sa.select(g.case_id, g.tag).order_by(g.case_id, g.tag)
    found: dict[str, str] = {}
    for identity, tag in connection.execute(query if ids is None else query.where(g.case_id.in_(ids))):
        found[identity] = f"{found[identity]}{TAG_SEPARATOR}{tag}" if identity in found else tag
    return found


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[i : i + CHUNK] for i in range(0, len(items), CHUNK))


__all__ = ["STATES", "TAG_SEPARATOR", "TEXTS", "Bools", "Columns", "label_text", "read_all", "read_some"]
