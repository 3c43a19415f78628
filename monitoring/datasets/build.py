"""Building a snapshot: the same log, the same acts and the same recipe give the same digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from export.contracts.dataset import Source
from export.contracts.errors import InvalidRequest, NotFound, SnapshotError
from export.contracts.manifest import Manifest
from export.contracts.privacy import PrivacyPolicy, policy_of
from export.contracts.signature import Signature
from export.contracts.task import Task, TaskKind
from export.dataset import DatasetRow, ManifestParts, Snapshot, write_snapshot
from export.dataset.labels import class_of
from monitoring.catalogue import Catalogue
from monitoring.datasets.gather import Gatherer, Labelled, groups_now, protected_contents, taken_back
from monitoring.datasets.inputs import Refetcher, with_inputs
from monitoring.datasets.noise import suspects_among
from monitoring.datasets.quotas import choose, weigh
from monitoring.datasets.recipes import NONE, PARENT, Noise, Recipe
from monitoring.datasets.rows import SnapshotRow, SnapshotState, add_snapshot, adopt, latest_of, look
from monitoring.datasets.splits import Candidate, components, with_splits
from monitoring.gate.holdout import held_out
from monitoring.keys import printable
from monitoring.store import Store


@dataclass(frozen=True, kw_only=True)
class SnapshotSource:
    """Where snapshots are made from.

    Attributes:
        store: Records, cases, labels.
        catalogue: For the champion's signature, task and snapshot.
        refetch: Reads records that are no case from the log or the archive; None: they are left out.
        privacy: What may be kept of each model's requests.
    """

    store: Store
    catalogue: Catalogue
    refetch: Refetcher | None = None
    privacy: Sequence[PrivacyPolicy] = field(default=())


def build_snapshot(
    source: SnapshotSource, model: str, recipe: Recipe, *, actor: str, root: Path, now_ns: int
) -> SnapshotRow:
    """Build, write and enter a snapshot; the same one again is the one that is there.

    Args:
        source: Log, acts, registry.
        model: Of which model.
        recipe: What goes in.
        actor: Who wants it.
        root: Folder of the snapshots.
        now_ns: For the table; the digest does not depend on it.

    Raises:
        NotFound: no version of the model is known, or not the base.
        InvalidRequest: no row is left.
        SnapshotError: the base is damaged, or is of other inputs.
        OSError: disk.
    """
    manifest = manifest_of(source.catalogue, model)
    adopt(source.store, root, now_ns=now_ns)
    with source.store.read() as connection:
        base, notes = _base(connection, manifest, recipe, root)
        rows, more = _collect(connection, source, model, manifest, recipe, base)
    if not rows:
        raise InvalidRequest("nothing to train on: no row is labelled, kept and asked for. " + " ".join(more))
    parts = ManifestParts(
        name=printable(recipe.name) or f"{model} from {len(rows)} rows",
        model=model,
        task=manifest.task,
        signature=manifest.signature,
        recipe=recipe.to_plain(),
        base=None if base is None else base.digest,
        notes=(*notes, *more),
    )
    made = write_snapshot(root, parts, rows)
    with source.store.write() as connection:
        add_snapshot(connection, made, rows, actor=actor, now_ns=now_ns)
    with source.store.read() as connection:
        return look(connection, root, made.id)


def manifest_of(catalogue: Catalogue, model: str) -> Manifest:
    """Of the champion; of the newest version where there is none.

    Raises:
        NotFound: there is no version.
    """
    plan = catalogue.plan(model)
    names = [plan.champion] if plan is not None and plan.champion else []
    for version in (*names, *reversed(catalogue.versions(model))):
        manifest = catalogue.manifest(model, version)
        if manifest is not None:
            return manifest
    raise NotFound(f"the registry has no version of a model '{model[:64]}'")


def _base(
    connection: sa.Connection, manifest: Manifest, recipe: Recipe, root: Path
) -> tuple[Snapshot | None, list[str]]:
    """The snapshot whose rows are carried on."""
    if recipe.base == NONE:
        return None, []
    name = recipe.base
    if name == PARENT:
        named = manifest.provenance.dataset_snapshot
        if named is None:
            return None, [f"Version {manifest.version} names no data set: nothing is carried on from it."]
        name = named
    row = latest_of(connection, root, name)
    if row.state is not SnapshotState.WHOLE:
        raise SnapshotError("the base holds data that are being erased: ask again in a minute")
    base = row.open()
    if base.manifest.model != manifest.name:
        raise SnapshotError(f"snapshot {base.id} is of model {base.manifest.model}, not of {manifest.name}")
    if _inputs(base.manifest.signature) != _inputs(manifest.signature) or not _alike(base.manifest.task, manifest.task):
        raise SnapshotError(f"snapshot {base.id} is of other inputs or another task than version {manifest.version}")
    return base, []


def _inputs(signature: Signature) -> list[tuple[object, ...]]:
    return [(spec.name, spec.datatype, spec.shape) for spec in signature.inputs]


def _alike(one: Task, other: Task) -> bool:
    return (one.kind, one.class_names) == (other.kind, other.class_names)


def _collect(
    connection: sa.Connection,
    source: SnapshotSource,
    model: str,
    manifest: Manifest,
    recipe: Recipe,
    base: Snapshot | None,
) -> tuple[list[DatasetRow], list[str]]:
    """All rows with groups, splits and weights; and what was left out, in sentences."""
    gathered = Gatherer(connection, model, manifest, recipe).all()
    left_out = gathered.left_out
    carried = [] if base is None else base.items()
    carried = _still_labelled(connection, carried, left_out)
    held_contents, held_cases = protected_contents(connection, model) if recipe.holdout_test_sets else (set(), set())
    wanted, words = _without_noise(gathered.rows, manifest, recipe, left_out)
    allowed = policy_of(source.privacy, model).keeps_everything
    fresh = [
        (x, row)
        for x, row in with_inputs(connection, wanted, manifest.signature, source.refetch if allowed else None, left_out)
    ]
    kept, carried = _once(fresh, carried, left_out)
    old_groups = groups_now(connection, [row.case_id for row in carried if row.case_id])
    candidates = [_carried(row, manifest, old_groups) for row in carried]
    candidates += [_fresh(x, row, manifest) for x, row in kept]
    candidates = _without_held(candidates, held_contents, held_cases, recipe.holdout_audit, left_out)
    candidates, by_quota = choose(candidates, recipe)
    left_out.update({f"over the recipe's {name}": n for name, n in by_quota.items()})
    rows = with_splits(candidates, recipe)
    new = frozenset(c.row.row_id for c in candidates if c.fresh)
    classes = [c.cls for c in candidates]
    return weigh(rows, new, classes, recipe), [*_sentences(left_out, len(new), len(rows) - len(new)), *words]


def _without_noise(
    rows: list[Labelled], manifest: Manifest, recipe: Recipe, left_out: Counter[str]
) -> tuple[list[Labelled], list[str]]:
    """What the recipe says about labels that look wrong."""
    if recipe.noise is Noise.OFF or manifest.task.kind is not TaskKind.CLASSIFICATION:
        return rows, []
    suspects = {s.row_id for s in suspects_among(rows, manifest.task.class_names)}
    if recipe.noise is Noise.DROP:
        left_out["label looks wrong"] += len(suspects)
        return [x for x in rows if x.row.row_id not in suspects], []
    return rows, [f"{len(suspects)} labels look wrong and are kept."] if suspects else []


def _still_labelled(connection: sa.Connection, carried: list[DatasetRow], left_out: Counter[str]) -> list[DatasetRow]:
    gone = taken_back(connection, [row.case_id for row in carried if row.source is not Source.BASE and row.case_id])
    left_out["label taken back since"] += sum(row.case_id in gone for row in carried if row.case_id)
    return [row for row in carried if row.case_id not in gone] if gone else carried


def _once(
    fresh: list[tuple[Labelled, DatasetRow]], carried: list[DatasetRow], left_out: Counter[str]
) -> tuple[list[tuple[Labelled, DatasetRow]], list[DatasetRow]]:
    """Every input once. Of several labels of one input the one that a person decided holds, and of these the newest."""
    best: dict[str, tuple[Labelled, DatasetRow]] = {}
    for x, row in sorted(fresh, key=lambda at: (not at[0].reviewed, -at[1].time_ns, at[1].row_id)):
        known = best.get(row.content)
        if known is None:
            best[row.content] = (x, row)
        else:
            same = known[1].label == row.label
            left_out["the same input twice" if same else "the same input with another label"] += 1
    stays: list[DatasetRow] = []
    for row in carried:
        known = best.get(row.content)
        if known is None or known[1].row_id == row.row_id:
            stays.append(row)
        elif known[1].label == row.label or (row.source is not Source.BASE and not known[0].reviewed):
            del best[row.content]  # it is there already
            left_out["the same input twice"] += 1
            stays.append(row)
        else:
            left_out["base row whose label people corrected"] += 1
    by_id = {row.row_id: (x, row) for x, row in best.values()}
    kept = [row for row in stays if row.row_id not in by_id]
    before = {row.row_id: row for row in stays if row.row_id in by_id}
    again = []
    for x, row in by_id.values():
        old = before.get(row.row_id)
        again.append((x, row if old is None else replace(row, split=old.split, group=old.group)))
    return again, kept


def _carried(row: DatasetRow, manifest: Manifest, groups: dict[str, str]) -> Candidate:
    keys = [_key(row.group)] if row.group else []
    if row.case_id in groups:
        keys.append(f"g:{groups[row.case_id]}")
    if row.content:
        keys.append(f"i:{row.content}")
    keys.append(f"r:{row.row_id}")
    return Candidate(row=row, keys=tuple(keys), settled=True, fresh=False, cls=class_of(row.label, manifest.task) or "")


def _fresh(labelled: Labelled, row: DatasetRow, manifest: Manifest) -> Candidate:
    """A row that was carried on under the same id has the split that it had."""
    keys = [f"g:{labelled.group}"] if labelled.group else []
    if row.group:
        keys.append(_key(row.group))
    keys += [f"i:{row.content}", f"r:{row.case_id}"]
    return Candidate(
        row=row,
        keys=tuple(keys),
        settled=bool(row.group),
        fresh=not row.group,
        leader=labelled.group or row.case_id,
        cls=class_of(row.label, manifest.task) or "",
    )


def _key(group: str) -> str:
    """A group's name as a key: those that we named are keys already."""
    return group if group[:2] in ("g:", "i:", "r:", "b:") else f"b:{group}"


def _without_held(
    candidates: list[Candidate],
    contents: set[str],
    cases: set[str],
    share: float,
    left_out: Counter[str],
) -> list[Candidate]:
    """Without what tests and the gate need, and without what is like it. Rows trained on before stay for the audit."""
    names = components([c.keys for c in candidates])
    tested = {
        name
        for name, c in zip(names, candidates, strict=True)
        if c.row.content in contents or (c.row.case_id and c.row.case_id in cases)
    }
    audited = {
        name
        for name, c in zip(names, candidates, strict=True)
        if c.fresh and c.row.source is Source.AUDIT and held_out(c.leader, share)
    }
    kept = []
    for name, c in zip(names, candidates, strict=True):
        if name in tested:
            left_out["in a protected test set, or like something in it"] += 1
        elif name in audited and c.fresh:
            left_out["audited and the gate's, or like something that is"] += 1
        else:
            kept.append(c)
    return kept


def _sentences(left_out: Counter[str], new: int, carried: int) -> list[str]:
    found = [f"{new} new rows, {carried} carried on."]
    found += [f"Left out: {n} ({why})." for why, n in sorted(left_out.items()) if n]
    return found
