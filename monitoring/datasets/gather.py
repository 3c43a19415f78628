"""Labelled records of a model, as rows without their inputs yet: what the log holds and what people decided."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState
from export.contracts.dataset import Source
from export.contracts.manifest import Manifest
from export.contracts.task import TaskKind
from export.dataset.content import unsigned
from export.dataset.labels import class_index, normalise
from export.dataset.rows import DatasetRow
from monitoring import schema as t
from monitoring.batches import Place
from monitoring.case_pools import AUDIT_BIT
from monitoring.case_rows import InputState, to_json
from monitoring.datasets.recipes import Labels, Recipe
from monitoring.keys import case_id
from monitoring.origins import ASIDE
from monitoring.review.lines import read_opinions
from monitoring.review.truths import AUTHOR
from monitoring.tasks.kinds import task_of
from monitoring.tasks.protocol import WRONG, MonitoredTask, Said

CHUNK = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """A labelled row of a record.

    Attributes:
        row: Without inputs; `content` is "" where the record has several rows, or its hash is not kept.
        index: Which row of its record.
        rows: Rows of the record.
        group: The case that stands for it; "" where it is no case.
        place: Of its frame, where it is no case that holds its inputs.
        reviewed: A person decided the label here.
        probabilities: What the model gave each class.
        vector: Its embedding, as records keep it.
        id_hash: As in records.
    """

    row: DatasetRow
    index: int
    rows: int
    id_hash: int
    group: str = ""
    place: Place | None = None
    reviewed: bool = False
    probabilities: Sequence[float | None] | None = None
    vector: bytes | None = None


@dataclass(kw_only=True)
class Gathered:
    """What was found, and how many rows were left out for which reason."""

    rows: list[Labelled] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


class Gatherer:
    """Reads what a recipe asks for.

    Args:
        connection: That sees one consistent state.
        model: Whose records.
        manifest: Of the version that the snapshot is for: its task says what a label is.
        recipe: Which records, whose labels.
    """

    def __init__(self, connection: sa.Connection, model: str, manifest: Manifest, recipe: Recipe) -> None:
        self._connection = connection
        self._model = model
        self._task = manifest.task
        self._read: MonitoredTask = task_of(manifest, None)
        self._recipe = recipe
        self._slices = _slices(connection, model)

    def all(self) -> Gathered:
        """Everything that the recipe asks for, without quotas."""
        found = Gathered()
        r, v = t.records.c, t.versions.c
        for labelled in self._cases(found):
            found.rows.append(labelled)
        if self._recipe.labels is Labels.ANY:
            for labelled in self._records(found, r, v):
                found.rows.append(labelled)
        return found

    def _cases(self, found: Gathered) -> Iterator[Labelled]:
        c = t.cases.c
        names = ("id", "id_hash", "record_id", "version", "variant", "time_ns", "flags", "label", "decided_by",
                 "content_hash", "group_id", "row", "rows", "predicted", "predicted_label", "answer", "input_state",
                 "probabilities", "vector")  # fmt: skip
        since, until = self._recipe.span_ns
        query = sa.select(*(c[name] for name in names)).where(
            c.model == self._model,
            c.label.is_not(None),
            c.time_ns >= since,
            c.time_ns < until,
            c.variant != ASIDE,
            c.state != CaseState.DISMISSED.value,
        )
        rows = [dict(row) for row in self._connection.execute(query.order_by(c.id)).mappings()]
        agreed = self._agreed([row["id"] for row in rows])
        for row in rows:
            reviewed = bool(row["decided_by"])
            source = Source.AUDIT if row["flags"] & AUDIT_BIT else Source.CASE if reviewed else Source.FEEDBACK
            if not self._wanted(source) or not self._of_slices(row):
                continue
            if (self._recipe.labels is Labels.REVIEWED and not reviewed) or (
                agreed is not None and row["id"] not in agreed
            ):
                found.left_out["not confirmed by people"] += 1
                continue
            if row["input_state"] != InputState.KEPT.value:
                found.left_out["inputs not kept"] += 1
                continue
            yield from self._rows(found, row, row["id"], source, author=row["decided_by"] or "feedback")

    def _records(self, found: Gathered, r: Any, v: Any) -> Iterator[Labelled]:
        """Records with a label that are no case, and such as lost their inputs as one but not in the log."""
        c = t.cases.c
        since, until = self._recipe.span_ns
        case = sa.exists().where(c.id_hash == r.id_hash, c.time_ns == r.time_ns, c.variant == r.variant)
        names = ("id_hash", "record_id", "time_ns", "variant", "flags", "label", "rows", "predicted", "predicted_rows",
                 "answer", "content_hash", "vector", "source", "segment", "offset", "sequence", "outcome")  # fmt: skip
        query = (
            sa.select(*(r[name] for name in names), v.version)
            .join(t.versions, r.version_id == v.id)
            .where(v.model == self._model, r.label.is_not(None), r.label != to_json(WRONG), ~case)
            .where(r.time_ns >= since, r.time_ns < until, r.variant != ASIDE)
            .order_by(r.seq)
        )
        authors = _authors(self._connection, self._model)
        for row in self._connection.execute(query).mappings():
            source = Source.AUDIT if row["flags"] & AUDIT_BIT else Source.FEEDBACK
            if not self._wanted(source) or not self._of_slices(row):
                continue
            identity = case_id(self._model, row["record_id"], row["time_ns"], row["variant"])
            place = Place(**{name: row[name] for name in ("source", "segment", "offset", "sequence")})
            author = authors.get(row["id_hash"], "feedback")
            yield from self._rows(found, dict(row), identity, source, author=author, place=place)

    def _rows(
        self,
        found: Gathered,
        row: dict[str, Any],
        identity: str,
        source: Source,
        *,
        author: str,
        place: Place | None = None,
    ) -> Iterator[Labelled]:
        """The labelled rows of one record."""
        said = Said.stored(json.loads(row["label"]))
        truth = None if said.wrong else self._read.truth(said, row)
        if truth is None or len(truth) != row["rows"]:
            found.left_out["label says nothing of single rows"] += 1
            return
        single = row["rows"] == 1 and row["content_hash"] is not None
        for index, value in enumerate(truth):
            if value is None:
                continue
            try:
                label = normalise(value, self._task)
            except ValueError:
                found.left_out["label is none of the task"] += 1
                continue
            own = place is not None or index == row["row"]
            yield Labelled(
                row=DatasetRow(
                    row_id=f"{identity}.{index}",
                    inputs={},
                    label=label,
                    source=source,
                    author=author.removeprefix(AUTHOR),
                    time_ns=row["time_ns"],
                    case_id=identity,
                    record_id=row["record_id"],
                    version=row["version"],
                    predicted=self._predicted(row, index) if own else None,
                    content=unsigned(row["content_hash"]) if single else "",
                    slices=self._slices.get((row["id_hash"], row["time_ns"]), ()),
                ),
                index=index,
                rows=row["rows"],
                id_hash=row["id_hash"],
                group=row.get("group_id") or "",
                place=place,
                reviewed=bool(row.get("decided_by")),
                probabilities=row.get("probabilities") if own else None,
                vector=row["vector"] if own else None,
            )

    def _predicted(self, row: dict[str, Any], index: int) -> Any:
        if self._task.kind is TaskKind.CLASSIFICATION:
            several = row.get("predicted_rows")
            said = several[index] if several else row["predicted"]
            try:
                at = None if said is None else class_index(said, ())
            except ValueError:
                return None
            names = self._task.class_names
            return at if at is None or not names else names[at] if at < len(names) else None
        answer = row["answer"]
        return answer[index] if row.get("predicted_rows") is not None and isinstance(answer, list) else answer

    def _wanted(self, source: Source) -> bool:
        recipe = self._recipe
        return {Source.CASE: recipe.cases, Source.FEEDBACK: recipe.feedback, Source.AUDIT: recipe.audit}[source]

    def _of_slices(self, row: Any) -> bool:
        wanted = self._recipe.slices
        return not wanted or bool(set(wanted) & set(self._slices.get((row["id_hash"], row["time_ns"]), ())))

    def _agreed(self, ids: Sequence[str]) -> set[str] | None:
        """Cases of which enough people say the same and nobody says something else; None: that is not asked for."""
        if self._recipe.labels is not Labels.AGREED:
            return None
        found = set()
        for identity, opinions in read_opinions(self._connection, ids).items():
            if len(opinions) >= self._recipe.opinions and len({opinion.says for opinion in opinions}) == 1:
                found.add(identity)
        return found


def taken_back(connection: sa.Connection, cases: Sequence[str]) -> set[str]:
    """Those of the cases that are known and have no label any more."""
    c = t.cases.c
    found: set[str] = set()
    for start in range(0, len(cases), CHUNK):
        query = sa.select(c.id).where(c.id.in_(cases[start : start + CHUNK]), c.label.is_(None))
        found.update(connection.scalars(query))
    return found


def groups_now(connection: sa.Connection, cases: Sequence[str]) -> dict[str, str]:
    """The case that stands for each of the cases that are known."""
    c = t.cases.c
    found: dict[str, str] = {}
    for start in range(0, len(cases), CHUNK):
        query = sa.select(c.id, c.group_id).where(c.id.in_(cases[start : start + CHUNK]), c.group_id.is_not(None))
        found.update((row.id, row.group_id) for row in connection.execute(query))
    return found


def protected_contents(connection: sa.Connection, model: str) -> tuple[set[str], set[str]]:
    """Hashes of the inputs in the model's protected test sets, and their cases."""
    i, s = t.test_set_items.c, t.test_sets.c
    query = sa.select(i.content_hash, i.case_id).join(t.test_sets, s.id == i.test_set_id).where(s.model == model)
    rows = connection.execute(query).all()
    return {unsigned(row.content_hash) for row in rows if row.content_hash is not None}, {row.case_id for row in rows}


def _slices(connection: sa.Connection, model: str) -> dict[tuple[int, int], tuple[str, ...]]:
    m, s = t.slice_members.c, t.slices.c
    query = sa.select(m.id_hash, m.time_ns, m.slice_id).join(t.slices, s.id == m.slice_id).where(s.model == model)
    found: dict[tuple[int, int], tuple[str, ...]] = {}
    for row in connection.execute(query.order_by(m.slice_id)):
        found[row.id_hash, row.time_ns] = (*found.get((row.id_hash, row.time_ns), ()), row.slice_id)
    return found


def _authors(connection: sa.Connection, model: str) -> dict[int, str]:
    """Who last gave each record a label."""
    f = t.feedback.c
    query = sa.select(f.id_hash, f.author).where(
        f.model == model,
        f.withdrawn.is_(False),
        f.author.is_not(None),
        sa.or_(f.label.is_not(None), f.labels.is_not(None)),
    )
    return {row.id_hash: row.author[:64] for row in connection.execute(query.order_by(f.time_ns, f.uid))}
