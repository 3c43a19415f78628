"""`hardcase render ...`: files for other programs and other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.context import Invocation, JsonFlag, console, print_json
from deploy.errors import UsageError

render_app = typer.Typer(no_args_is_help=True, help="Write files for other programs and other machines.")
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")]
ConsoleUrl = Annotated[str | None, typer.Option(help="Where people reach the console; links lead there.")]
Force = Annotated[bool, typer.Option("--force", help="Write over what is in the folder.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(render_app, name="render", rich_help_panel="Models")


@render_app.command("prometheus")
def render_prometheus(
    ctx: typer.Context,
    out: Out,
    alertmanager: Annotated[str | None, typer.Option(help="host:port of an Alertmanager that hears of alerts.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that Alertmanager posts alerts to.")] = None,
    console_url: ConsoleUrl = None,
    token_file: Annotated[str | None, typer.Option(help="File with the bearer token, when one is asked for.")] = None,
    availability: Annotated[float | None, typer.Option(help="Share of requests that must not fail.")] = None,
    latency_s: Annotated[float | None, typer.Option(help="Within this an answer is fast; a histogram bound.")] = None,
    fast: Annotated[float | None, typer.Option(help="Share of answers that must be fast.")] = None,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Prometheus' configuration, recording rules and alerts, and a configuration for Alertmanager.

    Objectives, links and webhook are those of the settings (observability.*) unless they are given here.

    Example: hardcase render prometheus -o observability, then: prometheus --config.file observability/prometheus.yml
    """
    from dataclasses import replace

    from deploy.observability.local import around_of
    from deploy.observability.prometheus import write_prometheus

    invocation: Invocation = ctx.obj
    settings = invocation.settings.observability
    given = {"availability": availability, "latency_s": latency_s, "fast": fast}
    try:
        objectives = replace(
            settings.objectives.as_objectives(), **{name: value for name, value in given.items() if value is not None}
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    _check_free(out, force)
    around = around_of(invocation.settings)
    around = replace(
        around,
        alertmanager=alertmanager,
        token_file=token_file,
        webhook=webhook or around.webhook,
        console=(console_url or around.console).rstrip("/"),
    )
    files = write_prometheus(out, around, objectives)
    if as_json:
        print_json({"folder": str(out), "files": files})
        return
    console().print(f"{len(files)} files written to {out}")
    features = "--enable-feature=exemplar-storage"
    console().print(f"start it: prometheus --config.file {out / 'prometheus.yml'} {features}")


@render_app.command("grafana")
def render_grafana(
    ctx: typer.Context,
    out: Out,
    prometheus: Annotated[str | None, typer.Option(help="URL of Prometheus, as Grafana reaches it.")] = None,
    console_url: ConsoleUrl = None,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Grafana's provisioning: the data source and the dashboards Fleet, Model, Serving internals and Loop.

    Example: hardcase render grafana -o grafana
    """
    from deploy.observability.grafana import VERSION, start_hint, write_grafana
    from deploy.observability.local import around_of, prometheus_url

    invocation: Invocation = ctx.obj
    _check_free(out, force)
    files = write_grafana(
        out,
        prometheus=prometheus or prometheus_url(invocation.settings),
        console=(console_url or around_of(invocation.settings).console).rstrip("/"),
        objectives=invocation.settings.observability.objectives.as_objectives(),
    )
    if as_json:
        print_json({"folder": str(out), "files": files})
        return
    console().print(f"{len(files)} files written to {out}, for Grafana {VERSION} and later")
    console().print(f"open it: {start_hint(out)}")


@render_app.command("compose")
def render_compose(
    ctx: typer.Context,
    out: Out,
    workers: Annotated[int, typer.Option(min=1, help="Ray nodes besides the head.")] = 2,
    image: Annotated[str, typer.Option(help="Name of the image that is built from the Dockerfile.")] = "hardcase:local",
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Everything in containers: Ray, monitor, PostgreSQL, an S3-compatible store, Prometheus, Alertmanager, Grafana.

    Made from the settings; an API key is made, and printed once, when they have none.

    Example: hardcase render compose -o stack
    """
    from deploy.stack.compose import write_compose
    from deploy.stack.values import Stack

    invocation: Invocation = ctx.obj
    _check_free(out, force)
    _tell(out, *write_compose(out, Stack(settings=invocation.settings, workers=workers, image=image)), as_json)


@render_app.command("kuberay")
def render_kuberay(
    ctx: typer.Context,
    out: Out,
    workers: Annotated[int, typer.Option(min=1, help="Ray nodes besides the head, to begin with.")] = 2,
    image: Annotated[str, typer.Option(help="Name of the image, as the cluster pulls it.")] = "hardcase:local",
    namespace: Annotated[str, typer.Option(help="Namespace of everything.")] = "hardcase",
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """A RayService for KubeRay, the monitor, NetworkPolicies and a PodMonitor; secrets are named and not written.

    Example: hardcase render kuberay -o kube --image registry.example/hardcase:1
    """
    from deploy.stack.kuberay import write_kuberay
    from deploy.stack.values import Stack

    invocation: Invocation = ctx.obj
    _check_free(out, force)
    stack = Stack(settings=invocation.settings, workers=workers, image=image, namespace=namespace)
    _tell(out, *write_kuberay(out, stack), as_json)


def _tell(out: Path, files: list[str], key: str, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(out), "files": files, "api_key": key or None})
        return
    console().print(f"{len(files)} files written to {out}; README.md says how to start it")
    if key:
        console().print(f"API key for inference, shown only now: {key}")


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and any(out.iterdir()) and not force:
        raise UsageError(f"{out} is not empty; --force writes over it")


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
