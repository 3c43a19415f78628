"""Log folders of dead replicas, once everything in them was consumed: kept while there is room, then removed.

They are kept for a while because feedback that comes late fetches inputs from them.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.records.reader import RecordLogReader
from monitoring.store import Store

logger = logging.getLogger(__name__)


def release_sources(store: Store, reader: RecordLogReader, max_bytes: int) -> None:
    """Remove the oldest finished sources until those that are left take at most `max_bytes`."""
    o = t.offsets.c
    with store.read() as connection:
        finished = set(connection.scalars(sa.select(o.source).where(o.finalised.is_(True))))
    sizes = {source: reader.lag_bytes(source, None) for source in reader.sources() if source in finished}
    over = sum(sizes.values()) - max_bytes
    for source, size in sizes.items():
        if over <= 0:
            return
        try:
            if reader.retire(source):
                over -= size
        except OSError as error:
            logger.warning("the log of %s cannot be removed: %s", source, type(error).__name__)
