"""`hardcase render ...`: files for other programs and other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.context import JsonFlag, console, print_json

render_app = typer.Typer(no_args_is_help=True, help="Write files for other programs and other machines.")
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")]
Force = Annotated[bool, typer.Option("--force", help="Write over what is in the folder.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(render_app, name="render", rich_help_panel="Models")


@render_app.command("cpp")
def render_cpp(
    out: Out,
    build: Annotated[bool, typer.Option("--build", help="Build it as well (CMake, a C++20 compiler).")] = False,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """The C++ program that runs packages where there is no Python, as source with a README.

    With --build it is built against the libtorch and the ONNX Runtime of this environment; half a minute on two cores.

    Example: hardcase render cpp -o runner --build
    """
    from export.cpp_project import build_project, find_libraries, write_project

    files = write_project(out, overwrite=force)
    program = build_project(out, out / "build", find_libraries()) if build else None
    if as_json:
        print_json({"folder": str(out), "files": files, "program": str(program) if program else None})
        return
    console().print(f"{len(files)} files written to {out}; README.md says how to build and use them")
    if program:
        console().print(f"built: {program} PACKAGE --golden")
