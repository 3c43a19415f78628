"""Task tables of crowd platforms: Toloka (TSV) and Mechanical Turk (CSV). Tasks out, results in.

Neither shows the prediction to workers: they would agree with it. What is known becomes a control task in Toloka
(`GOLDEN:`); Mechanical Turk has none, so there only unlabelled cases are worth sending.

Results hold a row for each worker. Workers who agree make one label; where they do not, the case is a problem that
names the answers, so that nobody's answer wins by its place in the file.

References:
    Toloka: "TSV file with tasks", INPUT:, OUTPUT:, GOLDEN:, ASSIGNMENT: columns.
    Mechanical Turk: batch results, Input., Answer., AssignmentStatus columns; crowd-image-classifier and
    crowd-bounding-box answers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
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
    plain_truth,
    truth_of,
)
from monitoring.exchange.shared import CASE, EVERY, compact, new_text, one_file, write_picture
from monitoring.exchange.tables import TableWriter, read_table

_TASKS = frozenset({TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL, TaskKind.DETECTION, TaskKind.REGRESSION})


class Toloka:
    """`tasks.tsv` with `INPUT:` columns; results with `OUTPUT:label`, `OUTPUT:labels` or `OUTPUT:boxes` (JSON)."""

    name = "toloka"
    title = "Toloka"
    tasks = _TASKS

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """Tasks, and pictures in `images/` for the storage that the platform reads."""
        kind = "boxes" if header.task is TaskKind.DETECTION else "label"
        kind = "labels" if header.task is TaskKind.MULTI_LABEL else kind
        columns = ("INPUT:case", "INPUT:image", "INPUT:text", "INPUT:classes", f"GOLDEN:{kind}", "HINT:text")
        classes = compact(list(header.classes))

        def row(item: Item) -> dict[str, Any]:
            golden = None
            if item.truth is not None:
                plain = plain_truth(item.truth)
                golden = plain["label"] if "label" in plain else compact(next(iter(plain.values())))
            image = None if item.picture is None else f"images/{item.file}"
            made = {"INPUT:case": item.case, "INPUT:image": image, "INPUT:text": _text(item), "INPUT:classes": classes}
            return made | {f"GOLDEN:{kind}": golden, "HINT:text": item.comment or None}

        return _write(folder, "tasks.tsv", "\t", columns, row, items, progress)

    def read(self, path: Path) -> Iterator[Read]:
        """Rejected assignments do not count."""
        file = one_file(path, "*.tsv")
        rows = read_table(file, ("INPUT:case",), "\t")
        answers = _gather(rows, "INPUT:case", "ASSIGNMENT:status", "REJECTED", _toloka_answer)
        yield from answers


class MechanicalTurk:
    """`tasks.csv` with a column for each variable of the template; results with `Input.` and `Answer.` columns."""

    name = "mturk"
    title = "Mechanical Turk"
    tasks = _TASKS

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """Tasks, and pictures in `images/` for the address that the template puts before `image`."""
        classes = compact(list(header.classes))

        def row(item: Item) -> dict[str, Any]:
            image = None if item.picture is None else f"images/{item.file}"
            return {"case": item.case, "image": image, "text": _text(item), "classes": classes}

        return _write(folder, "tasks.csv", ",", ("case", "image", "text", "classes"), row, items, progress)

    def read(self, path: Path) -> Iterator[Read]:
        """Rejected assignments do not count."""
        file = one_file(path, "*results*.csv", "*.csv")
        rows = read_table(file, ("Input.case",))
        yield from _gather(rows, "Input.case", "AssignmentStatus", "Rejected", _turk_answer)


def _write(
    folder: Path, name: str, delimiter: str, columns: Any, row: Any, items: Iterable[Item], progress: Progress
) -> int:
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    count = 0
    with new_text(folder / name) as file:
        table = TableWriter(file, columns, delimiter)
        for count, item in enumerate(items, 1):
            write_picture(item, images)
            table.row(row(item))
            if count % EVERY == 0:
                progress(EVERY)
    progress(count % EVERY)
    return count


def _text(item: Item) -> str | None:
    return item.text if item.text is not None else compact(dict(item.values)) if item.values else None


def _gather(rows: Any, case: str, status: str, rejected: str, answer: Any) -> Iterator[Read]:
    """One label for each case on which all its workers agree."""
    said: dict[str, list[tuple[str, Truth]]] = {}
    for found in rows:
        if isinstance(found, Problem):
            yield found
            continue
        where, row = found
        if row.get(status, "").upper() == rejected.upper():
            continue
        try:
            if not CASE.match(row[case]):
                raise ExchangeError(f"'{case}' must be the id of a case: 16 hex digits")
            truth = answer(row)
        except ExchangeError as error:
            yield Problem(where=where, text=str(error))
            continue
        if truth is not None:
            said.setdefault(row[case], []).append((where, truth))
    for identity, answers in said.items():
        votes = Counter(compact(plain_truth(truth)) for _, truth in answers)
        if len(votes) == 1:
            yield Labelled(case=identity, truth=answers[0][1], where=answers[0][0])
        else:
            words = ", ".join(f"{text[:60]} ({n})" for text, n in votes.most_common(5))
            yield Problem(where=answers[0][0], text=f"workers disagree about case {identity}: {words}")


def _toloka_answer(row: dict[str, str]) -> Truth | None:
    plain: dict[str, Any] = {"label": row.get("OUTPUT:label") or None}
    for name in ("labels", "boxes"):
        if row.get(f"OUTPUT:{name}"):
            plain[name] = _json(row[f"OUTPUT:{name}"], f"OUTPUT:{name}")
    return truth_of(plain)


def _turk_answer(row: dict[str, str]) -> Truth | None:
    boxes = row.get("Answer.annotatedResult.boundingBoxes") or row.get("Answer.boxes.boundingBoxes")
    if boxes:
        found = _json(boxes, "boundingBoxes")
        if not isinstance(found, list):
            raise ExchangeError("'boundingBoxes' must be a JSON list")
        return Truth(boxes=tuple(_turk_box(x) for x in found))
    for name in ("Answer.label", "Answer.category.label"):
        if row.get(name):
            return Truth(label=row[name])
    for name in ("Answer.labels", "Answer.category.labels"):
        if row.get(name):
            return truth_of({"labels": _json(row[name], name)})
    return None


def _turk_box(value: Any) -> Box:
    try:
        left, top = float(value["left"]), float(value["top"])
        corners = (left, top, left + float(value["width"]), top + float(value["height"]))
        return make_box(corners, str(value["label"]))
    except (KeyError, TypeError, ValueError):
        raise ExchangeError("a bounding box has left, top, width, height and label") from None


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ExchangeError(f"'{name}' must be JSON") from None
