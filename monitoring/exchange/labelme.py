"""LabelMe: a JSON file beside each picture; boxes as rectangles, classes of the whole picture as flags.

References:
    https://github.com/wkentaro/labelme: `labelme/label_file.py`
"""

from __future__ import annotations

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
from monitoring.exchange.shared import EVERY, case_in, compact, load_json, new_text, write_picture

VERSION = "5.5.0"  # of the files: the fields are the same since 5.0


class LabelMe:
    """See the module's text."""

    name = "labelme"
    title = "LabelMe"
    tasks = frozenset({TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL, TaskKind.DETECTION})

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """`CASE.png` and `CASE.json` for each case; a case that nobody has labelled has no shapes and no flag set."""
        folder.mkdir(parents=True, exist_ok=True)
        count = 0
        for count, item in enumerate(items, 1):
            write_picture(item, folder)
            with new_text(folder / f"{item.case}.json") as file:
                file.write(compact(_document(header, item)) + "\n")
            if count % EVERY == 0:
                progress(EVERY)
        progress(count % EVERY)
        return count

    def read(self, path: Path) -> Iterator[Read]:
        """Every JSON file of the folder."""
        files = [path] if path.is_file() else sorted(path.glob("*.json"))
        if not files:
            raise ExchangeError(f"{path.name} holds no *.json")
        for file in files:
            try:
                found = _read_document(file, load_json(file))
            except ExchangeError as error:
                found = Problem(where=file.name, text=str(error))
            if found is not None:
                yield found


def _document(header: Header, item: Item) -> dict[str, Any]:
    whole = header.task is not TaskKind.DETECTION
    said = set(item.truth.names) if whole and item.truth is not None else set()
    flags = {name: name in said for name in dict.fromkeys([*header.classes, *sorted(said)])} if whole else {}
    boxes = item.truth.boxes or () if item.truth is not None else ()
    return {
        "version": VERSION,
        "flags": flags,
        "shapes": [_shape(box) for box in boxes],
        "imagePath": item.file,
        "imageData": None,
        "imageHeight": item.height,
        "imageWidth": item.width,
        "hardcase": {"case": item.case, "labelled": item.truth is not None, "whole": whole},
    }


def _shape(box: Box) -> dict[str, Any]:
    corners = [[box.x0, box.y0], [box.x1, box.y1]]
    rest: dict[str, Any] = {"group_id": None, "description": "", "shape_type": "rectangle", "flags": {}, "mask": None}
    return {"label": box.label, "points": corners, **rest}


def _read_document(file: Path, document: Any) -> Read | None:
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise ExchangeError("no list 'shapes': it is another format")
    ours = document.get("hardcase")
    ours = ours if isinstance(ours, dict) else {}
    case = case_in(ours.get("case"), file.stem, document.get("imagePath"))
    if case is None:
        raise ExchangeError("neither the file nor its picture names a case")
    flags = document.get("flags") or {}
    classes = [str(name) for name, on in flags.items() if on is True] if isinstance(flags, dict) else []
    boxes = tuple(_rectangle(shape) for shape in document["shapes"])
    if boxes and classes:
        raise ExchangeError("both rectangles and flags are set")
    if boxes:
        truth = Truth(boxes=boxes)
    elif classes:
        truth = one_or_many(classes)
    elif ours.get("labelled") is True:
        truth = Truth(labels=()) if ours.get("whole") else Truth(boxes=())
    else:
        return None
    return Labelled(case=case, truth=truth, where=file.name)


def _rectangle(shape: Any) -> Box:
    if not isinstance(shape, dict) or shape.get("shape_type", "polygon") != "rectangle":
        kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else "nothing"
        raise ExchangeError(f"a shape is a {str(kind)[:20]}: only rectangles are boxes")
    points: Any = shape.get("points")
    label = shape.get("label")
    try:
        (xa, ya), (xb, yb) = points  # any two opposite corners, as they were drawn
        corners = (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))
    except (TypeError, ValueError):
        raise ExchangeError("a rectangle has two points") from None
    if not isinstance(label, str):
        raise ExchangeError("a rectangle has no label")
    return make_box(corners, label)
