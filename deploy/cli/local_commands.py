"""Commands about processes on this machine: up, down, status, doctor, serve, monitor, demo."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json
from deploy.errors import CommandError

CHILD = typer.Option("--child", hidden=True, help="Started by `hardcase up`.")


def register(app: typer.Typer) -> None:
    """Add the commands in the order in which the help shows them."""
    panel = "This machine"
    for command in (up, down, status, doctor, serve, monitor, demo):
        app.command(rich_help_panel=panel)(command)


def up(
    ctx: typer.Context,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo/--no-demo",
            help="Train and register the demo model when the registry is empty; set its trainer and short windows "
            "while there is no other model.",
        ),
    ] = True,
) -> None:
    """Start serving and the monitor, and stay until Ctrl-C.

    Trains and exports the demo model on real data when the registry is empty. As long as there is no other model, the
    demo's trainer and short windows are set where the settings do not say otherwise, so that `hardcase demo` beside it
    can tell its story there. Everything it starts ends with it.

    Example: HARDCASE__SERVING__PORT=8001 hardcase up
    """
    from deploy.local import run_up

    run_up(invocation_of(ctx), with_demo=demo)


def down(
    ctx: typer.Context,
    keep_serving: Annotated[
        bool,
        typer.Option("--keep-serving", help="Go on answering in the cluster of `ray.address` until the next `up`."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Stop a running `hardcase up` from another terminal, and wait until everything has ended.

    In a Ray cluster that was there before, only our applications are stopped; with `--keep-serving` not even those, and
    the next `up` replaces their replicas one after the other without losing a request.

    Example: hardcase down
    """
    from deploy.local import stop_run

    invocation = invocation_of(ctx)
    if keep_serving and invocation.settings.ray.address is None:
        raise CommandError(
            "a Ray cluster of our own ends with its run: nothing can be kept",
            "leave --keep-serving out, or set ray.address",
        )
    pid = stop_run(invocation.paths, keep_serving=keep_serving)
    if as_json:
        print_json({"stopped": pid})
    else:
        console().print(f"hardcase (pid {pid}) has stopped")


def status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """What runs, where, which versions answer, and whether anything is behind. Exit code 5 when nothing runs.

    Example: hardcase status --json
    """
    from deploy.local_status import collect, show

    found = collect(invocation_of(ctx))
    if as_json:
        print_json(found)
    else:
        show(found)
    if not found.running:
        raise typer.Exit(5)
    if not found.healthy:
        raise typer.Exit(1)


def doctor(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Look for what could be wrong with this installation, and say what to do about it. Exit code 1 on a failure.

    Example: hardcase doctor
    """
    from deploy.doctor import Verdict, examine, show

    checks = examine(invocation_of(ctx))
    if as_json:
        print_json(checks)
    else:
        show(checks)
    if any(c.verdict is Verdict.FAIL for c in checks):
        raise typer.Exit(1)


def serve(
    ctx: typer.Context,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Without Ray: one process, one HTTP server (tests, GPUs, embedding).")
    ] = False,
    child: Annotated[bool, CHILD] = False,
) -> None:
    """Run serving alone, in the foreground.

    Example: hardcase serve --standalone
    """
    from deploy.serving_process import run_ray, run_standalone

    (run_standalone if standalone else run_ray)(invocation_of(ctx), supervised=child)


def monitor(ctx: typer.Context, child: Annotated[bool, CHILD] = False) -> None:
    """Run the monitor alone, in the foreground: ingest, windows, cases, console and API.

    Example: hardcase monitor
    """
    from deploy.monitor_process import run_monitor

    run_monitor(invocation_of(ctx), supervised=child)


def demo(
    ctx: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="The short form; for tests.")] = False,
    day: Annotated[
        bool, typer.Option("--day", help="Only a day: traffic, shifts, feedback, what was found. No retraining.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell the whole story, unattended: traffic, a shift, alarm, labels, training, gate, roll-out, and bad candidates.

    Beside a running `hardcase up` that is about the demo's model it is told there, in its console; otherwise on a
    system of its own, in `demo/story` of the state folder, which is stopped afterwards. Ten minutes on two cores.
    Writes report.json and report.html to the state folder's `demo/`. Exit code 1 when a claim does not hold.

    Example: hardcase demo
    """
    from deploy.demo.run import run_demo

    raise typer.Exit(run_demo(invocation_of(ctx), quick=quick, day=day, as_json=as_json))
