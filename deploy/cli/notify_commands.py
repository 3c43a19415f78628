"""Commands about notifications: list, test, retry."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table
from deploy.errors import CommandError

notify_app = typer.Typer(no_args_is_help=True, help="Who is told what happened; needs a running monitor.")
ChannelArgument = Annotated[str | None, typer.Argument(help="Name of the channel; default: all.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(notify_app, name="notify", rich_help_panel="Data")


@notify_app.command("list")
def notify_list(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="Newest notices.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Channels, and the newest notices with what became of them.

    Example: hardcase notify list
    """
    from deploy.monitor_client import MonitorClient

    found = MonitorClient.of(invocation_of(ctx).settings).get("/api/notices", limit=limit)
    if as_json:
        print_json(found)
        return
    channels = [
        (c["name"], c["kind"], ", ".join(c["events"]) or "all", c["digest_at"], c["waiting"], c["sent"], c["dead"])
        for c in found["channels"]
    ]
    columns = ("channel", "kind", "events", "digest", "waiting", "sent", "given up")
    print_table(columns, channels, empty="No channel is set (notify in the settings).")
    notices = [
        (n["time"], n["severity"], n["title"], ", ".join(f"{d['channel']}: {d['state']}" for d in n["deliveries"]))
        for n in found["notices"]
    ]
    print_table(("time", "severity", "what happened", "told"), notices, empty="Nothing happened yet.")


@notify_app.command("test")
def notify_test(
    ctx: typer.Context,
    channel: ChannelArgument = None,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the outcome.")] = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Send a test notice and wait until it has arrived, or say why it has not.

    Example: hardcase notify test oncall
    """
    from deploy.monitor_client import MonitorClient

    client = MonitorClient.of(invocation_of(ctx).settings)
    tried = client.post("/api/notices/test", {"channel": channel})
    if not tried["channels"]:
        raise CommandError("no channel is set", "add one to `notify` in the settings")
    deliveries = _outcome(client, tried, wait_s)
    if as_json:
        print_json({"event": tried["event"], "deliveries": deliveries})
    else:
        print_table(
            ("channel", "state", "problem"), [(d["channel"], d["state"], d["problem"]) for d in deliveries], empty=""
        )
    late = [d["channel"] for d in deliveries if d["state"] != "sent"]
    if late or len(deliveries) < len(tried["channels"]):
        raise CommandError(f"not arrived: {', '.join(late) or 'the monitor has not tried yet'}")


@notify_app.command("retry")
def notify_retry(ctx: typer.Context, channel: ChannelArgument = None, as_json: JsonFlag = False) -> None:
    """Try notices again that were given up.

    Example: hardcase notify retry oncall
    """
    from deploy.monitor_client import MonitorClient

    done = MonitorClient.of(invocation_of(ctx).settings).post("/api/notices/retry", {"channel": channel})
    if as_json:
        print_json(done)
    else:
        console().print(f"{done['deliveries']} deliveries are tried again")


def _outcome(client: Any, tried: dict[str, Any], wait_s: float) -> list[dict[str, Any]]:
    """Deliveries of the test as soon as each was tried."""
    deadline = time.monotonic() + wait_s
    while True:
        notices = client.get("/api/notices", limit=100)["notices"]
        found: list[dict[str, Any]] = next((n["deliveries"] for n in notices if n["event"] == tried["event"]), [])
        if len(found) == len(tried["channels"]) and all(d["attempts"] for d in found):
            return found
        if time.monotonic() > deadline:
            return found
        time.sleep(0.5)
