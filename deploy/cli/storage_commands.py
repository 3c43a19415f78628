"""`hardcase node` and `hardcase storage ...`: several machines through a bucket."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from deploy.cli.context import Invocation, JsonFlag, console, invocation_of, print_json
from deploy.errors import CommandError

storage_app = typer.Typer(no_args_is_help=True, help="The bucket that several machines share (`storage.url`).")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="This machine")(node)
    app.add_typer(storage_app, name="storage", rich_help_panel="This machine")


def node(
    ctx: typer.Context,
    child: Annotated[bool, typer.Option("--child", hidden=True, help="Started by `hardcase up`.")] = False,
) -> None:
    """Keep this machine's registry folder equal to the bucket, and send its record log there, in the foreground.

    Runs on every machine that has replicas; `hardcase up` starts it where it runs itself.

    Example: hardcase node
    """
    from deploy import processes
    from deploy.serving_process import configure_logging
    from deploy.shipping.agent import beside_replicas

    invocation = _with_bucket(ctx)
    configure_logging(invocation.settings.log.level)
    if child:
        processes.end_with_parent()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with beside_replicas(invocation.settings, invocation.paths.make()):
        stop.wait()


@storage_app.command("status")
def storage_status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """What is in the bucket: models, sources of records that have not been consumed, machines that send.

    Example: hardcase storage status
    """
    from deploy.storage import bucket_status, open_store

    found = bucket_status(open_store(_with_bucket(ctx).settings.storage))
    if as_json:
        print_json(found)
        return
    out = console()
    out.print(f"models    {', '.join(found.models) or 'none'}")
    out.print(f"records   {found.record_bytes:,} bytes of {found.sources} sources wait for the monitor")
    for name, age_s in found.nodes.items():
        out.print(f"machine   {name}, sent everything {age_s:.0f} s ago")


@storage_app.command("push")
def storage_push(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Bring this machine's registry into the bucket: once, when a bucket is set for the first time.

    Example: hardcase storage push
    """
    from export.bucket_registry import BucketRegistry

    registry = _with_bucket(ctx).registry
    written = registry.adopt() if isinstance(registry, BucketRegistry) else 0
    print_json({"plans": written}) if as_json else console().print(f"the bucket has the registry; {written} plans new")


@storage_app.command("pull")
def storage_pull(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Take over now what the bucket's registry has; exit code 1 when something could not be taken.

    Example: hardcase storage pull
    """
    from export.bucket_registry import BucketRegistry

    registry = _with_bucket(ctx).registry
    if not isinstance(registry, BucketRegistry):
        return
    pulled = registry.pull()
    if as_json:
        print_json(pulled)
    else:
        console().print(f"{pulled.versions} versions and {pulled.plans} plans are new")
        for problem in pulled.problems:
            console().print(f"not taken: {problem}")
    raise typer.Exit(1 if pulled.problems else 0)


@storage_app.command("snapshot")
def storage_snapshot(
    ctx: typer.Context,
    digest: Annotated[str, typer.Argument(help="Of the snapshot, sha256:...")],
    as_json: JsonFlag = False,
) -> None:
    """Bring a snapshot of a data set to this machine, for a trainer that runs here.

    Example: hardcase storage snapshot sha256:...
    """
    from deploy.storage import open_store
    from export.storage.snapshots import download_snapshot

    invocation = _with_bucket(ctx)
    found = download_snapshot(open_store(invocation.settings.storage), digest, invocation.paths.datasets)
    print_json({"folder": str(found.folder)}) if as_json else console().print(str(found.folder))


def _with_bucket(ctx: typer.Context) -> Invocation:
    invocation = invocation_of(ctx)
    if not invocation.settings.storage.url:
        raise CommandError("there is no bucket", "set storage.url to s3://bucket/prefix")
    return invocation
