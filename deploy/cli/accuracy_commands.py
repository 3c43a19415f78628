"""Commands about how accurate a model is: backtest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table

if TYPE_CHECKING:
    from monitoring.api.accuracy_models import Backtest


def register(app: typer.Typer) -> None:
    """Add the commands in the order in which the help shows them."""
    app.command("backtest", rich_help_panel="Data")(backtest)


def backtest(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[str | None, typer.Option("--version", help="Its version; default: the champion.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="A labelled history in the order of time: .npz, .parquet or .csv with class scores and labels. "
            "Default: what the running monitor has recorded.",
        ),
    ] = None,
    window_rows: Annotated[int, typer.Option("--window-rows", min=50, help="Rows of a window of the file.")] = 500,
    audit_labels: Annotated[int, typer.Option("--audit-labels", min=1, help="Labels of each tried audit.")] = 100,
    page: Annotated[Path | None, typer.Option("--html", help="Also write a page with a plot.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """How well would each estimate of accuracy have done on your own labelled history?

    Example: hardcase backtest digits --labels history.npz --html backtest.html
    """
    from deploy import backtest as work

    invocation = invocation_of(ctx)
    if labels is None:
        found = work.from_monitor(invocation.settings, invocation.registry, model, version, audit_labels)
    else:
        with _progress(quiet=as_json) as started:
            found = work.from_file(
                invocation.registry,
                model,
                version,
                labels,
                window_rows=window_rows,
                audit_labels=audit_labels,
                started=started,
            )
    if page is not None:
        work.write_html(found, page)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    _show(found)
    if page is not None:
        console().print(f"Written: {page}")


def _show(found: Backtest) -> None:
    from deploy.backtest import HEADS, table

    out = console()
    out.print(f"{found.model} version {found.version}: {len(found.windows)} windows with labels. Errors in points.")
    print_table(HEADS, table(found), empty="No window has labels for at least half of its rows.")
    out.print("Audits are the only estimate with a guarantee; the others are blind to a change of what is right.")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """Yields what makes a bar of a number of rows."""
    if quiet:
        yield lambda _: lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:

        def start(rows: int) -> Callable[[int], None]:
            task = progress.add_task("rows", total=rows)
            return lambda done: progress.advance(task, done)

        yield start
