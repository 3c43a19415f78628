"""Scalabel (BDD100K): frames with labels; boxes as `box2d`, classes of the whole picture as labels without one.

A `box2d` ends at its last pixel, ours after it: x2 and y2 are less by one.

References:
    https://doc.scalabel.ai/format.html; `scalabel.label.transforms.bbox_to_box2d`
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
    tidy,
)
from monitoring.exchange.shared import EVERY, case_in, compact, load_json, new_text, one_file, write_picture

_LABELLED = "hardcase_labelled"


class Scalabel:
    """See the module's text."""

    name = "scalabel"
    title = "Scalabel"
    tasks = frozenset({TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL, TaskKind.DETECTION})

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """`frames.json`, and pictures in `images/`."""
        images = folder / "images"
        images.mkdir(parents=True, exist_ok=True)
        count = 0
        with new_text(folder / "frames.json") as file:
            file.write('{"frames":[\n')
            for count, item in enumerate(items, 1):
                write_picture(item, images)
                file.write((",\n" if count > 1 else "") + compact(_frame(header, item)))
                if count % EVERY == 0:
                    progress(EVERY)
            kinds = {"categories": [{"name": name} for name in header.classes]}
            file.write(f'\n],"groups":[],"config":{compact(kinds)}}}\n')
        progress(count % EVERY)
        return count

    def read(self, path: Path) -> Iterator[Read]:
        """A data set with `frames`, or a list of frames."""
        file = one_file(path, "frames.json", "*.json")
        document = load_json(file)
        frames = document.get("frames") if isinstance(document, dict) else document
        if not isinstance(frames, list):
            raise ExchangeError(f"{file.name} has no list 'frames': it is another format")
        for i, frame in enumerate(frames):
            where = f"{file.name}: frames[{i}]"
            try:
                found = _read_frame(frame, where)
            except ExchangeError as error:
                yield Problem(where=where, text=str(error))
                continue
            if found is not None:
                yield found


def _frame(header: Header, item: Item) -> dict[str, Any]:
    truth, kind = item.truth, "boxes" if header.task is TaskKind.DETECTION else "classes"
    labels: list[dict[str, Any]] = []
    if truth is not None and truth.boxes is not None:
        labels = [{"id": str(i), "category": box.label, "box2d": _box2d(box)} for i, box in enumerate(truth.boxes)]
    elif truth is not None:
        labels = [{"id": str(i), "category": name} for i, name in enumerate(truth.names)]
    return {
        "name": item.file,
        "attributes": {"case": item.case, **({_LABELLED: kind} if truth is not None else {})},
        "size": {"width": item.width, "height": item.height},
        "labels": labels,
    }


def _box2d(box: Box) -> dict[str, float]:
    return {"x1": box.x0, "y1": box.y0, "x2": tidy(box.x1 - 1), "y2": tidy(box.y1 - 1)}


def _read_frame(frame: Any, where: str) -> Labelled | None:
    if not isinstance(frame, dict):
        raise ExchangeError("not an object")
    attributes = frame.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    case = case_in(attributes.get("case"), frame.get("name"))
    if case is None:
        raise ExchangeError(f"'{str(frame.get('name'))[:100]}' names no case")
    boxes: list[Box] = []
    classes: list[str] = []
    for label in frame.get("labels") or ():
        category = label.get("category") if isinstance(label, dict) else None
        if not isinstance(category, str):
            raise ExchangeError(f"case {case}: a label has no category")
        other = [name for name in ("poly2d", "rle", "box3d", "graph") if label.get(name)]
        if other:
            raise ExchangeError(f"case {case}: a label is a {other[0]}: only box2d is a box")
        if label.get("box2d"):
            boxes.append(_read_box2d(label["box2d"], category))
        else:
            classes.append(category)
    if boxes and classes:
        raise ExchangeError(f"case {case} has both boxes and classes of the whole picture")
    if boxes:
        return Labelled(case=case, truth=Truth(boxes=tuple(boxes)), where=where)
    if classes:
        return Labelled(case=case, truth=one_or_many(classes), where=where)
    if _LABELLED in attributes:
        nothing = Truth(boxes=()) if attributes[_LABELLED] == "boxes" else Truth(labels=())
        return Labelled(case=case, truth=nothing, where=where)
    return None


def _read_box2d(value: Any, label: str) -> Box:
    try:
        return make_box((value["x1"], value["y1"], tidy(value["x2"] + 1), tidy(value["y2"] + 1)), label)
    except (KeyError, TypeError):
        raise ExchangeError("'box2d' must have the numbers x1, y1, x2, y2") from None
