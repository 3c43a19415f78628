"""Commands about the folders of data sets, which need no monitor: export, verify."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.context import Invocation, JsonFlag, console, invocation_of, print_json, print_table
from deploy.cli.exchange_commands import progress_bar
from deploy.errors import CommandError, Refused


class Format(StrEnum):
    """What a snapshot is exported as."""

    PARQUET = "parquet"  # one file
    NPZ = "npz"  # arrays
    IMAGES = "images"  # a folder by split and class


def add_to(dataset_app: typer.Typer) -> None:
    """Add the commands to `hardcase dataset`."""
    dataset_app.command("export")(dataset_export)
    dataset_app.command("verify")(dataset_verify)


def dataset_export(
    ctx: typer.Context,
    identity: Annotated[str, typer.Argument(metavar="ID", help="Id of a snapshot here, or the path of its folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new file, or for images a new folder.")],
    kind: Annotated[
        Format, typer.Option("--format", help="Parquet, arrays, or images by split and class.")
    ] = Format.PARQUET,
    split: Annotated[str | None, typer.Option("--split", help="Only train, validation or test.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a snapshot for other programs. Reads its folder; needs no monitor.

    Example: hardcase dataset export 43adf2b2969062c5 --format images -o digits
    """
    from deploy.dataset_export import export_snapshot
    from export.dataset import Snapshot

    if split not in (None, "train", "validation", "test"):
        raise CommandError("--split: train, validation or test")
    snapshot = Snapshot.open(_folder(invocation_of(ctx), identity))
    with progress_bar("writing") as (start, advance):
        rows = export_snapshot(snapshot, kind.value, out, split=split, on_start=start, on_rows=advance)
    if as_json:
        print_json({"id": snapshot.id, "rows": rows, "format": kind.value, "out": str(out)})
    else:
        console().print(f"{rows} rows in {out}")


def dataset_verify(
    ctx: typer.Context,
    identity: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id, or the path of a folder; default: all that are here.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check that folders still hold what their digests name. Needs no monitor; exit code 4 when one does not.

    Example: hardcase dataset verify
    """
    from export.contracts.errors import SnapshotError
    from export.dataset import Snapshot

    call = invocation_of(ctx)
    root = call.paths.datasets
    folders = [_folder(call, identity)] if identity else sorted(p for p in root.glob("[0-9a-f]*") if p.is_dir())
    found = []
    with progress_bar("checking") as (start, advance):
        start(len(folders))
        for folder in folders:
            problem = None
            try:
                if (folder / "data.parquet").exists() or identity:
                    Snapshot.open(folder)
                else:
                    problem = "its data were erased"
            except SnapshotError as error:
                problem = error.message
            found.append({"id": folder.name, "whole": problem is None, "problem": problem})
            advance(1)
    broken = [f for f in found if not f["whole"] and f["problem"] != "its data were erased"]
    if as_json:
        print_json({"datasets": found})
        if broken:
            raise typer.Exit(4)
        return
    print_table(("id", "whole", "problem"), [tuple(f.values()) for f in found], empty="No snapshots here.")
    if broken:
        raise Refused(f"{len(broken)} of {len(found)} snapshots are not what they were")


def _folder(call: Invocation, identity: str) -> Path:
    here = call.paths.datasets / identity
    if here.is_dir():
        return here
    if Path(identity).is_dir():
        return Path(identity)
    from deploy.errors import Missing

    raise Missing(f"there is no snapshot {identity} here")
