"""`hardcase capacity`: how much of everything a load needs, from what was measured."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.cli.context import JsonFlag, console, print_json, print_table
from deploy.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="This machine")(capacity)


def capacity(
    rps: Annotated[float, typer.Option(help="Requests a second at the peak.")] = 1000.0,
    mean_share: Annotated[float, typer.Option(help="Mean over the day as a share of the peak.")] = 0.5,
    model_us: Annotated[float, typer.Option(help="CPU microseconds of the model for a request.")] = 0.0,
    payload_bytes: Annotated[float, typer.Option(help="Bytes of a request's tensors.")] = 0.0,
    sample: Annotated[float, typer.Option(help="Share of ordinary records kept (capture.sample).")] = 1.0,
    retention_days: Annotated[float, typer.Option(help="Days of record rows in the database.")] = 14.0,
    archive_days: Annotated[float, typer.Option(help="Days of records in the archive.")] = 90.0,
    cores_per_node: Annotated[int, typer.Option(min=1, help="Cores of a node.")] = 16,
    as_json: JsonFlag = False,
) -> None:
    """Replicas, nodes, bytes, monitors and database for a load, and what breaks first. On paper.

    The costs are measurements on two cores (docs/guides/scale.md); measure your model with `hardcase bench`.

    Example: hardcase capacity --rps 1e6 --sample 0.01
    """
    from deploy.capacity import Load, plan

    try:
        load = Load(
            rps=rps, mean_share=mean_share, model_us=model_us, payload_bytes=payload_bytes, sample=sample,
            retention_days=retention_days, archive_days=archive_days, cores_per_node=cores_per_node,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(str(error)) from None
    need = plan(load)
    if as_json:
        print_json(need)
        return
    rows = [
        ("replicas (a core each)", f"{need.replicas:,}"),
        ("HAProxy", f"{need.front_cores:,} cores"),
        (f"nodes of {cores_per_node} cores", f"{need.nodes:,}"),
        ("record log at the peak", f"{need.log_bytes_per_s / 1e6:,.1f} MB/s"),
        ("record log", f"{need.log_bytes_per_day / 1e9:,.1f} GB/day"),
        (f"archive after {archive_days:g} days", f"{need.archive_bytes / 1e12:,.2f} TB"),
        ("monitors", f"{need.monitor_shards:,}"),
        (f"database after {retention_days:g} days", f"{need.database_bytes / 1e9:,.1f} GB"),
        ("writes to the bucket", f"{need.bucket_puts_per_s:,.0f} /s"),
    ]
    print_table(("what", "how much"), rows, empty="")
    for number, limit in enumerate(need.limits, 1):
        console().print(f"{number}. {limit}")
