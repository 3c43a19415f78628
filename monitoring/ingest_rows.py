"""The small tables that one transaction of the ingest writes: versions, cursors, accounts, events, dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.batches import Batch, Place, Poison
from monitoring.records.record import Event


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a source was consumed. `START` is before its first frame."""

    segment: int
    offset: int
    sequence: int
    event_ns: int = 0


START = Cursor(-1, 0, -1)


def read_cursors(connection: sa.Connection) -> dict[str, Cursor]:
    """How far each known source was consumed."""
    o = t.offsets.c
    rows = connection.execute(sa.select(o.source, o.segment, o.offset, o.sequence, o.event_ns))
    return {row.source: Cursor(row.segment, row.offset, row.sequence, row.event_ns) for row in rows}


def ensure_versions(connection: sa.Connection, batches: list[Batch]) -> dict[tuple[str, str], int]:
    """Row ids of the versions; new ones are added, and the times seen of all are stretched."""
    v = t.versions.c
    spans: dict[tuple[str, str], tuple[str, int, int]] = {}
    for b in batches:
        first, last = int(b.time_ns.min()), int(b.time_ns.max())
        digest, low, high = spans.get((b.model, b.version), (b.digest, first, last))
        spans[b.model, b.version] = (max(digest, b.digest), min(low, first), max(high, last))
    known = {(r.model, r.version): r for r in connection.execute(sa.select(t.versions))}
    ids: dict[tuple[str, str], int] = {}
    for (model, version), (digest, low, high) in sorted(spans.items()):
        row = known.get((model, version))
        if row is None:
            values = {"model": model, "version": version, "digest": digest, "first_ns": low, "last_ns": high}
            ids[model, version] = connection.execute(t.versions.insert().values(**values).returning(v.id)).scalar_one()
        else:
            ids[model, version] = row.id
            if low < row.first_ns or high > row.last_ns:
                values = {"first_ns": min(low, row.first_ns), "last_ns": max(high, row.last_ns)}
                connection.execute(t.versions.update().where(v.id == row.id).values(**values))
    return ids


def watermark(connection: sa.Connection) -> int:
    """The newest record time that was consumed, in ns; 0 at the beginning."""
    newest = connection.scalar(sa.select(sa.func.max(t.offsets.c.event_ns)))
    return int(newest or 0)


def write_events(connection: sa.Connection, events: list[tuple[Place, Event]]) -> None:
    """Store what happened to replicas."""
    rows = [
        {
            "source": place.source,
            "sequence": place.sequence + 1,
            "time_ns": event.time_ns,
            "kind": event.kind[:48],
            "model": event.model[:64],
            "version": event.version[:64],
            "detail": event.detail,
        }
        for place, event in events
    ]
    if rows:
        connection.execute(t.events.insert(), rows)


def write_poisons(connection: sa.Connection, poisons: list[Poison]) -> None:
    """Set aside what could not be read."""
    rows = {
        (p.place.source, p.place.segment, p.place.sequence + 1, p.item): {"reason": p.reason, "detail": p.detail}
        for p in poisons
    }
    names = ("source", "segment", "sequence", "item")
    if rows:
        connection.execute(t.dead_letters.insert(), [dict(zip(names, k, strict=True)) | v for k, v in rows.items()])


def count_ingested(connection: sa.Connection, batches: list[Batch]) -> None:
    """Add to the account what was consumed."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for batch in batches:
        for piece in batch.pieces:
            counts[piece.place.source, batch.model, batch.version] += len(piece.items)
    a = t.accounting.c
    for (source, model, version), count in sorted(counts.items()):
        where = sa.and_(a.source == source, a.model == model, a.version == version)
        changed = connection.execute(t.accounting.update().where(where).values(ingested=a.ingested + count))
        if changed.rowcount == 0:
            zeros = dict.fromkeys(("requests", "captured", "sampled_out", "lost", "corrupt"), 0)
            key = {"source": source, "model": model, "version": version, "dropped": {}, "final": False}
            connection.execute(t.accounting.insert().values(**key, **zeros, ingested=count))


def write_cursors(connection: sa.Connection, ends: Mapping[str, Cursor]) -> None:
    """Store how far each source was consumed."""
    o = t.offsets.c
    for source, end in ends.items():
        values = {"segment": end.segment, "offset": end.offset, "sequence": end.sequence, "event_ns": end.event_ns}
        if connection.execute(t.offsets.update().where(o.source == source).values(**values)).rowcount == 0:
            connection.execute(t.offsets.insert().values(source=source, finalised=False, **values))
