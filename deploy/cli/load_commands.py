"""Commands about speed: bench, tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.context import JsonFlag, invocation_of


def register(app: typer.Typer) -> None:
    """Add the commands in the order in which the help shows them."""
    app.command("bench", rich_help_panel="Speed")(bench)
    app.command("tune", rich_help_panel="Speed")(tune)


def bench(
    ctx: typer.Context,
    servers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=]URL", help="Servers; default: the one of the settings.", show_default=False),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Name of the model.")] = "",
    version: Annotated[str | None, typer.Option("--version", help="Its version; default: the server decides.")] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="http or grpc; a URL's scheme says it, too.")
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency", "-c", help="Closed loop: callers without a pause; 8, 1,4,16, 1:64:x2. Default: 1:64:x2."
        ),
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", "-r", help="Open loop: requests a second; 500 or 100:1000:100.")
    ] = None,
    arrivals: Annotated[
        str, typer.Option("--arrivals", help="Gaps of the open loop: poisson or constant.")
    ] = "poisson",
    batch: Annotated[int, typer.Option("--batch", "-b", min=1, help="Rows of a request.")] = 1,
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="INPUT:DIMS", help="Sizes of variable dimensions, without the batch."),
    ] = None,
    data: Annotated[str, typer.Option("--data", help="Made-up inputs: random or zero.")] = "random",
    input_data: Annotated[
        Path | None, typer.Option("--input-data", help="Inputs from a file: .npz, or .json of requests or rows.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="binary or json tensors; default: binary if the server knows it.")
    ] = None,
    outputs: Annotated[list[str] | None, typer.Option("--output", help="Ask for this output only; repeatable.")] = None,
    headers: Annotated[list[str] | None, typer.Option("--header", "-H", help="`Name: value`; repeatable.")] = None,
    window_s: Annotated[float, typer.Option("--window", min=0.1, max=600, help="Seconds of a window.")] = 1.0,
    warm_up_s: Annotated[float, typer.Option("--warm-up", min=0, max=600, help="Seconds before the first.")] = 1.0,
    max_windows: Annotated[int, typer.Option("--max-windows", min=1, max=1000, help="Windows of a level.")] = 10,
    stability: Annotated[
        float, typer.Option("--stability", min=0.1, max=100, help="Percent that three windows may be off their mean.")
    ] = 10.0,
    percentile: Annotated[
        str | None, typer.Option("--percentile", help="Latency that must be stable; default: the target's, else p95.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.01, max=3600, help="Seconds of a request.")] = 10.0,
    workers: Annotated[int, typer.Option("--workers", min=0, max=256, help="Processes; 0: half of the cores.")] = 0,
    connections: Annotated[int, typer.Option("--connections", min=1, help="Most of the open loop.")] = 1024,
    seed: Annotated[int, typer.Option("--seed", help="Of inputs and arrivals.")] = 1,
    target: Annotated[
        str | None, typer.Option("--latency-target", metavar="p99:20ms", help="Say what the server does within it.")
    ] = None,
    fail_over: Annotated[
        str | None, typer.Option("--fail-over", metavar="p99:50ms", help="Exit code 4 when a level is over it.")
    ] = None,
    as_json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write JSON; - is standard output.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the plots.", dir_okay=False)] = None,
    compare: Annotated[
        list[Path] | None, typer.Option("--compare", help="Show an earlier --json file beside this run; repeatable.")
    ] = None,
) -> None:
    """Load any Open Inference Protocol server (Hardcase, Triton, KServe, MLServer) and say how fast it is.

    Measures each level of load in windows until three in a row agree. `--rate` sends on a schedule whatever the server
    does, and counts latency from the moment at which a request was meant to leave; `--concurrency` waits for answers.
    Several servers go into one report. Ctrl-C shows what was measured until then. docs/benchmarking.md explains.

    Example: hardcase bench http://127.0.0.1:8000 -m digits -c 1:64:x2 --latency-target p99:20ms --html bench.html
    """
    from deploy.loadtest.command import Outputs, credential, run_bench
    from deploy.loadtest.options import make_plan, make_targets
    from deploy.loadtest.parsing import parse_goal, parse_header

    plan = make_plan(
        model=model,
        version=version,
        concurrency=concurrency,
        rate=rate,
        arrivals=arrivals,
        batch=batch,
        shapes=shapes or (),
        data=data,
        input_data=input_data,
        encoding=encoding,
        outputs=outputs or (),
        headers=credential(dict(parse_header(h) for h in headers or ())),
        window_s=window_s,
        warm_up_s=warm_up_s,
        max_windows=max_windows,
        stability=stability / 100,
        percentile=percentile,
        timeout_s=timeout_s,
        workers=workers,
        connections=connections,
        seed=seed,
        target=target,
    )
    where = Outputs(
        json=as_json,
        html=html,
        compare=tuple(compare or ()),
        fail_over=parse_goal(fail_over, "--fail-over") if fail_over else None,
    )
    raise typer.Exit(run_bench(make_targets(servers or (), protocol, lambda: invocation_of(ctx).settings), plan, where))


def tune(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(help="MODEL, MODEL@VERSION, or a package folder.")],
    target: Annotated[str, typer.Option("--latency-target", metavar="p99:20ms", help="The latency to keep.")],
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Exactly so many callers; default: as many as fit.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", "-r", min=0.1, help="Open loop: the least latency at so many requests/s.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", "-b", min=1, help="Rows of a request.")] = 1,
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="INPUT:DIMS", help="Sizes of variable dimensions, without the batch."),
    ] = None,
    input_data: Annotated[
        Path | None, typer.Option("--input-data", help="Inputs from a file: .npz, or .json of requests or rows.")
    ] = None,
    budget_s: Annotated[float, typer.Option("--budget", min=1, max=86_400, help="Seconds for all trials.")] = 120.0,
    version: Annotated[
        str | None, typer.Option("--as", help="Version to write; default: VERSION-tuned.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look; write nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Find the batch size, threads and instances that do most within a latency, and write them into a new version.

    Runs the package in servers of its own on this machine, one set of settings after the other. The new version has the
    same weights; serving follows what is written in it unless the settings say otherwise. Exit code 4 when no settings
    keep the target.

    Example: hardcase tune digits --latency-target p99:20ms --budget 120
    """
    from deploy.loadtest.options import make_plan
    from deploy.loadtest.parsing import parse_goal
    from deploy.tune.command import run_tune

    plan = make_plan(
        model="package",
        concurrency=str(concurrency) if concurrency else None,
        rate=str(rate) if rate else None,
        batch=batch,
        shapes=shapes or (),
        input_data=input_data,
        target=target,
    )
    run_tune(
        invocation_of(ctx),
        what,
        plan,
        parse_goal(target, "--latency-target"),
        budget_s=budget_s,
        version=version,
        dry_run=dry_run,
        as_json=as_json,
    )
