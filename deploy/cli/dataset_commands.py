"""Commands about data sets: import, build, list, show, difference, export, verify, suspects; and lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli import dataset_file_commands
from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table
from deploy.cli.exchange_commands import progress_bar
from deploy.cli.lineage_commands import lineage
from deploy.errors import CommandError, NotRunning

dataset_app = typer.Typer(
    no_args_is_help=True, help="Data set snapshots: what versions are trained on, named by their content."
)
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the snapshot: 16 hex digits.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(dataset_app, name="dataset", rich_help_panel="Data")
    app.command("lineage", rich_help_panel="Data")(lineage)


@dataset_app.command("import")
def dataset_import(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help=".npz, .parquet, .csv, a folder of images by class, or a snapshot.")],
    model: Annotated[str, typer.Option("--model", help="Whose inputs and classes it has.")],
    name: Annotated[str, typer.Option("--name", help="Of the snapshot; default: the file's.")] = "",
    label: Annotated[
        str, typer.Option("--label", help="Column of the labels; default: label, labels, y, target.")
    ] = "",
    validation: Annotated[float, typer.Option("--validation", min=0.0, max=0.9, help="Share of the rows.")] = 0.2,
    test: Annotated[float, typer.Option("--test", min=0.0, max=0.9, help="Share of the rows.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw of the splits.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Make a base snapshot of labelled data. The same rows in any order give the same snapshot.

    Example: hardcase dataset import digits.npz --model digits
    """
    from deploy.dataset_import import import_dataset
    from deploy.wiring import RegistryCatalogue
    from monitoring.datasets.build import manifest_of

    call = invocation_of(ctx)
    manifest = manifest_of(RegistryCatalogue(call.registry), model)
    options: dict[str, Any] = {"name": name, "label": label, "validation": validation, "test": test, "seed": seed}
    with progress_bar("reading") as (start, advance):
        made = import_dataset(path, manifest, call.paths.make().datasets, on_start=start, on_rows=advance, **options)
    _tell_monitor(ctx)
    facts = {"id": made.id, "digest": made.digest, "rows": made.manifest.rows, "splits": made.manifest.splits,
             "classes": made.manifest.classes}  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        console().print(f"snapshot {made.id}: {made.manifest.rows} rows ({_shares(made.manifest.splits)})")


@dataset_app.command("build")
def dataset_build(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Of which model.")],
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="A JSON file; what it leaves out has its default.")
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option("--set", help="One field of the recipe, as validation=0.1. Repeatable.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a snapshot of what was reviewed, by a recipe; needs a running monitor.

    Example: hardcase dataset build digits --set new_share=0.5 --set labels=reviewed
    """
    asked = _recipe(recipe, field or [])
    found = _client(ctx).post("/api/datasets", {"model": model, "recipe": asked})
    if as_json:
        print_json(found)
        return
    _show(found)


@dataset_app.command("list")
def dataset_list(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Snapshots, newest first; needs a running monitor.

    Example: hardcase dataset list --model digits
    """
    found = _client(ctx).get("/api/datasets", model=model)
    if as_json:
        print_json(found)
        return
    rows = [
        (d["id"], d["name"], d["model"], d["rows"], _shares(d["splits"]), _shares(d["sources"]),
         ", ".join(d["versions"]), d["created_at"], "" if d["state"] == "whole" else d["state"])
        for d in found["datasets"]
    ]  # fmt: skip
    columns = ("id", "name", "model", "rows", "splits", "from", "versions", "made", "")
    print_table(columns, rows, empty="No snapshots. `hardcase dataset import` makes one of labelled data.")


@dataset_app.command("show")
def dataset_show(ctx: typer.Context, identity: IdArgument, as_json: JsonFlag = False) -> None:
    """One snapshot: what is in it, what was left out and why.

    Example: hardcase dataset show 43adf2b2969062c5
    """
    found = _client(ctx).get(f"/api/datasets/{_quoted(identity)}")
    if as_json:
        print_json(found)
        return
    _show(found)


@dataset_app.command("diff")
def dataset_diff(
    ctx: typer.Context,
    before: IdArgument,
    after: Annotated[str, typer.Argument(metavar="OTHER", help="Id of the other snapshot.")],
    limit: Annotated[int, typer.Option("--limit", min=0, max=5000, help="Rows that are listed.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """What differs in OTHER: rows added, removed, with another label, in another split.

    Example: hardcase dataset diff 43adf2b2969062c5 a75e97722303a355
    """
    found = _client(ctx).get(f"/api/datasets/{_quoted(before)}/diff/{_quoted(after)}", limit=limit)
    if as_json:
        print_json(found)
        return
    console().print(f"{found['same']} rows are the same; " + _shares(found["counts"]))
    rows = [(label, *counts.values()) for label, counts in found["by_label"].items()]
    print_table(("label", *found["counts"]), rows, empty="Nothing differs.")
    listed = [(r["row_id"], r["change"], r["before"], r["after"], r["source"], r["case"]) for r in found["rows"]]
    print_table(("row", "change", "before", "after", "from", "case"), listed, empty="")


@dataset_app.command("suspects")
def dataset_suspects(ctx: typer.Context, identity: IdArgument, as_json: JsonFlag = False) -> None:
    """Labels in a snapshot that look wrong: the model was sure of another class, and inputs like it have others.

    Example: hardcase dataset suspects 43adf2b2969062c5
    """
    client = _client(ctx)
    found = client.get(f"/api/datasets/{_quoted(identity)}/suspects")
    if as_json:
        print_json(found)
        return
    rows = [
        (s["case"], s["given"], s["suggested"], f"{s['probability']:.3f}", f"{s['agreeing']} of {s['neighbours']}",
         s["author"], client.case_page(s["case"]))
        for s in found["suspects"]
    ]  # fmt: skip
    columns = ("case", "label", "suggested", "probability", "neighbours agree", "by", "look")
    print_table(columns, rows, empty=f"No label looks wrong, of {found['asked']} that could be asked about.")


def _recipe(path: Path | None, fields: list[str]) -> dict[str, Any]:
    import json

    made: dict[str, Any] = {}
    if path is not None:
        try:
            made = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise CommandError(f"{path.name}: {error}") from None
    for given in fields:
        name, sign, value = given.partition("=")
        if not sign:
            raise CommandError(f"--set {given}: write FIELD=VALUE")
        try:
            made[name] = json.loads(value)
        except ValueError:
            made[name] = value
    return made


def _show(found: dict[str, Any]) -> None:
    out = console()
    out.print(f"snapshot {found['id']} · {found['name']} · {found['rows']} rows of {found['model']}")
    if found["state"] != "whole":
        out.print(f"{found['state']}: {found['erased']} rows had to go; successor {found['successor'] or 'none'}")
    out.print(f"splits: {_shares(found['splits'])}")
    out.print(f"from: {_shares(found['sources'])}" + (f"; carries on {found['base'][7:23]}" if found["base"] else ""))
    if found["classes"]:
        out.print(f"classes: {_shares(found['classes'])}")
    for note in found["notes"]:
        out.print(f"  {note}")
    if found["versions"]:
        out.print(f"versions trained on it: {', '.join(found['versions'])}")


def _shares(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items() if n)


def _tell_monitor(ctx: typer.Context) -> None:
    """A running monitor enters what lies in the folder when it lists it."""
    try:
        _client(ctx).get("/api/datasets", limit=1)
    except NotRunning:
        return  # it is entered when one starts


def _client(ctx: typer.Context) -> Any:
    from deploy.monitor_client import MonitorClient

    return MonitorClient.of(invocation_of(ctx).settings)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


dataset_file_commands.add_to(dataset_app)
