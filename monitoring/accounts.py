"""The account of every source: what its writer counted, beside what the monitor has consumed."""

from __future__ import annotations

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.records.reader import RecordLogReader


def update_accounts(connection: sa.Connection, reader: RecordLogReader, read_to_end: frozenset[str]) -> None:
    """Store the accounts of all sources that may still change.

    Args:
        connection: In the writing transaction.
        reader: Of the log.
        read_to_end: Sources whose writer was seen dead *before* they were last read, and read to the end: they are
            final, and are not looked at again.
    """
    o = t.offsets.c
    done = set(connection.scalars(sa.select(o.source).where(o.finalised.is_(True))))
    for source in reader.sources():
        if source in done:
            continue
        account = reader.accounting(source)
        for (model, version), counts in account.slots.items():
            values = {
                "requests": counts.requests,
                "captured": counts.captured,
                "sampled_out": counts.sampled_out,
                "dropped": {reason.value: n for reason, n in counts.dropped.items() if n},
                "lost": counts.lost_crash,
                "corrupt": counts.lost_corrupt,
                "final": account.final,
            }
            if counts.requests or counts.captured or any(counts.dropped.values()):
                _store(connection, source, model, version, values)
        if account.final and source in read_to_end:
            connection.execute(t.offsets.update().where(o.source == source).values(finalised=True))


def _store(connection: sa.Connection, source: str, model: str, version: str, values: dict[str, object]) -> None:
    a = t.accounting.c
    where = sa.and_(a.source == source, a.model == model, a.version == version)
    if connection.execute(t.accounting.update().where(where).values(**values)).rowcount == 0:
        key = {"source": source, "model": model, "version": version}
        connection.execute(t.accounting.insert().values(**key, **values, ingested=0))
