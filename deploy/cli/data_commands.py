"""Commands about what was recorded and found: records, cases, report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table
from deploy.errors import CommandError
from monitoring.report_shelf import ReportKind

records_app = typer.Typer(no_args_is_help=True, help="The record log: every request that was answered or refused.")
cases_app = typer.Typer(no_args_is_help=True, help="Failure cases that the monitor found; needs a running monitor.")


def register(app: typer.Typer) -> None:
    """Add the commands in the order in which the help shows them."""
    panel = "Data"
    app.add_typer(records_app, name="records", rich_help_panel=panel)
    app.add_typer(cases_app, name="cases", rich_help_panel=panel)
    app.command("report", rich_help_panel=panel)(report)
    app.command("rescore", rich_help_panel=panel)(rescore)
    app.command("erase", rich_help_panel=panel)(erase)


@records_app.command("tail")
def records_tail(
    ctx: typer.Context,
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the newest to begin with.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what arrives, until Ctrl-C.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the newest records; tensors are left out.

    Example: hardcase records tail -f
    """
    from deploy.records import tail_records

    tail_records(invocation_of(ctx).log, count=count, follow=follow, as_json=as_json)


@records_app.command("export")
def records_export(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(help="A .jsonl file, or a folder for Parquet files.")],
    as_json: JsonFlag = False,
) -> None:
    """Write all records, tensors included: a JSON Lines file, or a folder of Parquet files (zstd) by model and version.

    Example: hardcase records export exported/
    """
    from deploy.records import export_records

    rows = export_records(invocation_of(ctx).log, out)
    if as_json:
        print_json(rows)
    else:
        print_table(("file", "rows"), rows.items(), empty="There are no records yet.")


@records_app.command("verify")
def records_verify(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Check every frame, checksum, sequence number and counter of the log. Exit code 1 when something is wrong.

    Example: hardcase records verify
    """
    from deploy.records import verify_records

    if not verify_records(invocation_of(ctx).log, as_json=as_json):
        raise typer.Exit(1)


@cases_app.command("list")
def cases_list(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only with this reason.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="How many at most.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """The cases that are most probably wrong, first.

    Example: hardcase cases list --model digits -n 5
    """
    from deploy.monitor_client import MonitorClient

    client = MonitorClient.of(invocation_of(ctx).settings)
    found = client.cases(model=model, reason=reason, limit=limit)
    if as_json:
        print_json(found)
        return
    columns = ("id", "model", "version", "predicted", "label", "P(wrong)", "reasons", "time")
    rows = (client.case_row(case) for case in found)
    print_table(columns, rows, empty="No cases: nothing was flagged so far.")


@cases_app.command("show")
def cases_show(
    ctx: typer.Context, case: Annotated[str, typer.Argument(help="Id of the case.")], as_json: JsonFlag = False
) -> None:
    """Everything that is known about one case.

    Example: hardcase cases show 17
    """
    from deploy.monitor_client import MonitorClient

    client = MonitorClient.of(invocation_of(ctx).settings)
    found = client.case(case)
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        if value not in (None, "", [], {}):
            console().print(f"{key:<16} {value}")
    console().print(f"{'page':<16} {client.case_page(case)}")


def report(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[str | None, typer.Option("--version", help="Version; default: the champion.")] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.1, help="How far the range reaches back from its end, without --from.")
    ] = 60.0,
    start: Annotated[
        str | None, typer.Option("--from", help="Start of the range, such as 2026-01-31T12:00:00Z.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End of the range; default: now.")] = None,
    kind: Annotated[ReportKind, typer.Option("--kind", help="What the report is about.")] = ReportKind.DRIFT,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to put the HTML; default: only a link.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an Evidently report of a range of traffic against the version's reference; needs a running monitor.

    Kinds: drift of every column, a summary of the data, or the quality of answers that have labels.

    Example: hardcase report digits --minutes 10 -o drift.html
    """
    from deploy.monitor_client import MonitorClient

    invocation = invocation_of(ctx)
    client = MonitorClient.of(invocation.settings)
    if version is None:
        plan = invocation.registry.plan(model)
        version = plan.champion if plan else None
    with console().status("Evidently compares the columns"):
        done = client.report(model, version, minutes=minutes, start=_moment(start), end=_moment(end), kind=kind.value)
    if out is not None:
        out.write_bytes(client.report_html(done))
    if as_json:
        print_json(done)
    else:
        console().print(client.describe_report(done))
        if out is not None:
            console().print(f"→ {out}")


def _moment(text: str | None) -> datetime | None:
    """A time as given on the command line; without a zone it is UTC.

    Raises:
        CommandError: it is no time.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"'{text[:40]}' is no time", "write it as 2026-01-31T12:00:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def rescore(
    ctx: typer.Context,
    start: Annotated[str, typer.Option("--from", help="Since when: 2026-03-01, a time with zone, or 24h.")] = "7d",
    end: Annotated[str | None, typer.Option("--to", help="Until when; default: everything after --from.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    version: Annotated[str | None, typer.Option("--version", help="Only of this version.")] = None,
    reference: Annotated[
        str | None, typer.Option("--with-reference", help="Version whose reference is used; default: each its own.")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    cpus: Annotated[int | None, typer.Option("--cpus", min=1, help="Processors, where Ray is started here.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Score recorded history again with the scores and references of today, and say what would be flagged now.

    Results are Parquet files in the state folder. Stopped at any time, the same call goes on where it was.

    Example: hardcase rescore --from 2026-03-01 --to 2026-03-08 --model digits
    """
    import time

    from deploy.rescore import EVER_NS, parse_time, run_rescore
    from monitoring.rescore import RescoreRequest

    now = time.time()
    request = RescoreRequest(
        start_ns=parse_time(start, now),
        end_ns=EVER_NS if end is None else parse_time(end, now),
        model=model,
        version=version,
        reference=reference,
    )
    run_rescore(invocation_of(ctx), request, local=local, cpus=cpus, as_json=as_json)


def erase(
    ctx: typer.Context,
    records: Annotated[list[str] | None, typer.Argument(help="Ids of the records.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file with an id on each line.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model; default: of every model.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until no copy is left; at most two minutes.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Erase records from every copy: log, archive, database, reports, results. Needs a running monitor.

    What a replica writes at the moment is erased when its segment is sealed, within capture.segment_age_s.

    Example: hardcase erase 3f2a9c-0000000012 --model faces
    """
    from deploy.erase import run_erase

    run_erase(invocation_of(ctx), records or [], file, model=model, wait=wait, as_json=as_json)
