"""Cases of the database as items, some hundreds at a time, so that an export holds neither memory nor the database."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from export.contracts.arrays import decode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.errors import InvalidRequest, NotFound
from export.contracts.manifest import Manifest
from export.contracts.signature import InputKind, InputSpec
from export.contracts.task import TaskKind
from monitoring import schema as t
from monitoring.api.fields import from_ns, to_text
from monitoring.catalogue import Catalogue
from monitoring.exchange.contracts import Header, Item, Truth
from monitoring.exchange.fit import answered, named, truth_from
from monitoring.images import is_picture, tensor_png, to_array
from monitoring.store import Store
from monitoring.store_filters import CaseOrder, case_filter, place_of

LIMIT = 50_000
CHUNK = 500
MAX_TEXT = 10_000
_COLUMNS = (
    *("id", "model", "version", "time_ns", "predicted", "predicted_label", "answer", "label", "p_wrong", "comment"),
    *("row", "rows", "input_state"),
)


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is exported: ids in their order, and what holds for all of them."""

    ids: tuple[str, ...]
    model: str
    header: Header


@dataclass(frozen=True, kw_only=True)
class CaseSource:
    """Reads cases for exports.

    Args:
        store: The monitor's database.
        catalogue: For classes, tasks and pictures.
    """

    store: Store
    catalogue: Catalogue
    _manifests: dict[tuple[str, str], Manifest | None] = field(default_factory=dict, compare=False, repr=False)

    def find(self, *, batch: str | None, tag: str | None, limit: int, **filters: Any) -> list[str]:
        """Ids of cases in the order of the queue, or of a batch; `filters` are those of `case_filter`."""
        c, b, g = t.cases.c, t.batch_cases.c, t.case_tags.c
        where = case_filter(**filters)
        if tag is not None:
            where.append(c.id.in_(sa.select(g.case_id).where(g.tag == tag)))
        asked = sa.select(c.id).where(*where)
        if batch is None:
            asked = asked.order_by(place_of(CaseOrder.QUEUE).desc(), c.id.desc())
        else:
            asked = asked.join(t.batch_cases, b.case_id == c.id).where(b.batch_id == batch).order_by(b.position)
        with self.store.read() as connection:
            return list(connection.scalars(asked.limit(limit)))

    def choose(self, ids: Sequence[str]) -> Export:
        """An export of these cases.

        Raises:
            InvalidRequest: they are of several models, or too many.
            NotFound: there are none.
        """
        if not ids:
            raise NotFound("no case fits: there is nothing to export")
        if len(ids) > LIMIT:
            raise InvalidRequest(f"at most {LIMIT} cases at once; narrow the filter")
        versions = self._versions(ids)
        models = sorted({model for model, _ in versions})
        if len(models) > 1:
            raise InvalidRequest(f"the cases are of several models ({', '.join(models[:5])}): name one")
        kinds = [m.task for v in versions if (m := self.manifest(*v)) is not None]
        names = tuple(dict.fromkeys(name for task in kinds for name in task.class_names))
        task = kinds[-1].kind if kinds else TaskKind.OTHER
        header = Header(task=task, classes=names, title=f"Hardcase: failures of {models[0]}")
        return Export(ids=tuple(ids), model=models[0], header=header)

    def items(self, ids: Sequence[str], *, inputs: bool) -> Iterator[Item]:
        """The cases as items, in the order of their ids; `inputs` adds pictures, text and values."""
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            with self.store.read() as connection:
                c = t.cases.c
                query = sa.select(*(c[name] for name in _COLUMNS)).where(c.id.in_(chunk))
                rows = {row["id"]: row for row in connection.execute(query).mappings()}
                tags = _tags(connection, chunk)
                shapes, tensors = _tensors(connection, chunk, with_data=inputs)
            for identity in chunk:
                if identity in rows:
                    yield self._item(rows[identity], tags.get(identity, ()), shapes, tensors, inputs)

    def manifest(self, model: str, version: str) -> Manifest | None:
        """The manifest of a version; None when the registry does not know it."""
        if (model, version) not in self._manifests:
            self._manifests[model, version] = self.catalogue.manifest(model, version)
        return self._manifests[model, version]

    def facts(self, ids: Iterable[str]) -> dict[str, tuple[str, str, tuple[int, int]]]:
        """Model, version and size of the picture of those cases that there are."""
        found: dict[str, tuple[str, str, tuple[int, int]]] = {}
        wanted = list(ids)
        c = t.cases.c
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            with self.store.read() as connection:
                rows = connection.execute(sa.select(c.id, c.model, c.version).where(c.id.in_(chunk))).all()
                shapes, _ = _tensors(connection, chunk, with_data=False)
            for identity, model, version in rows:
                found[identity] = (model, version, _size(self.manifest(model, version), shapes, identity))
        return found

    def _versions(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        c = t.cases.c
        found: set[tuple[str, str]] = set()
        with self.store.read() as connection:
            for start in range(0, len(ids), CHUNK):
                query = sa.select(c.model, c.version).distinct().where(c.id.in_(ids[start : start + CHUNK]))
                found.update((model, version) for model, version in connection.execute(query))
        return sorted(found)

    def _item(self, row: Any, tags: tuple[str, ...], shapes: Any, tensors: Any, inputs: bool) -> Item:
        manifest = self.manifest(row["model"], row["version"])
        task = TaskKind.OTHER if manifest is None else manifest.task.kind
        size = _size(manifest, shapes, row["id"])
        rules = None if manifest is None else manifest.task.boxes
        label = None if row["label"] is None else json.loads(row["label"])
        truth = None if label is None else truth_from(label, task, rules, size, row["row"])
        classes = () if manifest is None or task is TaskKind.REGRESSION else manifest.task.class_names
        shown = _input(manifest, row, tensors) if inputs else {}
        return Item(
            case=row["id"],
            model=row["model"],
            version=row["version"],
            time=to_text(from_ns(row["time_ns"])),
            predicted=_predicted(row, task, manifest, size),
            truth=named(truth, classes),
            p_wrong=row["p_wrong"],
            comment=row["comment"] or "",
            tags=tags,
            width=size[0],
            height=size[1],
            **shown,
        )


def _predicted(row: Any, task: TaskKind, manifest: Manifest | None, size: tuple[int, int]) -> Truth | None:
    answer, names = row["answer"], () if manifest is None else manifest.task.class_names
    if task is TaskKind.DETECTION:
        boxes = answered(answer, names, size, None if manifest is None else manifest.task.boxes)
        return None if answer is None else Truth(boxes=boxes)
    if task is TaskKind.MULTI_LABEL:
        given = answer if isinstance(answer, list) else []
        shown = tuple(names[i] if isinstance(i, int) and i < len(names) else str(i) for i in given)
        return None if answer is None else Truth(labels=shown)
    if task is TaskKind.REGRESSION:
        value = answer.get("value") if isinstance(answer, dict) else answer
        return truth_from(value, task, None, size)
    said = row["predicted_label"] if row["predicted_label"] is not None else row["predicted"]
    return None if said is None else Truth(label=said)


def _tags(connection: sa.Connection, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    c = t.case_tags.c
    found: dict[str, tuple[str, ...]] = {}
    for case, tag in connection.execute(sa.select(c.case_id, c.tag).where(c.case_id.in_(ids)).order_by(c.tag)):
        found[case] = (*found.get(case, ()), tag)
    return found


def _tensors(connection: sa.Connection, ids: Sequence[str], *, with_data: bool) -> tuple[Any, Any]:
    """Shapes of inputs by case and name, and their rows where the data is wanted."""
    c = t.case_tensors.c
    columns = (c.case_id, c.name, c.datatype, c.shape, *((c.data,) if with_data else ()))
    query = sa.select(*columns).where(c.case_id.in_(ids), c.direction == "in")
    rows = connection.execute(query).mappings().all()
    shapes = {(row["case_id"], row["name"]): tuple(row["shape"]) for row in rows}
    return shapes, {(row["case_id"], row["name"]): row for row in rows} if with_data else {}


def _picture(manifest: Manifest | None) -> InputSpec | None:
    inputs = () if manifest is None else manifest.signature.inputs
    return next((spec for spec in inputs if is_picture(spec)), None)


def _size(manifest: Manifest | None, shapes: Any, identity: str) -> tuple[int, int]:
    """Width and height of the picture, by its layout; (0, 0) where it has none, or only its file knows."""
    spec = _picture(manifest)
    shape = () if spec is None else shapes.get((identity, spec.name), ())
    layout = None if spec is None else spec.display.layout
    if spec is None or spec.preprocess is not None or layout is None or len(shape) <= len(layout):
        return (0, 0)
    axes = dict(zip(layout, shape[-len(layout) :], strict=True))
    return int(axes["W"]), int(axes["H"])


def _input(manifest: Manifest | None, row: Any, tensors: Any) -> dict[str, Any]:
    """Picture, text and values of a case's row, as far as they are kept."""
    if manifest is None or row["input_state"] != "kept":
        return {}
    made: dict[str, Any] = {}
    for spec in manifest.signature.inputs:
        tensor = tensors.get((row["id"], spec.name))
        if tensor is None or not tensor["data"]:
            continue
        shape = tuple(tensor["shape"])
        place = row["row"] if shape and shape[0] > 1 else 0
        datatype = Datatype(tensor["datatype"])
        try:
            if is_picture(spec):
                made.setdefault("picture", tensor_png(tensor["data"], datatype, shape, place, spec, 1))
            elif datatype is Datatype.BYTES:
                words = decode_bytes(tensor["data"], shape)[place].reshape(-1)
                text = " ".join(bytes(x).decode("utf-8", "backslashreplace") for x in words)
                made.setdefault("text", text.replace("\0", "\\x00")[:MAX_TEXT])
            elif spec.display.kind is InputKind.TABULAR and spec.display.feature_names:
                numbers = to_array(tensor["data"], datatype, shape)[place].reshape(-1).tolist()
                names = spec.display.feature_names
                made.setdefault(
                    "values", {n: float(x) for n, x in zip(names, numbers, strict=False) if math.isfinite(x)}
                )
        except (ValueError, IndexError, KeyError):
            continue  # what does not fit its signature cannot be shown; its label can still be given
    return made
