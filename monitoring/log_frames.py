"""What one cycle takes from the record log: some frames of every source, those that are most behind first."""

from __future__ import annotations

from collections.abc import Collection

from monitoring.ingest_rows import START, Cursor
from monitoring.records.reader import Frame, RecordLogReader
from monitoring.refetch import position_of


def read_frames(
    reader: RecordLogReader, cursors: dict[str, Cursor], max_bytes: int, last: Collection[str] = ()
) -> tuple[list[Frame], frozenset[str]]:
    """At most about `max_bytes` of frames over all sources, and the sources that may hold more.

    What is left of the budget after one source goes to the next; the order turns by how far the sources' events are, so
    that the source that is most behind comes first. Sources in `last` come after all others: what they hold has to
    wait, and must not take the budget from those that it waits for.
    """
    frames: list[Frame] = []
    behind: set[str] = set()
    left = max_bytes
    for source in sorted(reader.sources(), key=lambda s: (s in last, cursors.get(s, START).event_ns, s)):
        if left <= 0:
            behind.add(source)
            continue
        taken = 0
        for frame in reader.read(source, position_of(cursors.get(source)), left):
            frames.append(frame)
            taken += frame.nbytes
        if taken >= left:
            behind.add(source)
        left -= taken
    return frames, frozenset(behind)
