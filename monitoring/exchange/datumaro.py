"""Datumaro's own JSON (`annotations/default.json`, `images/default/`): labels and boxes by class index.

References:
    https://open-edge-platform.github.io/datumaro: formats, "Datumaro"
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from export.contracts.task import TaskKind
from monitoring.exchange.coco import one_or_many
from monitoring.exchange.contracts import (
    Box,
    ExchangeError,
    Header,
    Item,
    Labelled,
    Problem,
    Progress,
    Read,
    Truth,
    make_box,
)
from monitoring.exchange.shared import EVERY, as_list, case_in, compact, load_json, new_text, one_file, write_picture


class Datumaro:
    """See the module's text."""

    name = "datumaro"
    title = "Datumaro"
    tasks = frozenset({TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL, TaskKind.DETECTION})

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """Classes stand before the items, and labels that no class has are known after them: items wait aside."""
        images = folder / "images" / "default"
        images.mkdir(parents=True, exist_ok=True)
        ids = {name: i for i, name in enumerate(header.classes)}
        count = 0
        aside = folder / "items.part"
        with new_text(aside) as file:
            for count, item in enumerate(items, 1):
                write_picture(item, images)
                file.write((",\n" if count > 1 else "") + compact(_item(header, item, ids)))
                if count % EVERY == 0:
                    progress(EVERY)
        kinds = [{"name": name, "parent": "", "attributes": []} for name in ids]
        categories = {"label": {"labels": kinds, "label_groups": [], "attributes": []}}
        head = {"dm_format_version": "1.0", "media_type": 2, "infos": {}, "categories": categories}
        with (
            new_text(folder / "annotations" / "default.json") as file,
            aside.open(encoding="utf-8", newline="") as waiting,
        ):
            file.write(compact(head)[:-1] + ',"items":[\n')
            shutil.copyfileobj(waiting, file)
            file.write("\n]}\n")
        aside.unlink()
        progress(count % EVERY)
        return count

    def read(self, path: Path) -> Iterator[Read]:
        """Every annotation of an item must be a label or a box."""
        file = one_file(path, "annotations/*.json", "*.json")
        document = load_json(file)
        entries = as_list(document, "items", file.name)
        kinds = document.get("categories", {})
        known = kinds.get("label", {}) if isinstance(kinds, dict) else {}
        names = [str(k.get("name")) for k in as_list(known, "labels", f"{file.name}: categories.label")]
        for i, entry in enumerate(entries):
            where = f"{file.name}: items[{i}]"
            try:
                found = _read_item(entry, names, where)
            except ExchangeError as error:
                yield Problem(where=where, text=str(error))
                continue
            if found is not None:
                yield found


def _item(header: Header, item: Item, ids: dict[str, int]) -> dict[str, Any]:
    truth = item.truth
    kind = "boxes" if header.task is TaskKind.DETECTION else "classes"
    marks: list[dict[str, Any]] = []
    if truth is not None:
        for name in truth.names:
            ids.setdefault(name, len(ids))
        if truth.boxes is not None:
            marks = [_bbox(i, box, ids) for i, box in enumerate(truth.boxes)]
        else:
            marks = [_mark(i, "label", ids[name]) for i, name in enumerate(truth.names)]
    attributes = {"case": item.case} | ({"hardcase_labelled": kind} if truth is not None else {})
    size = {"size": [item.height, item.width]} if item.height else {}
    return {"id": item.case, "annotations": marks, "attr": attributes, "image": {"path": item.file, **size}}


def _mark(number: int, kind: str, label: int) -> dict[str, Any]:
    return {"id": number, "type": kind, "attributes": {}, "group": 0, "label_id": label}


def _bbox(number: int, box: Box, ids: dict[str, int]) -> dict[str, Any]:
    width, height = box.size
    return _mark(number, "bbox", ids[box.label]) | {"z_order": 0, "bbox": [box.x0, box.y0, width, height]}


def _read_item(entry: Any, names: list[str], where: str) -> Labelled | None:
    if not isinstance(entry, dict):
        raise ExchangeError("not an object")
    attributes = entry.get("attr")
    attributes = attributes if isinstance(attributes, dict) else {}
    case = case_in(attributes.get("case"), entry.get("id"))
    if case is None:
        raise ExchangeError(f"'{str(entry.get('id'))[:100]}' names no case")
    boxes: list[Box] = []
    classes: list[str] = []
    for mark in entry.get("annotations") or ():
        kind = mark.get("type") if isinstance(mark, dict) else None
        if kind not in ("label", "bbox"):
            raise ExchangeError(f"case {case}: an annotation is a '{str(kind)[:20]}': only label and bbox are read")
        label = mark.get("label_id")
        if not isinstance(label, int) or not 0 <= label < len(names):
            raise ExchangeError(f"case {case}: there is no class {str(label)[:20]}")
        if kind == "label":
            classes.append(names[label])
            continue
        try:
            x, y, width, height = (float(n) for n in mark["bbox"])
        except (KeyError, TypeError, ValueError):
            raise ExchangeError(f"case {case}: 'bbox' must be [x, y, width, height]") from None
        boxes.append(make_box((x, y, x + width, y + height), names[label]))
    if boxes and classes:
        raise ExchangeError(f"case {case} has both boxes and classes of the whole picture")
    if boxes:
        return Labelled(case=case, truth=Truth(boxes=tuple(boxes)), where=where)
    if classes:
        return Labelled(case=case, truth=one_or_many(classes), where=where)
    kind = attributes.get("hardcase_labelled")
    nothing = {"boxes": Truth(boxes=()), "classes": Truth(labels=())}.get(str(kind))
    return None if nothing is None else Labelled(case=case, truth=nothing, where=where)
