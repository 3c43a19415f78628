"""Exports and imports of review through a running monitor: its JSON Lines to and from the files of labelling tools."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.errors import CommandError, Refused
from deploy.monitor_client import MonitorClient
from export.contracts.task import TaskKind
from monitoring.exchange.contracts import ExchangeError, Header, Item, Labelled, Problem, plain_truth
from monitoring.exchange.formats import format_named
from monitoring.exchange.jsonl import from_plain
from monitoring.exchange.shared import compact, without_repetitions

SENT_AT_ONCE = 24 << 20  # bytes; the monitor takes a little more


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote."""

    format: str
    folder: str
    cases: int
    model: str


def export_cases(
    client: MonitorClient,
    format_name: str,
    folder: Path,
    *,
    on_start: Callable[[int], None] = lambda n: None,
    on_items: Callable[[int], None] = lambda n: None,
    **query: object,
) -> Exported:
    """Write the cases that fit into a new or empty folder.

    Raises:
        Refused: the folder holds something, or the format cannot carry these cases.
    """
    try:
        form = format_named(format_name)
    except ExchangeError as error:
        raise CommandError(str(error)) from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused(f"{folder} is there and not an empty folder", "name a new one")
    with client.lines("/api/review/export", **query) as lines:
        head = json.loads(next(lines))
        header = Header(
            task=TaskKind(head["task"]), classes=tuple(head["classes"]), title=f"Hardcase: failures of {head['model']}"
        )
        if header.task not in form.tasks:
            raise Refused(f"{form.title} has no way to write a {header.task.value}", "jsonl and csv carry every task")
        on_start(head["count"])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            written = form.write(header, _items(lines), folder, on_items)
        except ExchangeError as error:
            raise Refused(str(error), f"what is in {folder} is not whole") from None
    return Exported(format=form.name, folder=str(folder), cases=written, model=head["model"])


def read_labels(format_name: str, path: Path) -> tuple[list[Labelled], list[Problem]]:
    """Labels and problems of files.

    Raises:
        CommandError: they are not in this format at all.
    """
    try:
        return without_repetitions(format_named(format_name).read(path))
    except (ExchangeError, OSError) as error:
        raise CommandError(str(error)) from None


def import_labels(
    client: MonitorClient, labels: list[Labelled], *, source: str, dry_run: bool, key: str | None = None
) -> dict[str, Any]:
    """Send labels to the monitor, all in one; the same labels again change nothing.

    Returns:
        The monitor's answer; `where` in its problems is that of the files.
    """
    body = b"".join(_line(one) for one in labels)
    if len(body) > SENT_AT_ONCE:
        raise Refused(f"the labels make {len(body) >> 20} MiB; at most {SENT_AT_ONCE >> 20} at once", "split the file")
    name = key or uuid.uuid4().hex  # what is the same as before is told by what it says, not by its name
    found: dict[str, Any] = client.post_lines(
        "/api/review/import", body, key=name, source=source[:64], dry_run=str(dry_run).lower()
    )
    for problem in found["problems"]:
        number = problem["where"].rpartition(":")[2]
        if number.isdigit() and 0 < int(number) <= len(labels):
            problem["where"] = labels[int(number) - 1].where
    return found


def _items(lines: Iterator[str]) -> Iterator[Item]:
    for line in lines:
        if line:
            yield from_plain(json.loads(line))


def _line(one: Labelled) -> bytes:
    made = {"case": one.case, **plain_truth(one.truth)} | ({"comment": one.comment} if one.comment else {})
    return compact(made).encode() + b"\n"
