"""`hardcase retrain ...`: train a model again, see where it stands, approve, end it, read what it says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table
from deploy.cli.reproduce_command import retrain_reproduce
from deploy.cli.retrain_show import explain, show, watch
from deploy.errors import CommandError

if TYPE_CHECKING:
    from deploy.monitor_client import MonitorClient

START = "start"


class DefaultGroup(TyperGroup):
    """`hardcase retrain MODEL` is `hardcase retrain start MODEL`."""

    default_command = START

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in where none is named."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [START, *args]
        return super().parse_args(ctx, args)


retrain_app = typer.Typer(
    cls=DefaultGroup,
    no_args_is_help=True,
    help="Train a model again on what was labelled, prove that it is better, roll it out; needs a running monitor. "
    "`hardcase retrain MODEL` is short for `hardcase retrain start MODEL`.",
)
Training = Annotated[str, typer.Argument(help="Id of the training, or the model whose newest one is meant.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever reads it later.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(retrain_app, name="retrain", rich_help_panel="Models")


@retrain_app.command(START)
def retrain_start(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(help="The model; not needed where there is one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen, and why.")] = False,
    reason: Reason = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has ended; exit code 4 without promotion.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="As --wait, and show what the trainer says.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a model now, or say what would happen.

    Neither the policy's conditions nor its cool-down hold back what a person asks; another turn under way does.

    Example: hardcase retrain digits --dry-run
    """
    client = _client(ctx)
    body = {"model": model or _only_model(client), "reason": reason, "dry_run": dry_run}
    found = client.post("/api/loop/retrain", body)
    if dry_run or not (wait or follow):
        if as_json:
            print_json(found)
        else:
            explain(found, dry_run)
        return
    if not as_json:
        console().print(f"training {found['training']} of {found['model']} begins: version {found['version']}")
    _end_with(watch(client, found["training"], quiet=as_json, tell=follow), as_json)


@retrain_app.command("status")
def retrain_status(
    ctx: typer.Context,
    training: Annotated[str | None, typer.Argument(help="Id of a training, or a model; default: all models.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Where models stand in the loop, and why or why not they are trained now.

    Example: hardcase retrain status
    """
    client = _client(ctx)
    if training is not None:
        found = client.get(f"/api/loop/trainings/{_training(client, training)}")
        if as_json:
            print_json(found)
        else:
            show(found)
        return
    found = client.get("/api/loop")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(one["model"], one["champion"] or "", one["trainer"] or "none"),
            (one["turn"]["stage"] if one["turn"] else one["last"]["stage"] if one["last"] else ""),
            (one["turn"] or one["last"] or {}).get("id", ""),
            (one["verdict"] or {"words": "no version answers"})["words"],
        )
        for one in found["models"]
    ]
    print_table(("model", "champion", "trainer", "stage", "training", "policy"), rows, empty="No models.")


@retrain_app.command("list")
def retrain_list(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Turns of the loop, the newest first.

    Example: hardcase retrain list --model digits
    """
    found = _client(ctx).get("/api/loop/trainings", model=model, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (t["id"], t["model"], t["version"], t["stage"], t["asked_at"], t["actor"], t["problem"] or t["reason"])
        for t in found["trainings"]
    ]
    print_table(("id", "model", "version", "stage", "asked", "by", "why"), rows, empty="Nothing was trained again yet.")


@retrain_app.command("decisions")
def retrain_decisions(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """What the policies decided, also not to train, the newest first.

    Example: hardcase retrain decisions --model digits
    """
    found = _client(ctx).get("/api/loop/decisions", model=model, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (d["at"], d["model"], d["decision"], d["looks"], d["training"] or "", d["words"]) for d in found["decisions"]
    ]
    print_table(("since", "model", "decision", "looks", "training", "because"), rows, empty="Nothing was decided yet.")


@retrain_app.command("approve")
def retrain_approve(ctx: typer.Context, training: Training, as_json: JsonFlag = False) -> None:
    """Approve a training that waits for it.

    Example: hardcase retrain approve digits
    """
    _act(ctx, training, "approve", "", as_json)


@retrain_app.command("reject")
def retrain_reject(ctx: typer.Context, training: Training, reason: Reason = "", as_json: JsonFlag = False) -> None:
    """Do not approve a training that waits for it.

    Example: hardcase retrain reject digits --reason "labels are not checked yet"
    """
    _act(ctx, training, "reject", reason, as_json)


@retrain_app.command("cancel")
def retrain_cancel(ctx: typer.Context, training: Training, reason: Reason = "", as_json: JsonFlag = False) -> None:
    """End a turn wherever it stands: its job is stopped, its roll-out withdrawn.

    Example: hardcase retrain cancel digits
    """
    _act(ctx, training, "cancel", reason, as_json)


@retrain_app.command("log")
def retrain_log(
    ctx: typer.Context,
    training: Training,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=5000)] = 200,
    gate: Annotated[bool, typer.Option("--gate", help="Of the gate's job instead.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """The end of what a training, or its gate, has printed.

    Example: hardcase retrain log digits -n 50
    """
    client = _client(ctx)
    asked = {"lines": lines, "gate": "true" if gate else None}
    found = client.get(f"/api/loop/trainings/{_training(client, training)}/log", **asked)
    if as_json:
        print_json(found)
    else:
        sys.stdout.write(found["text"])


@retrain_app.command("follow")
def retrain_follow(ctx: typer.Context, training: Training, as_json: JsonFlag = False) -> None:
    """Watch a turn until it has ended; exit code 4 when it ends without a promotion.

    Example: hardcase retrain follow digits
    """
    client = _client(ctx)
    _end_with(watch(client, _training(client, training), quiet=as_json, tell=True), as_json)


retrain_app.command("reproduce")(retrain_reproduce)


def _act(ctx: typer.Context, training: str, what: str, reason: str, as_json: bool) -> None:
    client = _client(ctx)
    body = {"reason": reason} if reason else {}
    found = client.post(f"/api/loop/trainings/{_training(client, training)}/{what}", body)
    if as_json:
        print_json(found)
        return
    said = {"approve": "approved", "reject": "is rejected", "cancel": "is being ended"}[what]
    console().print(f"training {found['id']} of {found['model']} {said}", highlight=False, markup=False)


def _end_with(turn: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(turn)
    else:
        word = turn["stage"].replace("_", " ")
        console().print(f"version {turn['version'] or '(none)'} of {turn['model']}: {word}. {turn['problem']}".strip())
    if turn["stage"] != "promoted":
        raise typer.Exit(4)


def _training(client: MonitorClient, name: str) -> str:
    """The id itself, or that of the newest turn of a model."""
    if len(name) == 12 and all(c in "0123456789abcdef" for c in name):
        return name
    found = client.get("/api/loop/trainings", model=name, limit=1)["trainings"]
    if not found:
        raise CommandError(f"no training of '{name}' is known", "`hardcase retrain list` shows all")
    return str(found[0]["id"])


def _only_model(client: MonitorClient) -> str:
    models = [one["model"] for one in client.get("/api/loop")["models"]]
    if len(models) != 1:
        raise CommandError("name the model", f"there are: {', '.join(models) or 'none'}")
    return str(models[0])


def _client(ctx: typer.Context) -> MonitorClient:
    from deploy.monitor_client import MonitorClient

    return MonitorClient.of(invocation_of(ctx).settings)
