"""From a record to the versions that were trained on it, and from a version to the records behind it.

record -> case -> what people said -> rows of snapshots -> versions, by the snapshot that their package names
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from export.contracts.errors import NotFound
from monitoring import schema as t
from monitoring.catalogue import Catalogue
from monitoring.datasets.made import Made, made_of
from monitoring.datasets.rows import ItemRow, SnapshotRow, items, latest_of, look, snapshots
from monitoring.store import Store

MOST = 200
NOTHING_KNOWN = Made()


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordNode:
    """An answer that was given.

    Attributes:
        case: Its case's id, where it has one.
    """

    record_id: str
    model: str
    version: str
    time_ns: int
    case: str | None
    predicted: str | None
    label: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SaidNode:
    """What somebody said about a case. `act` is 0 of a client's feedback."""

    case: str
    actor: str
    what: str
    label: str | None
    time_ns: int
    act: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotNode:
    """A snapshot, and how many rows of it this is about."""

    snapshot: SnapshotRow
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionNode:
    """A version that was trained on a snapshot.

    Attributes:
        snapshot: Id of the snapshot; "" where its package names none.
        made: How it came about, and what became of it.
    """

    model: str
    version: str
    snapshot: str
    parent: str | None
    champion: bool
    made: Made = NOTHING_KNOWN


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Everything that hangs together, from the left to the right.

    Attributes:
        about: In words: "record a1", "case 0f…", "version 3 of digits".
        items: Rows of snapshots, at most `MOST`.
        total: How many rows there are.
    """

    about: str
    records: Sequence[RecordNode] = ()
    said: Sequence[SaidNode] = ()
    items: Sequence[ItemRow] = ()
    snapshots: Sequence[SnapshotNode] = ()
    versions: Sequence[VersionNode] = ()
    total: int = 0


def of_record(store: Store, catalogue: Catalogue, root: Path, record_id: str, model: str | None = None) -> Lineage:
    """Forwards from a record.

    Raises:
        NotFound: neither log nor snapshots know it.
    """
    with store.read() as connection:
        found = items(connection, model=model, record_id=record_id, limit=MOST)
    known = [
        RecordNode(
            record_id=row.record_id, model=row.model, version=row.version, time_ns=row.time_ns, case=row.case_id,
            predicted=None if row.predicted is None else str(row.predicted),
            label=None if row.label is None else str(row.label),
        )
        for row in store.records(record_id, model)
    ]  # fmt: skip
    if not found and not known:
        raise NotFound("no record with this id is known, and no snapshot holds one")
    with store.read() as connection:
        cases = sorted({node.case for node in known if node.case} | {item.case_id for item in found})
        return _forwards(connection, catalogue, root, f"record {record_id}", known, cases, found)


def of_case(store: Store, catalogue: Catalogue, root: Path, case: str) -> Lineage:
    """Forwards from a case, with the record before it.

    Raises:
        NotFound: there is none, and no snapshot holds it.
    """
    with store.read() as connection:
        found = items(connection, case=case, limit=MOST)
        known = _records_of(connection, [case])
        if not found and not known:
            raise NotFound("there is no case with this id, and no snapshot holds it")
        return _forwards(connection, catalogue, root, f"case {case}", known, [case], found)


def of_version(store: Store, catalogue: Catalogue, root: Path, model: str, version: str) -> Lineage:
    """Backwards from a version: its snapshot, those before it, and the records in it.

    Of a version that was trained elsewhere only what happened here is known: gate, roll-out, where it came from.

    Raises:
        NotFound: there is no such version, or its package names no snapshot that is known here and nothing else is.
    """
    manifest = catalogue.manifest(model, version)
    if manifest is None:
        raise NotFound("the registry has no such version")
    about, digest = f"version {version} of {model}", manifest.provenance.dataset_snapshot
    try:
        if digest is None:
            raise NotFound(f"version {version} names no data set")
        return of_snapshot(store, catalogue, root, digest, about=about)
    except NotFound:
        with store.read() as connection:
            made = made_of(connection, model, [version]).get(version)
        if made is None:
            raise
        plan = catalogue.plan(model)
        node = VersionNode(
            model=model,
            version=version,
            snapshot="",
            parent=manifest.provenance.parent_version,
            champion=plan is not None and plan.champion == version,
            made=made,
        )
        return Lineage(about=about, versions=[node])


def of_snapshot(store: Store, catalogue: Catalogue, root: Path, name: str, *, about: str = "") -> Lineage:
    """Backwards from a snapshot to the records in it, and forwards to the versions trained on it.

    Raises:
        NotFound: there is no such snapshot.
    """
    with store.read() as connection:
        own = look(connection, root, name)
        latest = latest_of(connection, root, name)
        chain, at = [own], own
        while at.base is not None and len(chain) < MOST:
            try:
                at = look(connection, root, at.base)
            except NotFound:
                break
            chain.append(at)
        found = items(connection, snapshot=latest.id, limit=MOST)
        cases = sorted({item.case_id for item in found})
        wanted = {row.id for row in chain} | {latest.id}
        if latest.id != own.id:
            chain.insert(1, latest)
        return Lineage(
            about=about or f"data set {own.id}",
            records=_records_of(connection, cases, found),
            said=_said(connection, cases),
            items=found,
            snapshots=[SnapshotNode(snapshot=row, rows=row.rows) for row in chain],
            versions=_with_made(
                connection, own.model, [v for v in versions_of(catalogue, own.model) if v.snapshot in wanted]
            ),
            total=_count(connection, latest.id),
        )


def versions_of(catalogue: Catalogue, model: str) -> list[VersionNode]:
    """Versions of a model that name a snapshot, oldest first."""
    plan = catalogue.plan(model)
    champion = None if plan is None else plan.champion
    found = []
    for version in catalogue.versions(model):
        manifest = catalogue.manifest(model, version)
        named = None if manifest is None else manifest.provenance.dataset_snapshot
        if manifest is None or named is None:
            continue
        found.append(
            VersionNode(
                model=model,
                version=version,
                snapshot=named.removeprefix("sha256:")[:16],
                parent=manifest.provenance.parent_version,
                champion=version == champion,
            )
        )
    return found


def _with_made(connection: sa.Connection, model: str, nodes: Sequence[VersionNode]) -> list[VersionNode]:
    made = made_of(connection, model, [node.version for node in nodes])
    return [replace(node, made=made.get(node.version, NOTHING_KNOWN)) for node in nodes]


def _forwards(
    connection: sa.Connection,
    catalogue: Catalogue,
    root: Path,
    about: str,
    known: list[RecordNode],
    cases: list[str],
    found: list[ItemRow],
) -> Lineage:
    ids = {item.snapshot_id for item in found}
    rows = [row for row in snapshots(connection, root, limit=100_000) if row.id in ids]
    models = sorted({row.model for row in rows})
    return Lineage(
        about=about,
        records=known or _records_of(connection, cases, found),
        said=_said(connection, cases),
        items=found,
        snapshots=[SnapshotNode(snapshot=row, rows=sum(item.snapshot_id == row.id for item in found)) for row in rows],
        versions=[
            node
            for model in models
            for node in _with_made(connection, model, [v for v in versions_of(catalogue, model) if v.snapshot in ids])
        ],
        total=len(found),
    )


def _records_of(connection: sa.Connection, cases: Sequence[str], found: Sequence[ItemRow] = ()) -> list[RecordNode]:
    """The records of cases; of such as are no longer kept, what a snapshot knows of them."""
    c = t.cases.c
    columns = (c.id, c.record_id, c.model, c.version, c.time_ns, c.predicted_label, c.predicted, c.label)
    nodes: dict[str, RecordNode] = {}
    for start in range(0, len(cases), 500):
        for row in connection.execute(sa.select(*columns).where(c.id.in_(cases[start : start + 500]))):
            said = row.predicted_label if row.predicted_label is not None else row.predicted
            nodes[row.id] = RecordNode(
                record_id=row.record_id, model=row.model, version=row.version, time_ns=row.time_ns, case=row.id,
                predicted=None if said is None else str(said), label=row.label,
            )  # fmt: skip
    for item in found:
        if item.case_id not in nodes:
            nodes[item.case_id] = RecordNode(
                record_id=item.record_id, model="", version=item.version, time_ns=item.time_ns, case=None,
                predicted=item.predicted, label=item.label,
            )  # fmt: skip
    return sorted(nodes.values(), key=lambda node: (node.time_ns, node.record_id))


def _said(connection: sa.Connection, cases: Sequence[str]) -> list[SaidNode]:
    """What counts of what people decided about cases, and what clients sent about their records."""
    d, a, c, f = t.decisions.c, t.acts.c, t.cases.c, t.feedback.c
    found: list[SaidNode] = []
    for start in range(0, len(cases), 500):
        chunk = cases[start : start + 500]
        query = sa.select(d.case_id, a.actor, d.verdict, d.label, a.time_ns, a.id).join(t.acts, a.id == d.act_id)
        query = query.where(d.case_id.in_(chunk), d.withdrawn.is_(False), d.verdict.is_not(None)).order_by(d.id)
        for case, actor, verdict, label, time_ns, act in connection.execute(query):
            found.append(SaidNode(case=case, actor=actor, what=verdict, label=label, time_ns=time_ns, act=act))
        about = sa.or_(f.about_ns.is_(None), f.about_ns == c.time_ns)
        given = sa.select(c.id, f.author, f.label, f.time_ns).join(t.feedback, sa.and_(f.id_hash == c.id_hash, about))
        given = given.where(c.id.in_(chunk), f.withdrawn.is_(False), f.label.is_not(None))
        given = given.where(sa.or_(f.author.is_(None), ~f.author.startswith("review:"))).order_by(f.time_ns, f.uid)
        for case, author, label, time_ns in connection.execute(given):
            found.append(SaidNode(case=case, actor=author or "a client", what="feedback", label=label, time_ns=time_ns))
    return sorted(found, key=lambda node: (node.time_ns, node.case, node.actor))


def _count(connection: sa.Connection, snapshot: str) -> int:
    i = t.snapshot_items.c
    return int(connection.scalar(sa.select(sa.func.count()).where(i.snapshot_id == snapshot)) or 0)
