"""JSON Lines: one item a line, with everything. What the API streams is this, too.

    {"case": "00ff…", "model": "digits", "version": "2", "time": "…", "predicted": {"label": "7"}, "label": "1", …}

To import, `case` and one of `label`, `labels`, `boxes` are enough; `comment` is kept.
"""

from __future__ import annotations

import base64
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
    plain_truth,
    truth_of,
)
from monitoring.exchange.shared import CASE, EVERY, compact, new_text, one_file, write_picture

MAX_LINE = 1 << 20
MAX_COMMENT = 4096


class JsonLines:
    """See the module's text."""

    name = "jsonl"
    title = "JSON Lines"
    tasks = frozenset(TaskKind)

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """`cases.jsonl`, and pictures in `images/`."""
        images = folder / "images"
        images.mkdir(parents=True, exist_ok=True)
        count = 0
        with new_text(folder / "cases.jsonl") as file:
            for count, item in enumerate(items, 1):
                line = to_plain(item)
                if item.picture is not None:
                    write_picture(item, images)
                    line["picture"] = f"images/{item.file}"
                file.write(compact(line) + "\n")
                if count % EVERY == 0:
                    progress(EVERY)
        progress(count % EVERY)
        return count

    def read(self, path: Path) -> Iterator[Read]:
        """Lines without a label are passed over."""
        file = one_file(path, "*.jsonl")
        with file.open("rb") as lines:
            yield from read_lines(lines, file.name)


def read_lines(lines: Iterable[bytes], name: str) -> Iterator[Read]:
    """Labels and problems of JSON Lines."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            found = _read_line(line, where)
        except ExchangeError as error:
            yield Problem(where=where, text=str(error))
            continue
        if found is not None:
            yield found


def to_plain(item: Item, *, inline: bool = False) -> dict[str, Any]:
    """An item as JSON; `inline` puts the picture in, as base64."""
    made: dict[str, Any] = {
        "case": item.case,
        "model": item.model,
        "version": item.version,
        "time": item.time,
        "p_wrong": item.p_wrong,
        "predicted": None if item.predicted is None else plain_truth(item.predicted),
    }
    made |= {} if item.truth is None else plain_truth(item.truth)
    made |= {"comment": item.comment} if item.comment else {}
    made |= {"tags": list(item.tags)} if item.tags else {}
    made |= {"width": item.width, "height": item.height} if item.width else {}
    made |= {"text": item.text} if item.text is not None else {}
    made |= {"values": dict(item.values)} if item.values else {}
    if inline and item.picture is not None:
        made["picture_png"] = base64.b64encode(item.picture).decode("ascii")
    return made


def from_plain(line: dict[str, Any]) -> Item:
    """The item of a line that `to_plain` made."""
    predicted = line.get("predicted")
    picture = line.get("picture_png")
    return Item(
        case=line["case"],
        model=line["model"],
        version=line["version"],
        time=line["time"],
        p_wrong=line["p_wrong"],
        predicted=truth_of(predicted) if predicted else None,
        truth=truth_of(line),
        comment=line.get("comment", ""),
        tags=tuple(line.get("tags", ())),
        width=line.get("width", 0),
        height=line.get("height", 0),
        text=line.get("text"),
        values=line.get("values", {}),
        picture=None if picture is None else base64.b64decode(picture),
    )


def _read_line(line: bytes, where: str) -> Labelled | None:
    if len(line) > MAX_LINE:
        raise ExchangeError(f"the line is longer than {MAX_LINE} bytes")
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        raise ExchangeError("the line is not JSON") from None
    if not isinstance(plain, dict):
        raise ExchangeError("the line is no object")
    case, comment = plain.get("case"), plain.get("comment") or ""
    if not isinstance(case, str) or not CASE.match(case):
        raise ExchangeError("'case' must be the id of a case: 16 hex digits")
    if not isinstance(comment, str) or len(comment) > MAX_COMMENT:
        raise ExchangeError(f"'comment' must be a text of at most {MAX_COMMENT} characters")
    truth = truth_of(plain)
    return None if truth is None else Labelled(case=case, truth=truth, where=where, comment=comment)
