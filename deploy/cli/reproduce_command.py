"""`hardcase retrain reproduce`: a training again, and whether the same comes out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from deploy.jobs.reproduce import Reproduction
    from export.contracts.training import TrainingEvent

DIFFERENT = 4


def retrain_reproduce(
    ctx: typer.Context,
    training: Annotated[str, typer.Argument(help="Id of the training, or the model whose newest one is meant.")],
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", min=0.0, help="Difference of the golden cases' answers that still counts."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder for the repetition; it is kept.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a training's recorded request again, elsewhere, and compare the packages file by file.

    Nothing is registered or rolled out. Exit code 0: the same digest; 4: it differs, and how is said. Works on the
    machine that has the state folder; the monitor need not run.

    Example: hardcase retrain reproduce digits --tolerance 1e-5
    """
    from deploy.errors import UsageError
    from deploy.jobs.reproduce import FOLDER, newest, recorded, reproduce

    invocation = invocation_of(ctx)
    paths = invocation.paths
    plain = len(training) == 12 and all(c in "0123456789abcdef" for c in training)
    known = recorded(paths, invocation.registry, training if plain else newest(paths, training))
    root = (output or _free(paths.loop / FOLDER, known.request.id)).absolute()
    if root.exists():
        raise UsageError(f"{root} exists already", "name a folder that does not")
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("training again"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    quiet = as_json or not sys.stderr.isatty()
    with Progress(*columns, console=console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("", total=None)
        found = reproduce(
            known,
            root,
            tolerance=tolerance,
            keep=output is not None,
            heard=lambda event: _move(bar, task, event),
        )
    if as_json:
        print_json(found)
    else:
        _show(found)
    if not found.within:
        raise typer.Exit(DIFFERENT)


def _move(bar: Progress, task: TaskID, event: TrainingEvent) -> None:
    if event.step is not None:
        bar.update(task, completed=event.step, total=event.of, description=event.text)


def _show(found: Reproduction) -> None:
    from rich.text import Text

    out, how = console(), found.difference
    style = "green" if found.same else "yellow" if found.within else "red"
    out.print(Text(found.words, style=style))
    if found.same:
        return
    rows = [("digest then", found.before), ("digest now", found.after)]
    rows += [("files that differ", ", ".join(how.files)), ("fields that differ", ", ".join(how.fields))]
    rows += [("parameters", how.weights.text())] if how.weights is not None else []
    rows += [("golden answers", f"differ by {how.golden:g} at most")] if how.golden is not None else []
    rows += [(name, f"{a or 'not there'} then, {b or 'not there'} now") for name, (a, b) in how.environment.items()]
    rows += [("repetition", found.folder or "")]
    print_table(("", ""), [row for row in rows if row[1]], empty="")


def _free(root: Path, name: str) -> Path:
    """A folder that is not there yet."""
    number = 1
    while (root / f"{name}-{number}").exists():
        number += 1
    return root / f"{name}-{number}"
