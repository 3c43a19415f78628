"""Reading single frames again, for records that feedback makes cases of."""

from __future__ import annotations

import logging
import threading

from monitoring.archive.find import find_archived
from monitoring.batches import Place, Records
from monitoring.ingest_rows import Cursor
from monitoring.options import MonitorOptions
from monitoring.records.reader import Frame, Position, RecordLogReader
from monitoring.store import Store

logger = logging.getLogger(__name__)


def position_of(cursor: Cursor | None) -> Position | None:
    """Where the reader goes on from; None for the beginning."""
    if cursor is None or cursor.segment < 0:
        return None
    return Position(cursor.segment, cursor.offset, cursor.sequence)


class Refetch:
    """Reads single frames again, with a reader of its own so that the loop's keeps its place.

    Frames asked for in the order of the log are found in one pass over it. What the log has let go is looked for in the
    archive, when there is a `store` to ask for its catalogue.
    """

    def __init__(self, options: MonitorOptions, store: Store | None = None) -> None:
        self._reader = RecordLogReader(options.records_root)
        self._archive = options.archive_root
        self._store = store
        self._reading = threading.Lock()  # pictures and data sets are made by several threads
        self._at: tuple[str, Position | None] | None = None  # where the reader stands
        self._last: tuple[Place, Records | None] | None = None

    def __call__(self, place: Place) -> Records | None:
        """The records of the frame behind `place`, or None when they are gone or cannot be read."""
        with self._reading:
            if self._last is None or self._last[0] != place:
                self._last = (place, self._read(place))
            return self._last[1]

    def _read(self, place: Place) -> Records | None:
        try:
            frame = self._frame_behind(place)
            if frame is None or frame.kind != "records":
                return None if self._store is None else find_archived(self._store, self._archive, place)
            return frame.records()
        except (OSError, ValueError) as error:
            logger.info("a record of %s cannot be read again: %s", place.source, type(error).__name__)
            self._at = None
            return None

    def _frame_behind(self, place: Place) -> Frame | None:
        wanted = position_of(Cursor(place.segment, place.offset, place.sequence))
        start = wanted
        if self._at is not None and self._at[0] == place.source and self._at[1] is not None:
            at = self._at[1]
            if wanted is not None and at.segment == wanted.segment and at.sequence <= wanted.sequence:
                start = at  # go on from here instead of reading the segment again for its schemas
        after = start
        for frame in self._reader.read(place.source, start, 1 << 62):
            found = after == wanted
            after = frame.position
            self._at = (place.source, after)
            if found:
                return frame
            if wanted is not None and after.sequence > wanted.sequence:
                return None
        return None
