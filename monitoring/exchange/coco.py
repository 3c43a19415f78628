"""COCO (`annotations/instances_default.json`, `images/default/`): boxes; classes as categories of whole pictures.

A classification's label is an annotation of its category with a box of the whole picture: that is how tools which know
only COCO carry it. Predictions go into a file of their own in COCO's results format: nobody shall take them for truth.

References:
    https://cocodataset.org/#format-data, https://cocodataset.org/#format-results
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from export.contracts.task import TaskKind
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

WHOLE = "hardcase_whole_picture"  # supercategory of classes of whole pictures


class Coco:
    """See the module's text."""

    name = "coco"
    title = "COCO"
    tasks = frozenset({TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL, TaskKind.DETECTION})

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """Images as they come; annotations and predictions at the end, because JSON wants them in one piece."""
        images = folder / "images" / "default"
        images.mkdir(parents=True, exist_ok=True)
        ids = {name: i for i, name in enumerate(header.classes, 1)}
        annotations: list[str] = []
        results: list[str] = []
        count = 0
        with new_text(folder / "annotations" / "instances_default.json") as file:
            file.write(
                f'{{"info":{compact({"description": header.title, "version": "1.0"})},"licenses":[],"images":[\n'
            )
            for count, item in enumerate(items, 1):
                write_picture(item, images)
                file.write((",\n" if count > 1 else "") + compact(_image(count, item)))
                for box in _boxes(item.truth, item):
                    annotations.append(compact(_annotation(len(annotations) + 1, count, box, ids)))
                for box in _boxes(item.predicted, item):
                    score = 1.0 if box.score is None else box.score
                    results.append(compact(_result(count, box, ids) | {"score": score}))
                if count % EVERY == 0:
                    progress(EVERY)
            file.write('\n],"annotations":[\n' + ",\n".join(annotations) + '\n],"categories":')
            whole = header.task is not TaskKind.DETECTION
            kinds = [{"id": i, "name": n, "supercategory": WHOLE if whole else "object"} for n, i in ids.items()]
            file.write(compact(kinds) + "}\n")
        with new_text(folder / "predictions.json") as file:
            file.write("[\n" + ",\n".join(results) + "\n]\n")
        progress(count % EVERY)
        return count

    def read(self, path: Path) -> Iterator[Read]:
        """A picture without annotations is one without a label, unless its `hardcase_labelled` says otherwise."""
        file = one_file(path, "annotations/*.json", "instances*.json", "*.json")
        document = load_json(file)
        kinds = {c.get("id"): c for c in as_list(document, "categories", file.name) if isinstance(c, dict)}
        found: dict[Any, list[tuple[str, Mapping[str, Any]]]] = {}
        for i, one in enumerate(as_list(document, "annotations", file.name)):
            where = f"{file.name}: annotations[{i}]"
            if isinstance(one, dict) and isinstance(one.get("image_id"), int | str):
                found.setdefault(one["image_id"], []).append((where, one))
            else:
                yield Problem(where=where, text="'image_id' is missing")
        for i, image in enumerate(as_list(document, "images", file.name)):
            yield from _read_image(f"{file.name}: images[{i}]", image, found, kinds)
        for rest in found.values():
            yield from (Problem(where=where, text="there is no picture with this image_id") for where, _ in rest)


def _image(number: int, item: Item) -> dict[str, Any]:
    made = {"id": number, "file_name": item.file, "width": item.width, "height": item.height}
    return made | {"hardcase_case": item.case, "hardcase_labelled": item.truth is not None}


def _boxes(truth: Truth | None, item: Item) -> list[Box]:
    if truth is None:
        return []
    if truth.boxes is not None:
        return list(truth.boxes)
    whole = {"x0": 0.0, "y0": 0.0, "x1": float(item.width), "y1": float(item.height)}
    return [Box(**whole, label=name) for name in truth.names]


def _result(image: int, box: Box, ids: dict[str, int]) -> dict[str, Any]:
    width, height = box.size
    category = ids.setdefault(box.label, len(ids) + 1)
    return {"image_id": image, "category_id": category, "bbox": [box.x0, box.y0, width, height]}


def _annotation(number: int, image: int, box: Box, ids: dict[str, int]) -> dict[str, Any]:
    width, height = box.size
    whole = {"id": number, "area": round(width * height, 4), "iscrowd": 0, "segmentation": []}
    return _result(image, box, ids) | whole


def _read_image(
    where: str, image: Any, found: dict[Any, list[tuple[str, Mapping[str, Any]]]], kinds: Any
) -> Iterator[Read]:
    if not isinstance(image, dict):
        yield Problem(where=where, text="not an object")
        return
    mine = found.pop(image.get("id"), [])
    case = case_in(image.get("hardcase_case"), image.get("file_name"))
    if case is None:
        yield Problem(where=where, text=f"'{str(image.get('file_name'))[:100]}' names no case")
        return
    boxes: list[Box] = []
    classes: list[str] = []
    for place, one in mine:
        kind = kinds.get(one.get("category_id"))
        try:
            if kind is None or not isinstance(kind.get("name"), str):
                raise ExchangeError(f"there is no category {one.get('category_id')!r}")
            if kind.get("supercategory") == WHOLE or "bbox" not in one:
                classes.append(kind["name"])
            else:
                boxes.append(_box(one["bbox"], kind["name"]))
        except ExchangeError as error:
            yield Problem(where=place, text=f"case {case}: {error}")
            return
    if classes and boxes:
        yield Problem(where=where, text=f"case {case} has both boxes and classes of the whole picture")
    elif classes:
        yield Labelled(case=case, truth=one_or_many(classes), where=where)
    elif boxes:
        yield Labelled(case=case, truth=Truth(boxes=tuple(boxes)), where=where)
    elif image.get("hardcase_labelled") is True:
        whole = any(isinstance(k, dict) and k.get("supercategory") == WHOLE for k in kinds.values())
        yield Labelled(case=case, truth=Truth(labels=()) if whole else Truth(boxes=()), where=where)


def _box(value: Any, label: str) -> Box:
    numbers = isinstance(value, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
    if not numbers or len(value) != 4:  # x, y, width, height
        raise ExchangeError("'bbox' must be [x, y, width, height]")
    x, y, width, height = (float(n) for n in value)
    return make_box((x, y, x + width, y + height), label)


def one_or_many(classes: Iterable[str]) -> Truth:
    """One class is a label; several are labels, each once. The task decides what either means."""
    names = tuple(dict.fromkeys(classes))
    return Truth(label=names[0]) if len(names) == 1 else Truth(labels=names)
