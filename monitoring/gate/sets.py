"""The labelled sets of a gate, out of what the monitor knows. Each becomes a snapshot folder, written once.

| set | rows | asked |
|---|---|---|
| audited | random audit items of the recent window with a truth | better |
| golden | test rows of the snapshot that the champion was trained on; or the owner's own golden set | not worse |
| failures | each protected test set of the model | not worse |
| own | folders of the settings | not worse |

What candidate or champion was trained on is left out of every set, by the job (`GateRequest.trained_on`).

**One chance for all.** Audit items are drawn at random, but not all with one chance: capture keeps what looks
suspicious for certain, and of the rest a sample with a known chance. The exact test of the gate counts inputs, so it
needs inputs that were drawn alike. Items with a greater chance are therefore thinned to the smallest one, by a lot that
is fixed by the item's id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
import xxhash

from export.contracts.dataset import Source, Split
from export.contracts.manifest import Manifest
from export.contracts.privacy import policy_of
from export.dataset import DatasetRow, ManifestParts, Snapshot, write_snapshot
from export.dataset.labels import normalise
from monitoring import schema as t
from monitoring.case_pools import AUDIT_BIT
from monitoring.datasets.build import SnapshotSource
from monitoring.datasets.gather import Gatherer, Labelled
from monitoring.datasets.inputs import with_inputs
from monitoring.datasets.recipes import NONE, Recipe
from monitoring.gate.contracts import SetKind
from monitoring.gate.job import GateSet
from monitoring.gate.options import GateOptions
from monitoring.gate.rows import uses
from monitoring.review.test_sets import SetRow, all_sets, items_of

AUDITED = "audited"
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class GateSets:
    """The sets of a gate.

    Attributes:
        sets: For the request.
        slice_names: {slice id: what people call it}.
        trained_on: Folders of the snapshots of both versions that are there.
    """

    sets: tuple[GateSet, ...]
    slice_names: dict[str, str]
    trained_on: tuple[str, ...]


def write_gate_sets(
    source: SnapshotSource,
    champion: Manifest,
    candidate: Manifest | None,
    *,
    options: GateOptions,
    datasets: Path,
    root: Path,
) -> GateSets:
    """Write the sets of a gate, and name those that lie there already. Done again, it gives the same.

    Args:
        source: Records, cases, labels.
        champion: Says what an input and a label are.
        candidate: Whose training rows are left out; None where it cannot be read.
        options: Which sets.
        datasets: Folder of the snapshots.
        root: Where sets are written.

    Raises:
        OSError: disk.
    """
    model = champion.name
    with source.store.read() as connection:
        used = uses(connection, model)
        everything = Gatherer(connection, model, champion, Recipe(base=NONE)).all()
        left_out: Counter[str] = Counter()
        allowed = policy_of(source.privacy, model).keeps_everything
        newest_ns = connection.scalar(sa.select(sa.func.max(t.versions.c.last_ns)).where(t.versions.c.model == model))
        audited, note = _audited(connection, everything.rows, newest_ns or 0, options)
        fails = {one.id: (one, _failures(source, one, champion)) for one in all_sets(source.store, model)}
        wanted = {x.row.row_id: x for x in audited} | {x.row.row_id: x for x in everything.rows if _in(x, fails)}
        refetch = source.refetch if allowed else None
        rows = {
            row.row_id: row
            for _, row in with_inputs(connection, list(wanted.values()), champion.signature, refetch, left_out)
        }
        known = sa.select(t.slices.c.id, t.slices.c.words).where(t.slices.c.model == model)
        names: dict[str, str] = {row.id: row.words for row in connection.execute(known)}
    drawn = [rows[x.row.row_id] for x in audited if x.row.row_id in rows]
    first = _written(AUDITED, SetKind.AUDITED, drawn, champion, root)
    made = [] if first is None else [replace(first, note=note)]
    golden = _folder_of(champion.provenance.dataset_snapshot, datasets)
    if golden is not None and Snapshot.open(golden).manifest.splits.get(Split.TEST.value):
        made.append(GateSet(name="golden", kind=SetKind.GOLDEN, folder=str(golden), source=f"golden:{golden.name}"))
    for one, labels in fails.values():
        there = [replace(row, label=labels[row.case_id]) for row in rows.values() if row.case_id in labels]
        failures = _written(_name(one), SetKind.FAILURES, there, champion, root)
        if failures is not None:
            gone = one.items - len({row.case_id for row in there})
            words = f"{gone} of {one.items} inputs are not kept any more" if gone else ""
            made.append(replace(failures, source=f"failures:{one.id}", note=words))
    made += [
        GateSet(name=own.name, kind=own.kind, folder=own.folder, source=f"own:{own.name}")
        for own in options.own
        if own.model == model
    ]
    snapshots = [
        champion.provenance.dataset_snapshot,
        None if candidate is None else candidate.provenance.dataset_snapshot,
    ]
    folders = {str(folder) for name in snapshots if (folder := _folder_of(name, datasets)) is not None}
    return GateSets(
        sets=tuple(replace(one, used=used.get(one.source, 0)) for one in made),
        slice_names={identity: name or identity for identity, name in names.items()},
        trained_on=tuple(sorted(folders)),
    )


def _audited(
    connection: sa.Connection, rows: Sequence[Labelled], newest_ns: int, options: GateOptions
) -> tuple[list[Labelled], str]:
    """Random audit items of the window, each drawn with the same chance; and what was done for that, in a sentence."""
    since = newest_ns - round(options.audited_s * NANOSECONDS)
    found = [x for x in rows if x.row.source is Source.AUDIT and x.row.time_ns >= since]
    found.sort(key=lambda x: (-x.row.time_ns, x.row.row_id))
    found = found[: options.audited_inputs]
    r = t.records.c
    query = sa.select(r.id_hash, r.time_ns, r.probability).where(
        r.flags.op("&")(AUDIT_BIT) != 0, r.time_ns >= since, r.label.is_not(None)
    )
    chances = {(row.id_hash, row.time_ns): float(row.probability) for row in connection.execute(query)}
    known = [chances.get((x.id_hash, x.row.time_ns), 1.0) for x in found]
    least = min(known, default=1.0)
    kept = [x for x, chance in zip(found, known, strict=True) if _lot(x.row.row_id) < least / chance]
    thinned = len(found) - len(kept)
    words = (
        f"{thinned} left out, so that all were drawn with one chance ({least:.3g} of captured traffic)"
        if thinned
        else ""
    )
    return kept, words


def _lot(row_id: str) -> float:
    return xxhash.xxh64_intdigest(f"gate\0{row_id}".encode()) / 2.0**64


def _failures(source: SnapshotSource, one: SetRow, champion: Manifest) -> dict[str, object]:
    """{case: truth} of a protected set; labels that are none of the task are left out."""
    import json

    labels: dict[str, object] = {}
    after = -1
    while items := items_of(source.store, one.id, after):
        for item in items:
            try:
                labels[item.case_id] = normalise(json.loads(item.label), champion.task)
            except ValueError:
                continue
        after = items[-1].position
    return labels


def _in(x: Labelled, fails: dict[str, tuple[SetRow, dict[str, object]]]) -> bool:
    return any(x.row.case_id in labels for _, labels in fails.values())


def _name(one: SetRow) -> str:
    return f"failures: {one.name}"


def _written(name: str, kind: SetKind, rows: Sequence[DatasetRow], champion: Manifest, root: Path) -> GateSet | None:
    """The set as a folder; None when it is empty."""
    if not rows:
        return None
    parts = ManifestParts(
        name=name, model=champion.name, task=champion.task, signature=champion.signature, recipe={"gate": kind.value}
    )
    # Groups must not straddle splits, and all of these are in one.
    snapshot = write_snapshot(root, parts, [replace(row, split=Split.TEST) for row in rows])
    return GateSet(name=name, kind=kind, folder=str(snapshot.folder), source=name)


def _folder_of(digest: str | None, datasets: Path) -> Path | None:
    """Where a snapshot lies; None where it does not."""
    if digest is None:
        return None
    folder = datasets / digest.removeprefix("sha256:")[:16]
    return folder if folder.is_dir() else None


def window_words(options: GateOptions, newest_ns: int) -> str:
    """Which audited inputs count, for people."""
    since = datetime.fromtimestamp((newest_ns - round(options.audited_s * NANOSECONDS)) / NANOSECONDS, UTC)
    return f"audited since {since:%Y-%m-%d %H:%M} UTC"
