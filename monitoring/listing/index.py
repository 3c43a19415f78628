"""Questions to the columns of all cases. Safe to use from several threads."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.cases import CaseState, FlagReason
from export.contracts.errors import InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.flags import FLAG_BITS
from monitoring.listing.columns import STATES, TAG_SEPARATOR, Columns
from monitoring.listing.follow import Follower
from monitoring.listing.language import Alike
from monitoring.listing.order import Sort, after, first, places
from monitoring.listing.terms import Field, Term, mask_of
from monitoring.listing.words import Bools, Ints
from monitoring.store_filters import decode_cursor, encode_cursor

KEPT_MASKS = 48
Totals = tuple[tuple[str, str, str, int, int], ...]

_DECIDED = np.array([state in (CaseState.LABELLED, CaseState.DISMISSED) for state in STATES])  # by state code
_WORD_FACETS = {Field.MODEL: "model", Field.VERSION: "version", Field.CLASS: "answer", Field.LABEL: "label",
                Field.ASSIGNEE: "assignee", Field.VERDICT: "verdict", Field.BY: "decided_by"}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Ids of a page in order; `cursor` asks for the next, None when this is the last."""

    ids: tuple[str, ...]
    cursor: str | None


class CaseIndex:
    """See the module's text.

    Args:
        read: Gives a read-only connection that sees one consistent state, as `Store.read`.

    Attributes:
        alike: Other words for a class, for whoever turns filters into terms; the console knows them from manifests.
    """

    def __init__(self, read: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._read = read
        self._lock = threading.RLock()
        self.alike: Alike = _unknown
        self._follower = Follower()
        self._totals: dict[str | None, tuple[int, Totals]] = {}  # with the columns' stamp
        self._masks: OrderedDict[tuple[int, int, Term], Bools] = OrderedDict()

    def page(self, terms: Sequence[Term], sort: Sort, cursor: str | None, limit: int) -> Page:
        """A page of ids. Paging is by key: what arrives meanwhile neither repeats nor hides a case.

        Raises:
            InvalidRequest: `cursor` did not come from this list.
            NotFound: a term names a slice that does not exist.
        """
        place = None if cursor is None else _place(cursor, sort)
        with self._lock:
            columns = self._fresh()
            fits = self._fitting(columns, terms)
            if place is not None:
                fits = fits & after(columns, sort, *place)
            slots = first(columns, sort, fits, limit + 1)
            more, slots = len(slots) > limit, slots[:limit]
            ids = _texts(columns["id"][slots])
            last = places(columns, sort)[slots[-1]].item() if more else 0
        return Page(ids=ids, cursor=encode_cursor(last, ids[-1], sort) if more else None)

    def count(self, terms: Sequence[Term]) -> int:
        """How many cases fit, exactly."""
        with self._lock:
            return int(self._fitting(self._fresh(), terms).sum())

    def facets(self, terms: Sequence[Term], limit: int) -> dict[Field, list[tuple[str, int]]]:
        """For each field, its most frequent values among the cases that fit what is asked of the other fields."""
        with self._lock:
            columns = self._fresh()
            masks = [(term, self._mask(columns, term)) for term in terms]
            alive = columns["alive"]
            fit_all = np.flatnonzero(_all_of(alive, [mask for _, mask in masks]))
            made: dict[Field, list[tuple[str, int]]] = {}
            for field in (Field.IS, Field.REASON, Field.TAG, *_WORD_FACETS):
                others = [mask for term, mask in masks if term.field is not field or term.excluded]
                fits = fit_all if len(others) == len(masks) else np.flatnonzero(_all_of(alive, others))
                counts = _counts(columns, field, fits)
                counts = sorted(((text, n) for text, n in counts if n and text), key=lambda pair: (-pair[1], pair[0]))
                made[field] = counts[:limit]
            return made

    def totals(self, model: str | None = None) -> Totals:
        """(model, version, state, flags, cases) of every combination that occurs."""
        with self._lock:
            columns = self._fresh()
            known = self._totals.get(model)
            if known is None or known[0] != columns.stamp:
                fits = self._fitting(columns, [] if model is None else [Term(field=Field.MODEL, value=model)])
                known = self._totals[model] = columns.stamp, _totals(columns, fits)
            return known[1]

    def waiting(self, members: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> dict[str, int]:
        """For each set of records, given as `id_hash` and `time_ns` in turn: how many of its cases have no decision."""
        with self._lock:
            columns = self._fresh()
            open_ones = columns["alive"] & ~_DECIDED[columns["state"]]
            made = {}
            for name, (hashes, times) in members.items():
                slots, places = columns.slots("id_hash", hashes)
                there = open_ones[slots] & (columns["time_ns"][slots] == np.asarray(times, np.int64)[places])
                made[name] = len(np.unique(slots[there]))
            return made

    def ids_since(self, model: str, version: str, mark: tuple[int, int]) -> tuple[tuple[int, int], list[str]]:
        """Ids of a version's cases that came since a mark, and the mark of now.

        A mark whose first number is another one than before means that everything was read anew: then these are all.
        """
        with self._lock:
            columns = self._fresh()
            since = mark[1] if mark[0] == columns.born else 0
            words = columns.words
            fits = columns["alive"][since:] & (columns["model"][since:] == words["model"].code(model))
            fits &= columns["version"][since:] == words["version"].code(version)
            return (columns.born, columns.count), list(_texts(columns["id"][since:][fits]))

    def forget(self) -> None:
        """Drop everything; the next question reads it again."""
        with self._lock:
            self._follower = Follower()
            self._masks.clear()
            self._totals.clear()

    def warm(self) -> None:
        """Read the columns now, so that the first question need not wait for it."""
        with self._lock:
            self._fresh()

    def _fitting(self, columns: Columns, terms: Iterable[Term]) -> Bools:
        return _all_of(columns["alive"], [self._mask(columns, term) for term in terms])

    def _mask(self, columns: Columns, term: Term) -> Bools:
        key = (columns.stamp, columns.shown_since_ns() if term.field is Field.IS else 0, term)  # leases end
        found = self._masks.pop(key, None)
        if found is None:
            found = mask_of(columns, term, self._members)
        if term.field is not Field.SLICE:  # its members change without a word to the cases
            self._masks[key] = found
            while len(self._masks) > KEPT_MASKS:
                self._masks.popitem(last=False)
        return found

    def _members(self, identity: str) -> tuple[list[int], list[int]]:
        from monitoring.slice_queries import with_parts  # it asks the store, which has this index

        m = t.slice_members.c
        with self._read() as connection:
            if connection.scalar(sa.select(t.slices.c.id).where(t.slices.c.id == identity)) is None:
                raise NotFound("there is no slice with this id")
            rows = connection.execute(
                sa.select(m.id_hash, m.time_ns).where(m.slice_id.in_(with_parts(identity))).distinct()
            ).all()
        return [row.id_hash for row in rows], [row.time_ns for row in rows]

    def _fresh(self) -> Columns:
        with self._read() as connection:
            columns = self._follower.fresh(connection)
        columns.now_ns = time.time_ns()
        return columns


def _unknown(text: str) -> tuple[str, ...]:
    return ()


def _place(cursor: str, sort: Sort) -> tuple[float, str]:
    value, identity = decode_cursor(cursor, sort)
    if re.fullmatch("[0-9a-f]{16}", identity) is None:
        raise InvalidRequest("cursor is not one that this listing gave")
    return value, identity


def _all_of(alive: Bools, masks: Iterable[Bools]) -> Bools:
    fits = alive.copy()
    for mask in masks:
        fits &= mask
    return fits


def _counts(columns: Columns, field: Field, fits: Ints) -> list[tuple[str, int]]:
    if field is Field.IS:
        states = np.bincount(columns.states()[fits], minlength=len(STATES))
        return [(state.value, int(states[i])) for i, state in enumerate(STATES)]
    if field is Field.REASON:
        flags = np.bincount(columns["flags"][fits], minlength=1)
        values = np.arange(len(flags))
        return [(reason.value, int(flags[(values & FLAG_BITS[reason]) != 0].sum())) for reason in FlagReason]
    if field is Field.TAG:
        tags: dict[str, int] = {}
        for text, n in _by_word(columns, "tags", fits):
            for tag in text.split(TAG_SEPARATOR):
                tags[tag] = tags.get(tag, 0) + n
        return list(tags.items())
    return _by_word(columns, _WORD_FACETS[field], fits)


def _by_word(columns: Columns, name: str, fits: Ints) -> list[tuple[str, int]]:
    counts = np.bincount(columns[name][fits], minlength=1)
    return [(columns.words[name].texts[i], int(counts[i])) for i in np.flatnonzero(counts).tolist()]


def _totals(columns: Columns, fits: Bools) -> Totals:
    models, versions = columns.words["model"].texts, columns.words["version"].texts
    key = columns["model"].astype(np.int64) << 44 | columns["version"].astype(np.int64) << 20
    key |= columns["state"].astype(np.int64) << 16 | columns["flags"]
    keys, counts = np.unique(key[fits], return_counts=True)
    made = zip(keys.tolist(), counts.tolist(), strict=True)
    return tuple(
        (models[k >> 44], versions[k >> 20 & 0xFFFFFF], STATES[k >> 16 & 0xF].value, k & 0xFFFF, n) for k, n in made
    )


def _texts(ids: Any) -> tuple[str, ...]:
    return tuple(f"{identity:016x}" for identity in ids.tolist())
