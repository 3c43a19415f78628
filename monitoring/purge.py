"""What may not stay in the log once the monitor has consumed it: inputs of models of which only thumbnails are kept.

Also what replicas recorded before the privacy settings said otherwise. Sealed segments are gone through once each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.records.decode import DecodedRecords
from monitoring.records.folders import acknowledged, is_locked, list_sources
from monitoring.records.frames import segment_numbers
from monitoring.records.rewrite import rewrite_segment
from monitoring.records.sealed import segment_facts
from monitoring.store import Store

logger = logging.getLogger(__name__)

_A_TURN = 8  # segments


def may_change(root: Path, source: str, number: int) -> bool:
    """Whether a segment was consumed to its end, and nobody appends to it."""
    done, facts = acknowledged(root / source), segment_facts(root, source, number)
    if done is None or facts is None or (is_locked(root / source) and not facts.sealed):
        return False
    return number < done.segment or (number == done.segment and done.offset >= facts.data_end)


def due_segments(root: Path, wanted: Callable[[str, int], bool]) -> Iterator[tuple[str, int]]:
    """Source and number of consumed segments that are wanted, of each source in the order in which they were written.

    Args:
        root: The record log's folder.
        wanted: Asked about every segment, of a source until one may not change yet.
    """
    for source in list_sources(root):
        for number in segment_numbers(root / source):
            if not wanted(source, number):
                continue
            if not may_change(root, source, number):
                break
            yield source, number


class Purger:
    """Takes away from sealed, consumed segments what may not stay.

    Args:
        store: Remembers how far each source is purged.
        root: The record log's folder.
        change: What may stay of records.
    """

    def __init__(self, store: Store, root: Path, change: Callable[[DecodedRecords], DecodedRecords]) -> None:
        self._store, self._root, self._change = store, root, change

    def turn(self) -> bool:
        """A few segments; returns whether there are more."""
        with self._store.read() as connection:
            purged = {row.source: row.segment for row in connection.execute(sa.select(t.purges))}
        due = due_segments(self._root, lambda source, number: number > purged.get(source, 0))
        for source, number in islice(due, _A_TURN):
            rewrite_segment(self._root, source, number, self._change)
            self._note(source, number)
        return next(due, None) is not None

    def _note(self, source: str, number: int) -> None:
        with self._store.write() as connection:
            p = t.purges
            if connection.execute(p.update().where(p.c.source == source).values(segment=number)).rowcount == 0:
                connection.execute(p.insert().values(source=source, segment=number))
