"""`hardcase mlflow ...`: how the exchange with MLflow is doing, and fetching a version that was registered there."""

from __future__ import annotations

import re
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table
from deploy.cli.retrain_show import watch
from deploy.errors import CommandError, Refused, UsageError

if TYPE_CHECKING:
    from deploy.monitor_client import MonitorClient

mlflow_app = typer.Typer(
    no_args_is_help=True,
    help="MLflow: what it was told, and models that were registered there; needs a running monitor and "
    "`experiments.url` (docs/guides/experiments.md).",
)
ASK_EVERY_S = 0.5
FETCH_S = 900.0
_NAMED = re.compile(r"(?:models:/)?(?P<name>[^/@]+)/(?P<number>[0-9]{1,16})")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(mlflow_app, name="mlflow", rich_help_panel="Models")


@mlflow_app.command("status")
def mlflow_status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Whether MLflow answers, which versions of ours it has, and what was fetched from it.

    Example: hardcase mlflow status
    """
    found = _client(ctx).get("/api/mlflow")
    if as_json:
        print_json(found)
        return
    out = console()
    word = {True: "answers", False: f"does not answer: {found['problem']}", None: "was not called yet"}
    out.print(f"{found['url']} {word[found['answers']]}", markup=False, highlight=False)
    tags = "brings a version in" if found["imports"] else "is ignored (experiments.imports is off)"
    out.print(f"{found['runs']} trainings have a run there; the tag `hardcase: import` {tags}", highlight=False)
    rows = [(v["model"], v["version"], f"{v['name']}/{v['number']}", v["url"]) for v in found["versions"]]
    print_table(("model", "version", "there", "page"), rows, empty="No version is registered there yet.")
    pulled = [
        (f"{p['name']}/{p['number']}", p["state"], p["version"], p["training"], p["asked_by"] or "a tag", p["problem"])
        for p in found["pulled"]
    ]
    if pulled:
        print_table(("fetched", "state", "version", "turn", "asked by", "problem"), pulled, empty="")


@mlflow_app.command("pull")
def mlflow_pull(
    ctx: typer.Context,
    version: Annotated[
        str, typer.Argument(metavar="NAME/NUMBER", help="As MLflow names it: digits/7, or models:/digits/7.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Name of the model here; by default the one mirrored under that name.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is champion or not; exit code 4 without promotion.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="As --wait, and show each stage.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fetch a version that was registered in MLflow: it is checked, gated and rolled out as any other candidate.

    An ONNX model or a whole Hardcase package; pickles are never fetched. One that was refused is tried again.

    Example: hardcase mlflow pull digits/7 --follow
    """
    named = _NAMED.fullmatch(version)
    if named is None:
        raise UsageError(f"'{version}' names no version", "NAME/NUMBER, such as digits/7 or models:/digits/7")
    client = _client(ctx)
    asked = client.post("/api/mlflow/pull", named.groupdict() | ({"model": model} if model else {}))
    if not (wait or follow):
        if as_json:
            print_json(asked)
        else:
            console().print(_words(asked), markup=False, highlight=False)
        return
    taken = _fetched(client, asked, quiet=as_json)
    turn = watch(client, taken["training"], quiet=as_json, tell=follow)
    if as_json:
        print_json(taken | {"turn": turn})
    else:
        word = turn["stage"].replace("_", " ")
        console().print(f"version {turn['version']} of {turn['model']}: {word}. {turn['problem']}".strip())
    if turn["stage"] != "promoted":
        raise typer.Exit(4)


def _fetched(client: MonitorClient, asked: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Wait until it is a version here.

    Raises:
        Refused: it cannot become one.
        CommandError: MLflow does not answer, or it takes too long.
    """
    deadline = time.monotonic() + FETCH_S
    waiting = nullcontext() if quiet else console(stderr=True).status("fetching it and making a package of it")
    with waiting:
        while True:
            found = client.get("/api/mlflow")
            mine: dict[str, Any] = next(
                p for p in found["pulled"] if (p["name"], p["number"]) == (asked["name"], asked["number"])
            )
            if mine["state"] == "refused":
                raise Refused(f"{mine['name']}/{mine['number']} is refused: {mine['problem']}")
            if mine["training"]:
                break
            if time.monotonic() > deadline:
                raise CommandError(
                    f"it was not fetched within {FETCH_S:.0f} s: {found['problem'] or 'the model has another turn'}",
                    "`hardcase mlflow status` and `hardcase retrain status` say what it waits for",
                )
            time.sleep(ASK_EVERY_S)
    if not quiet:
        console().print(_words(mine), markup=False, highlight=False)
    return mine


def _words(one: dict[str, Any]) -> str:
    there = f"{one['name']}/{one['number']}"
    if one["state"] == "taken":
        return f"{there} is version {one['version']} of {one['model']}, turn {one['training']}"
    return f"{there} is going to be fetched for {one['model']}; `hardcase mlflow status` shows how far it is"


def _client(ctx: typer.Context) -> MonitorClient:
    from deploy.monitor_client import MonitorClient

    return MonitorClient.of(invocation_of(ctx).settings)
