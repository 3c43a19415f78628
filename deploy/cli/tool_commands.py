"""Commands of review about labelling tools: send cases, fetch labels, say where a case is and how tools are doing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table
from deploy.errors import CommandError, Missing
from monitoring.integrations.names import Tool

if TYPE_CHECKING:
    from deploy.monitor_client import MonitorClient

ToolOption = Annotated[Tool, typer.Option("--tool", help="The labelling tool.")]
WaitFlag = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]
LIMIT_S = 600.0
ASK_EVERY_S = 0.5


def add_to(review_app: typer.Typer) -> None:
    """Add the commands to `hardcase review`."""
    review_app.command("push")(review_push)
    review_app.command("pull")(review_pull)
    review_app.command("link")(review_link)
    review_app.command("tools")(review_tools)


def review_push(
    ctx: typer.Context,
    cases: Annotated[list[str] | None, typer.Argument(help="Ids of cases.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="The undecided cases of a labelling batch.")] = None,
    tool: ToolOption = Tool.LABEL_STUDIO,
    wait: WaitFlag = True,
    as_json: JsonFlag = False,
) -> None:
    """Send cases to a labelling tool, each as one task; what is there already is not sent again.

    While the tool is away the cases wait in the monitor.

    Example: hardcase review push --batch 4f6a01b2c3d4 --tool label-studio
    """
    client = _client(ctx)
    asked = client.post(f"/api/integrations/{tool.value}/push", {"batch": batch} if batch else {"cases": cases or []})
    state = _wait(client, tool, "sending", quiet=as_json) if wait else _state(client, tool)
    if as_json:
        print_json(asked | {"tool": state})
        return
    words = f"{asked['added']} cases to send, {asked['known']} were there already"
    console().print(words + (f", {asked['unknown']} are no cases" if asked["unknown"] else ""))
    _print_state(state)


def review_pull(
    ctx: typer.Context,
    tool: ToolOption = Tool.LABEL_STUDIO,
    everything: Annotated[
        bool, typer.Option("--all", help="Look at everything again, not only at what is new.")
    ] = False,
    wait: WaitFlag = True,
    as_json: JsonFlag = False,
) -> None:
    """Fetch annotations now. The monitor does so by itself every so often, and when the tool says that there are some.

    Example: hardcase review pull --tool label-studio
    """
    client = _client(ctx)
    before = client.post(f"/api/integrations/{tool.value}/pull", {"everything": everything})
    state = _wait(client, tool, "fetching", quiet=as_json, looked_after=before) if wait else before
    if as_json:
        print_json(state)
        return
    console().print(f"{state['pulled'] - before['pulled']} annotations taken over")
    _print_state(state)


def review_link(
    ctx: typer.Context,
    case: Annotated[str, typer.Argument(help="Id of the case.")],
    as_json: JsonFlag = False,
) -> None:
    """Where a case is in the labelling tools.

    Example: hardcase review link 26b550be91a1cdf7
    """
    found = _client(ctx).get(f"/api/cases/{case}/tasks")["tasks"]
    if as_json:
        print_json(found)
        return
    rows = [(t["tool"], t["state"], t["url"], t["problem"]) for t in found]
    print_table(("tool", "state", "address", "problem"), rows, empty="The case is in no labelling tool.")


def review_tools(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """How the configured labelling tools are doing, and what waits for them.

    Example: hardcase review tools
    """
    found = _client(ctx).get("/api/integrations")["tools"]
    if as_json:
        print_json(found)
        return
    rows = [
        (x["tool"], {None: "not called yet", True: "answers", False: "does not answer"}[x["answers"]],
         *(x["tasks"].get(state, 0) for state in ("waiting", "pushed", "labelled", "refused", "lost")), x["problem"])
        for x in found
    ]  # fmt: skip
    columns = ("tool", "state", "waiting", "there", "labelled", "refused", "lost", "problem")
    print_table(columns, rows, empty="No labelling tool is configured (integrations in the settings).")


def _client(ctx: typer.Context) -> MonitorClient:
    from deploy.monitor_client import MonitorClient

    return MonitorClient.of(invocation_of(ctx).settings)


def _state(client: MonitorClient, tool: Tool) -> dict[str, Any]:
    for state in client.get("/api/integrations")["tools"]:
        if state["tool"] == tool.value:
            found: dict[str, Any] = state
            return found
    raise Missing("this labelling tool is not configured (integrations in the settings)")


def _wait(
    client: MonitorClient, tool: Tool, doing: str, *, quiet: bool, looked_after: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Ask until nothing waits, or the tool turns out to be away."""
    deadline = time.monotonic() + LIMIT_S
    earlier = {p["project"]: p["looked_at"] for p in (looked_after or {}).get("projects", ())}
    with _bar(doing, quiet=quiet) as show:
        while True:
            state = _state(client, tool)
            waiting = state["tasks"].get("waiting", 0)
            show(waiting)
            unseen = any(p["looked_at"] == earlier.get(p["project"]) for p in state["projects"] if earlier)
            if state["answers"] is False:
                raise CommandError(
                    f"{tool.value} does not answer: {state['problem']}",
                    hint="nothing is lost: the monitor goes on trying, and sends and fetches by itself",
                )
            if not (unseen if looked_after is not None else waiting):
                return state
            if time.monotonic() > deadline:
                raise CommandError("it takes longer than ten minutes", hint="the monitor goes on by itself")
            time.sleep(ASK_EVERY_S)


@contextmanager
def _bar(doing: str, *, quiet: bool) -> Iterator[Any]:
    """Shows how many are left."""
    if quiet:
        yield lambda left: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(doing, total=None)
        most = 0

        def show(left: int) -> None:
            nonlocal most
            most = max(most, left)
            progress.update(task, total=most or None, completed=most - left)

        yield show


def _print_state(state: dict[str, Any]) -> None:
    tasks = ", ".join(f"{n} {name}" for name, n in state["tasks"].items() if n)
    console().print(f"{state['tool']}: {tasks or 'no tasks'}")
