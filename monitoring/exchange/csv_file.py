"""CSV for spreadsheets: one case a row; fill in `label` (or `labels`, `boxes` as JSON) and import it again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from export.contracts.task import TaskKind
from monitoring.exchange.contracts import (
    ExchangeError,
    Header,
    Item,
    Labelled,
    Problem,
    Progress,
    Read,
    Truth,
    plain_truth,
    truth_of,
)
from monitoring.exchange.jsonl import MAX_COMMENT
from monitoring.exchange.shared import CASE, EVERY, compact, new_text, one_file, write_picture
from monitoring.exchange.tables import TableWriter, read_rows, read_table

_FACTS = ("case", "model", "version", "time", "picture", "text", "predicted", "p_wrong", "tags")
_TRUTH = ("label", "labels", "boxes", "comment")


class Csv:
    """See the module's text."""

    name = "csv"
    title = "CSV"
    tasks = frozenset(TaskKind)

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """`cases.csv`, and pictures in `images/`."""
        images = folder / "images"
        images.mkdir(parents=True, exist_ok=True)
        count = 0
        with new_text(folder / "cases.csv") as file:
            table = TableWriter(file, _FACTS + _TRUTH)
            for count, item in enumerate(items, 1):
                if item.picture is not None:
                    write_picture(item, images)
                table.row(_row(item))
                if count % EVERY == 0:
                    progress(EVERY)
        progress(count % EVERY)
        return count

    def read(self, path: Path) -> Iterator[Read]:
        """Rows without a label are passed over."""
        yield from _labels(read_table(one_file(path, "*.csv"), ("case",)))


def read_csv_lines(lines: Iterable[str], name: str) -> Iterator[Read]:
    """Labels and problems of CSV that is at hand."""
    yield from _labels(read_rows(lines, name, ("case",)))


def words(truth: Truth | None) -> str | int | float | None:
    """A label or prediction for people, in a cell."""
    if truth is None:
        return None
    if truth.label is not None:
        return truth.label
    if truth.boxes is not None:
        return compact(plain_truth(truth)["boxes"])
    return compact(list(truth.labels or ()))


def _row(item: Item) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case": item.case,
        "model": item.model,
        "version": item.version,
        "time": item.time,
        "picture": None if item.picture is None else f"images/{item.file}",
        "text": item.text if item.text is not None else compact(dict(item.values)) if item.values else None,
        "predicted": words(item.predicted),
        "p_wrong": item.p_wrong,
        "tags": " ".join(item.tags),
        "comment": item.comment,
    }
    truth = {} if item.truth is None else plain_truth(item.truth)
    return row | {name: value if name == "label" else compact(value) for name, value in truth.items()}


def _labels(rows: Iterable[tuple[str, dict[str, str]] | Problem]) -> Iterator[Read]:
    for found in rows:
        if isinstance(found, Problem):
            yield found
            continue
        where, row = found
        try:
            truth = _truth(row)
            if not CASE.match(row["case"]):
                raise ExchangeError("'case' must be the id of a case: 16 hex digits")
            if len(row.get("comment", "")) > MAX_COMMENT:
                raise ExchangeError(f"'comment' is longer than {MAX_COMMENT} characters")
        except ExchangeError as error:
            yield Problem(where=where, text=str(error))
            continue
        if truth is not None:
            yield Labelled(case=row["case"], truth=truth, where=where, comment=row.get("comment", ""))


def _truth(row: dict[str, str]) -> Truth | None:
    plain: dict[str, Any] = {"label": row.get("label") or None}
    for name in ("labels", "boxes"):
        if row.get(name):
            try:
                plain[name] = json.loads(row[name])
            except (ValueError, RecursionError):
                raise ExchangeError(f"'{name}' must be a JSON list") from None
    return truth_of(plain)
