"""Commands about slices and labelling batches: list, show, act, batch, test set."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table

slices_app = typer.Typer(
    no_args_is_help=True, help="Groups of requests that fail more than the rest; needs a running monitor."
)
SliceArgument = Annotated[str, typer.Argument(help="Id of the slice.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(slices_app, name="slices", rich_help_panel="Data")


@slices_app.command("list")
def slices_list(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="new, acknowledged, batched, fixed, …")] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Only theirs.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Slices of the newest search first, the worst first.

    Example: hardcase slices list --state regressed
    """
    found = _client(ctx).get("/api/slices", model=model, state=state, owner=owner)
    if as_json:
        print_json(found)
        return
    columns = ("id", "slice", "model", "state", "fail", "overall", "requests", "waiting", "owner", "last seen")
    rows = [
        (
            *(s["id"], s["words"], s["model"], s["state"] + (f" in {s['fixed_in']}" if s["fixed_in"] else "")),
            *(f"{s['failure_rate']:.0%}", f"{s['overall_rate']:.1%}", s["rows"], s["waiting"], s["owner"] or ""),
            s["last_at"],
        )
        for s in found["slices"]
    ]
    print_table(columns, rows, empty="No slices.")


@slices_app.command("show")
def slices_show(ctx: typer.Context, slice_id: SliceArgument, as_json: JsonFlag = False) -> None:
    """One slice: how often it fails, what was done about it, and its cases.

    Example: hardcase slices show 3f6c1a9be204
    """
    client = _client(ctx)
    found = client.get(f"/api/slices/{_quoted(slice_id)}")
    history = client.get(f"/api/slices/{_quoted(slice_id)}/history")
    if as_json:
        print_json(found | {"history": history["events"]})
        return
    console().print(found["sentence"], highlight=False, markup=False)
    console().print(f"state {found['state']}, owner {found['owner'] or 'nobody'}, {found['waiting']} cases wait")
    rows = [(e["time"], e["actor"], e["kind"], e["before"], e["after"]) for e in history["events"]]
    print_table(("when", "who", "what", "from", "to"), rows, empty="Nobody has done anything about it yet.")
    print_table(("case",), [(case,) for case in found["cases"]], empty="None of its requests is kept as a case.")


@slices_app.command("act")
def slices_act(
    ctx: typer.Context,
    slice_id: SliceArgument,
    what: Annotated[
        str,
        typer.Argument(help="acknowledge, own, fix, ignore, reopen, merge, unmerge, split, comment, watch or unwatch."),
    ],
    value: Annotated[
        str | None,
        typer.Argument(
            help="What it needs: an owner, a version, how many times, a slice, an attribute, a text, a rate."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Do something about a slice.

    Example: hardcase slices act 3f6c1a9be204 fix 4
    """
    needs = {"own": "owner", "fix": "version", "ignore": "grows", "merge": "into"}
    needs |= {"split": "by", "comment": "text", "watch": "limit"}
    body: dict[str, Any] = {"act": what}
    if value is not None and what in needs:
        body[needs[what]] = value
    found = _client(ctx).post(f"/api/slices/{_quoted(slice_id)}/acts", body)
    _say(found, f"{found['words']}: {found['state']}", as_json)


@slices_app.command("batch")
def slices_batch(
    ctx: typer.Context,
    slice_id: SliceArgument,
    name: Annotated[str | None, typer.Option("--name", help="Default: what the slice is about.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Cases at most, the most telling first.")] = 500,
    as_json: JsonFlag = False,
) -> None:
    """Make a labelling batch of a slice's cases.

    Example: hardcase slices batch 3f6c1a9be204 --name "dark eights"
    """
    body = {"limit": limit} | ({"name": name} if name else {})
    found = _client(ctx).post(f"/api/slices/{_quoted(slice_id)}/batch", body)
    _say(found, f"batch {found['id']}: {found['name']}, {found['waiting']} of {found['cases']} cases wait", as_json)


@slices_app.command("test-set")
def slices_test_set(
    ctx: typer.Context,
    slice_id: SliceArgument,
    name: Annotated[str, typer.Argument(help="Of the test set; names are never used again.")],
    as_json: JsonFlag = False,
) -> None:
    """Make a protected test set of a slice's labelled cases.

    Example: hardcase slices test-set 3f6c1a9be204 "dark eights of May"
    """
    found = _client(ctx).post(f"/api/slices/{_quoted(slice_id)}/test-set", {"name": name})
    _say(found, f"test set {found['id']}: {found['name']}, {found['items']} failures", as_json)


@slices_app.command("batches")
def slices_batches(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Labelling batches with their progress.

    Example: hardcase slices batches
    """
    found = _client(ctx).get("/api/batches")
    if as_json:
        print_json(found)
        return
    rows = [
        (b["id"], b["name"], b["model"] or "", b["state"], b["waiting"], b["decided"], b["created_by"])
        for b in found["batches"]
    ]
    print_table(("id", "name", "model", "state", "waiting", "decided", "by"), rows, empty="No batches.")


def _client(ctx: typer.Context) -> Any:
    from deploy.monitor_client import MonitorClient

    return MonitorClient.of(invocation_of(ctx).settings)


def _say(found: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        console().print(text, highlight=False, markup=False)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
