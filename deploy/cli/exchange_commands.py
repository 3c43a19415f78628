"""Commands of review that move files: export cases to the formats of labelling tools, import labels from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json
from deploy.errors import Refused
from export.contracts.cases import CaseState, FlagReason

FORMATS = "coco, csv, cvat, datumaro, folders, jsonl, labelme, mturk, scalabel or toloka"
SHOWN = 50  # problems, to people


def add_to(review_app: typer.Typer) -> None:
    """Add the commands to `hardcase review`."""
    review_app.command("export")(review_export)
    review_app.command("import")(review_import)


def review_export(
    ctx: typer.Context,
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help=f"One of {FORMATS}.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A folder that is new or empty.")],
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    version: Annotated[str | None, typer.Option("--version", help="Only of this version.")] = None,
    reason: Annotated[FlagReason | None, typer.Option("--reason", help="Only flagged for this reason.")] = None,
    state: Annotated[CaseState | None, typer.Option("--state", help="Only in this state.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only with this tag.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="The cases of a labelling batch.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=50_000, help="At most so many.")] = 50_000,
    inputs: Annotated[bool, typer.Option("--inputs/--no-inputs", help="With pictures, texts and values.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Write cases into files that labelling tools read; what is labelled already keeps its label.

    Predictions are never written as labels: annotators would agree with them.

    Example: hardcase review export coco --model digits --state open -o to-label
    """
    from deploy.exchange import export_cases
    from deploy.monitor_client import MonitorClient

    client = MonitorClient.of(invocation_of(ctx).settings)
    query = {"model": model, "version": version, "tag": tag, "batch": batch, "limit": limit}
    flags = {"reason": None if reason is None else reason.value, "state": None if state is None else state.value}
    with progress_bar("exporting") as (start, advance):
        done = export_cases(
            client, format_name, out, on_start=start, on_items=advance, inputs=str(inputs).lower(), **query, **flags
        )
    if as_json:
        print_json(asdict(done))
    else:
        console().print(f"{done.cases} cases of {done.model} in {done.folder}")


def review_import(
    ctx: typer.Context,
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help=f"One of {FORMATS}.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file, or a folder as the export made it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    source: Annotated[str | None, typer.Option("--source", help="Kept in the trail; default: the format.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Take over labels that were given elsewhere. With a single problem nothing is imported; each says where it stands.

    The same labels again change nothing; `hardcase review undo` takes an import back as one.

    Example: hardcase review import coco to-label --dry-run
    """
    from deploy.exchange import import_labels, read_labels
    from deploy.monitor_client import MonitorClient

    labels, problems = read_labels(format_name, path)
    found: dict[str, Any] = {"labels": len(labels), "changed": 0, "skipped": {}, "acts": [], "dry_run": dry_run}
    told = [{"where": p.where, "text": p.text} for p in problems]
    # A file with a problem is still shown to the monitor, so that all its problems are told at once.
    if labels:
        client = MonitorClient.of(invocation_of(ctx).settings)
        answer = import_labels(client, labels, source=source or format_name, dry_run=dry_run or bool(problems))
        found |= {name: answer[name] for name in ("labels", "changed", "skipped", "acts")}
        told += answer["problems"]
    found["problems"] = told
    if as_json:
        print_json(found)
    else:
        for problem in told[:SHOWN]:
            console(stderr=True).print(f"{problem['where']}: {problem['text']}")
        if len(told) > SHOWN:
            console(stderr=True).print(f"... and {len(told) - SHOWN} more")
        if not told:
            word = "would be imported" if dry_run else f"imported, {found['changed']} cases changed"
            console().print(f"{found['labels']} labels {word}")
            for why, count in found["skipped"].items():
                console().print(f"{count} left as they were: {why}")
    if told:
        if as_json:
            raise typer.Exit(4)
        raise Refused(f"{len(told)} problems: nothing was imported", "correct the files and import them again")


@contextmanager
def progress_bar(what: str) -> Iterator[tuple[Any, Any]]:
    """A progress bar on a terminal: functions that set its length and move it on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield (lambda total: progress.update(task, total=total)), (lambda count: progress.advance(task, count))
