"""`hardcase gate`: is a candidate better than a reference, and nowhere worse? Needs no running monitor."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table

if TYPE_CHECKING:
    from monitoring.gate.job import GateResult

UNDECIDED = 7
RUN = "run"


class WithDefault(TyperGroup):
    """`hardcase gate CANDIDATE` is `hardcase gate run CANDIDATE`."""

    default_command = RUN

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name in where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [RUN, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


gate_app = typer.Typer(
    cls=WithDefault, no_args_is_help=True, help="Compare a candidate with a reference on labelled inputs."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(gate_app, name="gate", rich_help_panel="Models")


class Kind(StrEnum):
    """What a set is."""

    AUDITED = "audited"
    GOLDEN = "golden"
    FAILURES = "failures"
    OWN = "own"


@gate_app.command(RUN)
def gate_run(
    ctx: typer.Context,
    candidate: Annotated[str, typer.Argument(help="A package folder, or MODEL@VERSION.")],
    reference: Annotated[
        str, typer.Option("--reference", "-r", help="A package folder or MODEL@VERSION; default: the champion.")
    ] = "",
    audited: Annotated[
        list[Path] | None,
        typer.Option("--audited", metavar="FOLDER", help='Snapshot of random recent inputs: asked "better".'),
    ] = None,
    golden: Annotated[
        list[Path] | None, typer.Option("--golden", metavar="FOLDER", help='A fixed snapshot: asked "not worse".')
    ] = None,
    sets: Annotated[
        list[Path] | None, typer.Option("--set", metavar="FOLDER", help='Any other snapshot: asked "not worse".')
    ] = None,
    trained_on: Annotated[
        list[Path] | None,
        typer.Option("--trained-on", metavar="FOLDER", help="Snapshot whose training rows are left out of all sets."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", metavar="FILE|KEY=VALUE", help="Keys of gate.policy and gate.budgets: a YAML file, or one each."
        ),
    ] = None,
    not_worse: Annotated[
        bool, typer.Option("--not-worse", help='Ask "not worse" everywhere: for changes that shall lose nothing.')
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for everything that the gate leaves.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report for people here.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here.")] = None,
    openlineage: Annotated[Path | None, typer.Option("--openlineage", help="Write an OpenLineage event here.")] = None,
    ray: Annotated[str, typer.Option("--ray", help="Address of a Ray cluster that answers the inputs.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Hold a gate: both versions answer the same labelled inputs, and the differences are tested.

    Exit code 0: passed. 1: failed. 7: undecided, the labels cannot tell. 2: wrong arguments. Sets are snapshot folders
    (`hardcase dataset`); test rows are taken where there are any. Sets of the settings (`gate.sets`) come with them.

    Example: hardcase gate packages/digits-2 --reference packages/digits-1 --audited sets/audited --html report.html
    """
    from deploy.gate.asked import Asking, hold

    asking = Asking(
        candidate=candidate,
        reference=reference,
        sets=(
            *((Kind.AUDITED.value, path) for path in audited or ()),
            *((Kind.GOLDEN.value, path) for path in golden or ()),
            *((Kind.OWN.value, path) for path in sets or ()),
        ),
        trained_on=tuple(trained_on or ()),
        policy=tuple(policy or ()),
        not_worse=not_worse,
        out=out,
        ray=ray,
    )
    with (
        console(stderr=True).status("") as shown,
        hold(invocation_of(ctx), asking, lambda step, of, text: shown.update(f"{step:,} of {of:,}: {text}")) as held,
    ):
        for wanted, name in ((html, "report.html"), (junit, "junit.xml"), (openlineage, "openlineage.json")):
            if wanted is not None:
                wanted.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(held.output / name, wanted)
        result = held.result
    if as_json:
        print_json(result)
    else:
        _show(result)
    code = {"passed": 0, "failed": 1, "undecided": UNDECIDED}[result.outcome.value]
    if code:
        raise typer.Exit(code)


@gate_app.command("plan")
def gate_plan(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a model: its audited labels are counted by the monitor.")] = "",
    labels: Annotated[
        int | None, typer.Option("--labels", "-n", min=0, help="How many audited labels; then no monitor is asked.")
    ] = None,
    audited: Annotated[
        list[Path] | None, typer.Option("--audited", metavar="FOLDER", help="Count the rows of a snapshot instead.")
    ] = None,
    changed: Annotated[
        float,
        typer.Option("--changed", min=0.0, max=1.0, help="Share of inputs on which exactly one version will be right."),
    ] = 0.05,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="FILE|KEY=VALUE", help="As for `gate run`.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a gate could tell with the labels there are, before anything is labelled or trained.

    Example: hardcase gate plan digits

    Example: hardcase gate plan --labels 500 --policy effect=0.05
    """
    from deploy.gate.asked import count_labels, policy_of
    from monitoring.gate.plan import plan_gate

    invocation = invocation_of(ctx)
    wanted, _ = policy_of(invocation, tuple(policy or ()))
    plan = plan_gate(count_labels(invocation, model, labels, audited or ()), wanted, changed)
    if as_json:
        print_json(plan)
        return
    console().print(plan.words)
    rows = ((f"{100 * s.effect:g} points", f"{s.power:.0%}", f"{s.needed:,}" if s.needed else "-") for s in plan.sights)
    print_table(("gain", "seen with", f"labels for {wanted.power:.0%}"), rows, empty="")


def _show(result: GateResult) -> None:
    from rich.text import Text

    colours = {"passed": "green", "failed": "red", "undecided": "yellow"}
    slices = [c for c in result.checks if c.kind.value == "slice"]
    shown = [c for c in result.checks if c.kind.value != "slice" or c.outcome.value != "passed"]
    print_table(
        ("check", "about", "outcome", "in words"),
        ((c.kind.value.replace("_", " "), c.subject, c.outcome.value, c.words) for c in shown),
        empty="",
    )
    if slices:
        worse = sum(c.outcome.value == "failed" for c in slices)
        console().print(f"{len(slices)} slices were tested; worse on {worse}")
    kept, lost = len(result.positive_flips), len(result.negative_flips)
    console().print(f"{kept} answers changed for the better, {lost} for the worse")
    console().print(Text(result.words, style=colours[result.outcome.value]))
