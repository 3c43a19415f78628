"""One record, wherever it is: the archive by its catalogue."""

from __future__ import annotations

from pathlib import Path

from monitoring.archive.catalogue import files_at
from monitoring.archive.read import read_frame
from monitoring.batches import Place
from monitoring.records.decode import DecodedRecords
from monitoring.store import Store


def find_archived(store: Store, root: Path, place: Place) -> DecodedRecords | None:
    """The records of the frame behind a place; None when the archive does not have it."""
    with store.read() as connection:
        paths = files_at(connection, place.source, place.sequence)
    for path in paths:
        if not (root / path).exists():  # written anew a moment ago, under its next name
            continue
        records = read_frame(root / path, place.sequence)
        if records is not None:
            return records
    return None
