"""Commands about alarms: list, show, silence."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.cli.context import JsonFlag, author, console, invocation_of, print_json, print_table

alarms_app = typer.Typer(
    no_args_is_help=True, help="Alarms on the audited error rate of models; needs a running monitor."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(alarms_app, name="alarms", rich_help_panel="Data")


@alarms_app.command("list")
def alarms_list(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only firing, recovering or resolved ones.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Open alarms, then past ones; and how every model is watched.

    Example: hardcase alarms list --state firing
    """
    from deploy.monitor_client import MonitorClient

    found = MonitorClient.of(invocation_of(ctx).settings).get("/api/alarms", model=model, state=state)
    if as_json:
        print_json(found)
        return
    columns = ("id", "model", "version", "promise", "state", "error rate", "above", "labels", "fired", "resolved")
    rows = [
        (
            *(a["id"], a["model"], a["version"], a["promise"], a["state"] + (", silenced" if a["silenced"] else "")),
            *(_percent(a["estimate"]), _percent(a["limit"]), a["labels"], a["fired_at"], a["resolved_at"]),
        )
        for a in found["alarms"]
    ]
    print_table(columns, rows, empty="No alarms.")
    watching = [
        (w["model"], w["version"], _percent(w["tolerance"]), w["labels"], w["problem"] or w["drift"]["text"])
        for w in found["watching"]
    ]
    print_table(("model", "version", "tolerance", "labels", "drift"), watching, empty="No model is watched yet.")


@alarms_app.command("show")
def alarms_show(
    ctx: typer.Context, alarm: Annotated[str, typer.Argument(help="Id of the alarm.")], as_json: JsonFlag = False
) -> None:
    """One alarm: what it rests on, its history, what moved beside it, and where its failing inputs are.

    Example: hardcase alarms show 26b550be91a1cdf7
    """
    from urllib.parse import quote

    from deploy.monitor_client import MonitorClient

    client = MonitorClient.of(invocation_of(ctx).settings)
    found = client.get(f"/api/alarms/{quote(alarm, safe='')}")
    if as_json:
        print_json(found)
        return
    for key in ("id", "model", "version", "promise", "state", "says", "tolerance_source", "labels", "errors"):
        console().print(f"{key:<18} {found[key]}")
    console().print(f"{'error rate':<18} {_percent(found['estimate'])} against {_percent(found['limit'])}")
    for event in found["events"]:
        console().print(f"{event['at']}  {event['state']:<10} {event['text']}")
    moved = ", ".join(f"{x['subject']} ({x['method']} {x['ratio']:.2g}x)" for x in found["moved"] or ())
    console().print(f"{'moved beside it':<18} {moved or 'nothing'}")
    console().print(f"{'failing inputs':<18} {client.base}{found['failing_inputs']}")
    console().print(f"{'page':<18} {client.base}{found['page']}")


@alarms_app.command("silence")
def alarms_silence(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; stays on record.")],
    minutes: Annotated[int, typer.Option("--minutes", min=1, max=43_200, help="For how long.")] = 60,
    promise: Annotated[str | None, typer.Option("--promise", help="lifetime or run_length; default: both.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Hold back the pages of a model for a while. Evidence and alarms go on.

    Example: hardcase alarms silence digits --minutes 90 --reason "retraining runs"
    """
    from deploy.monitor_client import MonitorClient

    body = {"model": model, "minutes": minutes, "promise": promise, "author": author(), "reason": reason}
    made = MonitorClient.of(invocation_of(ctx).settings).post("/api/silences", body)
    if as_json:
        print_json(made)
    else:
        console().print(f"silence {made['id']}: {model} until {made['until']}")


def _percent(value: float | None) -> str:
    return "not enough data" if value is None else f"{value:.1%}"
