"""`hardcase render ...`: files for other programs and other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.context import Invocation, JsonFlag, console, print_json
from deploy.errors import UsageError

render_app = typer.Typer(no_args_is_help=True, help="Write files for other programs and other machines.")
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")]
Force = Annotated[bool, typer.Option("--force", help="Write over what is in the folder.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(render_app, name="render", rich_help_panel="Models")


@render_app.command("prometheus")
def render_prometheus(
    ctx: typer.Context,
    out: Out,
    alertmanager: Annotated[str | None, typer.Option(help="host:port of an Alertmanager that hears of alerts.")] = None,
    token_file: Annotated[str | None, typer.Option(help="File with the bearer token, when one is asked for.")] = None,
    availability: Annotated[float, typer.Option(help="Share of requests that must not fail.")] = 0.999,
    latency_s: Annotated[float, typer.Option(help="Within this an answer counts as fast; a histogram bound.")] = 0.1,
    fast: Annotated[float, typer.Option(help="Share of answers that must be fast.")] = 0.99,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Prometheus' configuration, recording rules and alerts, and a start for Alertmanager.

    Example: hardcase render prometheus -o observability, then: prometheus --config.file observability/prometheus.yml
    """
    from deploy.observability.prometheus import write_prometheus
    from deploy.observability.rules import Objectives

    invocation: Invocation = ctx.obj
    try:
        objectives = Objectives(availability=availability, latency_s=latency_s, fast=fast)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if out.exists() and any(out.iterdir()) and not force:
        raise UsageError(f"{out} is not empty; --force writes over it")
    monitor = invocation.settings.monitor
    files = write_prometheus(
        out,
        monitor=f"{monitor.host}:{monitor.port}",
        alertmanager=alertmanager,
        objectives=objectives,
        token_file=token_file,
    )
    if as_json:
        print_json({"folder": str(out), "files": files})
        return
    console().print(f"{len(files)} files written to {out}")
    console().print(f"start it: prometheus --config.file {out / 'prometheus.yml'}")


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
