"""Taking records out of snapshots, which are immutable: each is replaced by one without them, and its data deleted.

They go because somebody erased them, or because their time is over (`monitoring.datasets.expiry`). A snapshot's digest
covers its rows, so a row cannot be taken out of it. What it was stays known: its manifest, which holds no payload, its
row in the table, marked as erased, and the records that are left in it. Its successor has the same recipe and the same
rows but those that went; whoever asks for the old one by its digest (a version's package, a recipe) is led to it. A
model that was trained on the erased rows is not changed by that: `successor` is there to train the next one on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from export.contracts.dataset import DATA_FILE, Source
from export.contracts.errors import SnapshotError
from export.dataset import ManifestParts, Snapshot, write_snapshot
from monitoring import schema as t
from monitoring.datasets.rows import SnapshotState, add_snapshot
from monitoring.store import Store

logger = logging.getLogger(__name__)
INSTEAD = "Takes the place of"


def mark_snapshots(connection: sa.Connection, hashes: Sequence[int], names: Sequence[str]) -> int:
    """Say of every snapshot that holds one of the records that it has to go; returns how many rows are in them.

    Before the rows of `snapshot_items` themselves go.
    """
    i, s = t.snapshot_items.c, t.snapshots.c
    found: dict[str, int] = {}
    for start in range(0, len(hashes), 400):
        query = sa.select(i.snapshot_id, sa.func.count()).where(
            i.id_hash.in_(list(hashes[start : start + 400])), i.record_id.in_(names)
        )
        for snapshot, rows in connection.execute(query.group_by(i.snapshot_id)):
            found[snapshot] = found.get(snapshot, 0) + rows
    for snapshot, rows in sorted(found.items()):
        state = sa.case((s.state == SnapshotState.ERASED.value, s.state), else_=SnapshotState.ERASING.value)
        update = t.snapshots.update().where(s.id == snapshot)
        connection.execute(update.values(erased=s.erased + rows, state=state))
    return sum(found.values())


def replace_marked(store: Store, root: Path, now_ns: int) -> int:
    """Replace the snapshots that hold rows that have to go; returns how many. May be repeated after a crash.

    Which rows stay says `snapshot_items`: whoever marks a snapshot deletes them there in the same transaction.
    """
    s = t.snapshots.c
    with store.read() as connection:
        due = list(connection.scalars(sa.select(s.id).where(s.state == SnapshotState.ERASING.value).order_by(s.id)))
        done = list(connection.scalars(sa.select(s.id).where(s.state == SnapshotState.ERASED.value)))
    for identity in done:  # a crash may have come before the file went
        (root / identity / DATA_FILE).unlink(missing_ok=True)
    for identity in due:
        _replace(store, root, identity, now_ns)
    return len(due)


def _replace(store: Store, root: Path, identity: str, now_ns: int) -> None:
    s, i = t.snapshots.c, t.snapshot_items.c
    successor = ""
    try:
        old = Snapshot.open(root / identity)
    except SnapshotError as error:
        logger.warning("snapshot %s cannot be read while rows of it have to go: %s", identity, error.message)
    else:
        with store.read() as connection:
            stay = set(connection.scalars(sa.select(i.row_id).where(i.snapshot_id == identity)))
        rows = old.items()
        rest = [row for row in rows if row.source is Source.BASE or row.row_id in stay]
        manifest = old.manifest
        notes = [note for note in manifest.notes if not note.startswith(INSTEAD)]  # one such sentence is enough
        made = write_snapshot(
            root,
            ManifestParts(
                name=manifest.name,
                model=manifest.model,
                task=manifest.task,
                signature=manifest.signature,
                recipe=manifest.recipe,
                base=manifest.base,
                notes=(*notes, f"{INSTEAD} {identity}: {len(rows) - len(rest)} rows had to go."),
            ),
            rest,
        )
        with store.write() as connection:
            add_snapshot(connection, made, rest, actor="hardcase", now_ns=now_ns)
        successor = made.id
    with store.write() as connection:
        values = {"state": SnapshotState.ERASED.value, "successor": successor}
        connection.execute(t.snapshots.update().where(s.id == identity).values(**values))
    (root / identity / DATA_FILE).unlink(missing_ok=True)
