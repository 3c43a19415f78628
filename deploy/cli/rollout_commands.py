"""`hardcase rollout ...`: begin, watch and steer roll-outs of a running monitor."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table
from deploy.errors import CommandError, Missing, Refused

if TYPE_CHECKING:
    from deploy.monitor_client import MonitorClient

rollout_app = typer.Typer(
    no_args_is_help=True, help="New versions step by step, on evidence, and back by themselves; needs a monitor."
)
Which = Annotated[str, typer.Argument(metavar="MODEL|ID", help="A model, for its newest roll-out, or a roll-out's id.")]
Note = Annotated[str, typer.Option("--reason", "-m", help="Why; kept in the log.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it has ended.")]
_ID = re.compile(r"[0-9a-f]{16}")
_LOOK_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(rollout_app, name="rollout", rich_help_panel="Models")


@rollout_app.command("start")
def rollout_start(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[str, typer.Argument(help="A registered version or alias.")],
    disagreement: Annotated[
        float | None,
        typer.Option("--disagreement", help="Share of requests that it is expected to answer otherwise.", min=0, max=1),
    ] = None,
    watch: Watch = False,
    as_json: JsonFlag = False,
) -> None:
    """Roll a registered version out by hand: shadow, canary steps, champion, as the settings say.

    With --watch the exit code is 0 when it is promoted and 4 when it is rolled back or aborted.

    Example: hardcase rollout start digits 2 --watch
    """
    invocation = invocation_of(ctx)
    body = {"model": model, "version": invocation.registry.resolve(model, version), "disagreement": disagreement}
    _tell(_client(ctx), _client(ctx).post("/api/rollouts", body), watch=watch, as_json=as_json)


@rollout_app.command("status")
def rollout_status(
    ctx: typer.Context,
    which: Annotated[str, typer.Argument(metavar="[MODEL|ID]", help="Without one: every roll-out.")] = "",
    watch: Watch = False,
    as_json: JsonFlag = False,
) -> None:
    """Where a roll-out stands and why: steps, evidence against and for the version, and what happened.

    Example: hardcase rollout status digits --watch
    """
    client = _client(ctx)
    if which:
        _tell(client, _find(client, which), watch=watch, as_json=as_json)
        return
    found = client.get("/api/rollouts")
    if as_json:
        print_json(found)
        return
    rows = [
        (r["id"], r["model"], r["candidate"], r["state"], r["step_words"], f"{r['exposed_share']:.2%}", r["reason"])
        for r in found["rollouts"]
    ]
    columns = ("id", "model", "version", "state", "step", "answered", "why")
    print_table(columns, rows, empty="No roll-outs yet. `hardcase rollout start MODEL VERSION` begins one.")


@rollout_app.command("pause")
def rollout_pause(ctx: typer.Context, which: Which, note: Note = "", as_json: JsonFlag = False) -> None:
    """No step forward. Evidence against the version still takes it back.

    Example: hardcase rollout pause digits -m "release freeze"
    """
    _ask(ctx, which, "pause", note, as_json=as_json)


@rollout_app.command("resume")
def rollout_resume(ctx: typer.Context, which: Which, note: Note = "", as_json: JsonFlag = False) -> None:
    """Go on with the step that it was in.

    Example: hardcase rollout resume digits
    """
    _ask(ctx, which, "resume", note, as_json=as_json)


@rollout_app.command("promote")
def rollout_promote(
    ctx: typer.Context, which: Which, note: Note = "", watch: Watch = False, as_json: JsonFlag = False
) -> None:
    """To the last step now, without waiting for evidence; in its bake time: keep it for good.

    Example: hardcase rollout promote digits -m "seen enough"
    """
    _ask(ctx, which, "promote", note, watch=watch, as_json=as_json)


@rollout_app.command("abort")
def rollout_abort(ctx: typer.Context, which: Which, note: Note = "", as_json: JsonFlag = False) -> None:
    """Withdraw the version; in its bake time the champion before it answers again.

    Example: hardcase rollout abort digits -m "wrong weights"
    """
    _ask(ctx, which, "abort", note, as_json=as_json)


def _ask(ctx: typer.Context, which: str, what: str, note: str, *, watch: bool = False, as_json: bool = False) -> None:
    client = _client(ctx)
    identity = _find(client, which)["id"]
    asked = client.post(f"/api/rollouts/{identity}/{what}", {"note": note})
    until = time.monotonic() + 10
    while asked["asked"] is not None and time.monotonic() < until:  # it is done within a second
        time.sleep(0.2)
        asked = client.get(f"/api/rollouts/{identity}")
    if asked["asked"] is not None:
        raise CommandError(f"the monitor has not come to it yet: {what} of {identity} is noted")
    _tell(client, asked, watch=watch, as_json=as_json, judge=False)


def _find(client: MonitorClient, which: str) -> Any:
    if _ID.fullmatch(which):
        return client.get(f"/api/rollouts/{quote(which, safe='')}")
    found = client.get("/api/rollouts", model=which, limit=1)["rollouts"]
    if not found:
        raise Missing(f"model '{which}' has no roll-out", f"`hardcase rollout start {which} VERSION` begins one")
    return client.get(f"/api/rollouts/{found[0]['id']}")


def _tell(client: MonitorClient, one: Any, *, watch: bool, as_json: bool, judge: bool = True) -> None:
    """Show it; with `watch` every new entry of its log and, on a terminal, a line of where it stands."""
    if not watch:
        print_json(one) if as_json else _show(one)
        return
    seen = 0
    with console().status("") as status:
        while True:
            for entry in one["events"][seen:]:
                if not as_json:
                    console().print(f"{entry['time'][11:19]}  {entry['words']}", highlight=False, markup=False)
            seen = len(one["events"])
            if one["ended"] is not None:
                break
            status.update(f"{one['step_words']}: {one['reason']}")
            time.sleep(_LOOK_S)
            one = client.get(f"/api/rollouts/{one['id']}")
    if as_json:
        print_json(one)
    if judge and one["state"] != "promoted":
        raise Refused(f"{one['model']} {one['candidate']} was {one['state'].replace('_', ' ')}: {one['reason']}")


def _show(one: Any) -> None:
    against = f" against {one['champion']}" if one["champion"] else ""
    console().print(
        f"{one['model']} {one['candidate']}{against}: {one['state'].replace('_', ' ')}, {one['step_words']}",
        highlight=False,
        markup=False,
    )
    console().print(one["reason"], highlight=False, markup=False)
    ledger = one["ledger"]
    console().print(
        f"answered by it before its last step: {ledger['exposed']} of {ledger['answered']} "
        f"({ledger['exposed_share']:.2%}, limit {ledger['limit']:.1%})",
        highlight=False,
    )
    rows = [(s["words"], s["state"], f"{s['dwell_s']:g} s", s["requests"], ", ".join(s["prove"])) for s in one["steps"]]
    print_table(("step", "state", "time", "requests", "to be proved"), rows, empty="")
    readings = [
        (
            *(r["words"], _share(r["rate"]), _share(r["reference"]), r["requests"]),
            *(f"{r['against']:.0%}", f"{r['proved']:.0%}" + (" asked" if r["asked"] else "")),
        )
        for r in one["readings"]
    ]
    print_table(
        ("share of", "candidate", "champion", "requests", "against it", "proved"), readings, empty="No evidence yet."
    )
    log = [(e["time"], e["actor"], e["words"], e["revision"]) for e in one["events"]]
    print_table(("when", "who", "what", "plan"), log, empty="")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _client(ctx: typer.Context) -> MonitorClient:
    from deploy.monitor_client import MonitorClient  # it needs the command's context, which this is a part of

    return MonitorClient.of(invocation_of(ctx).settings)
