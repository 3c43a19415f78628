"""`hardcase traffic ...`: who answers a model's requests, who is tried beside it, and how far every replica is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.context import JsonFlag, author, console, invocation_of, print_json, print_table
from deploy.cli.registry_commands import Author, Model, Reason, registry_history, show_plan

if TYPE_CHECKING:
    from deploy.cli.context import Invocation
    from deploy.convergence import ReplicaTraffic, TrafficStatus
    from export.contracts.traffic import TrafficPlan

WAIT_S = 60.0

Replicas = Annotated[
    list[str] | None,
    typer.Option("--replica", metavar="HOST:PORT", help="Ask these replicas instead of those that run here."),
]
Discover = Annotated[
    str | None,
    typer.Option("--discover", metavar="URL", help="Prometheus HTTP service discovery that lists the replicas."),
]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait until every replica follows; 0 does not wait.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

traffic_app = typer.Typer(no_args_is_help=True, help="Who answers a model's requests: champion, shadow, canary, pins.")


@traffic_app.command("status")
def traffic_status(
    ctx: typer.Context,
    model: Model,
    waiting: Annotated[bool, typer.Option("--wait", help="Wait until every replica follows the plan.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds that --wait waits at most.")] = WAIT_S,
    replica: Replicas = None,
    discover: Discover = None,
    as_json: JsonFlag = False,
) -> None:
    """The plan, and for each replica which revision of it has been applied, since when, and what is refused and why.

    With --wait the exit code is 0 when every replica follows the plan, 4 when one refuses a version or took a failing
    challenger out, and 1 when the time is over.

    Example: hardcase traffic status digits --wait
    """
    from deploy import convergence

    invocation = invocation_of(ctx)

    def addresses() -> list[str]:
        return convergence.find_replicas(invocation, replica or (), discover)

    if not waiting:
        _show(convergence.look(_plan(invocation, model), addresses()), as_json=as_json)
        return
    status = convergence.wait(lambda: _plan(invocation, model), addresses, timeout_s)
    _show(status, as_json=as_json)
    if not status.converged:
        raise typer.Exit(4 if status.stuck is not None else 1)


@traffic_app.command("set")
def traffic_set(
    ctx: typer.Context,
    model: Model,
    champion: Annotated[str | None, typer.Option("--champion", help="Version that answers.")] = None,
    challenger: Annotated[str | None, typer.Option("--challenger", help="Version that is tried beside it.")] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="shadow: runs beside; canary: answers a share; none: withdrawn.")
    ] = None,
    percent: Annotated[
        float | None, typer.Option("--percent", min=0, max=100, help="Share that the challenger gets.")
    ] = None,
    pin: Annotated[list[str] | None, typer.Option("--pin", help="Keep a version loaded for who names it.")] = None,
    unpin: Annotated[list[str] | None, typer.Option("--unpin", help="No longer keep it.")] = None,
    by: Author = "",
    reason: Reason = "",
    wait_s: Wait = 0.0,
    yes: Yes = False,
    as_json: JsonFlag = False,
) -> None:
    """Change a model's traffic plan in one step; what is not named stays. The same call again changes nothing.

    Replicas load what is missing in the background and follow between two requests; nobody restarts. On a terminal a
    change of who answers is asked about first.

    Example: hardcase traffic set digits --challenger 2 --mode canary --percent 5
    """
    from deploy.traffic_change import Change, changed

    invocation = invocation_of(ctx)
    registry = invocation.registry
    before = registry.plan(model)
    wanted = Change(
        champion=champion,
        challenger=challenger,
        mode=mode,
        percent=percent,
        pin=tuple(pin or ()),
        unpin=tuple(unpin or ()),
    )
    after = changed(registry, model, before, wanted)
    if before is not None and after == before:
        plan = before
    else:
        _confirm(before, after, asked=not yes and not as_json)
        plan = registry.set_plan(
            _signed(after, by or author(), reason), expected_revision=before.revision if before else 0
        )
    _settle(invocation, plan, wait_s, as_json=as_json)


@traffic_app.command("promote")
def traffic_promote(
    ctx: typer.Context,
    model: Model,
    by: Author = "",
    reason: Reason = "",
    wait_s: Wait = WAIT_S,
    yes: Yes = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the challenger the champion. It is loaded already, so replicas flip at their next look.

    Example: hardcase traffic promote digits -m "agrees on 99.8 %, faster"
    """
    from dataclasses import replace

    from deploy.errors import UsageError

    invocation = invocation_of(ctx)
    before = _plan(invocation, model)
    if before.challenger is None:
        raise UsageError(f"{model} has no challenger", f"`hardcase registry promote {model} VERSION` names a version")
    _confirm(before, replace(before, champion=before.challenger), asked=not yes and not as_json)
    plan = invocation.registry.promote(
        model, before.challenger, author=by or author(), reason=reason, expected_revision=before.revision
    )
    _settle(invocation, plan, wait_s, as_json=as_json)


@traffic_app.command("rollback")
def traffic_rollback(
    ctx: typer.Context,
    model: Model,
    by: Author = "",
    reason: Reason = "",
    wait_s: Wait = WAIT_S,
    as_json: JsonFlag = False,
) -> None:
    """Return to the champion before the present one; the same as `hardcase rollback`.

    Example: hardcase traffic rollback digits -m "errors on 2"
    """
    roll_back(ctx, model, by or author(), reason, wait_s, as_json=as_json)


@traffic_app.command("history")
def traffic_history(ctx: typer.Context, model: Model, as_json: JsonFlag = False) -> None:
    """Every traffic plan a model ever had, newest first; the same as `hardcase registry history`.

    Example: hardcase traffic history digits
    """
    registry_history(ctx, model, as_json)


def roll_back(ctx: typer.Context, model: str, by: str, reason: str, wait_s: float, *, as_json: bool) -> None:
    """Roll back, and wait for every replica."""
    from deploy.promotion import await_champion, take_back

    invocation = invocation_of(ctx)
    plan = take_back(invocation.registry, model, author=by, reason=reason)
    if wait_s > 0:
        await_champion(invocation, plan, wait_s)
    show_plan(plan, as_json=as_json)


def _plan(invocation: Invocation, model: str) -> TrafficPlan:
    plan = invocation.registry.plan(model)
    if plan is None:
        from deploy.errors import Missing

        raise Missing(f"model '{model}' has no traffic plan", f"`hardcase registry promote {model} VERSION` makes one")
    return plan


def _signed(plan: TrafficPlan, by: str, reason: str) -> TrafficPlan:
    from dataclasses import replace

    return replace(plan, author=by, reason=reason, rolled_back=None)


def _confirm(before: TrafficPlan | None, after: TrafficPlan, *, asked: bool) -> None:
    """Ask before somebody else answers everybody, when there is somebody to ask."""
    if before is None or before.champion is None or before.champion == after.champion:
        return
    if asked and sys.stdin.isatty():
        typer.confirm(
            f"{after.model}: version {after.champion} answers instead of {before.champion}. Go on?", abort=True
        )


def _settle(invocation: Invocation, plan: TrafficPlan, wait_s: float, *, as_json: bool) -> None:
    """Wait for the replicas if asked to, and show what came of it."""
    if wait_s <= 0:
        show_plan(plan, as_json=as_json)
        return
    from deploy import convergence

    if not convergence.find_replicas(invocation, (), None):
        show_plan(plan, as_json=as_json)
        return
    status = convergence.wait(lambda: plan, lambda: convergence.find_replicas(invocation, (), None), wait_s)
    _show(status, as_json=as_json)
    if not status.converged:
        raise typer.Exit(4 if status.stuck is not None else 1)


def _show(status: TrafficStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(status)
        return
    show_plan(status.plan, as_json=False)
    rows = ((r.address, r.revision or "-", r.answering or "-", r.since, r.standing, r.reason) for r in status.replicas)
    console().print()
    print_table(
        ("replica", "revision", "answers", "since", "state", "why"), rows, empty="No replica runs: `hardcase up`."
    )
    for replica in status.replicas:
        if replica.challenger is not None:
            console().print(_evidence(replica))
    if status.replicas:
        console().print("every replica follows the plan" if status.converged else "not every replica follows the plan")


def _evidence(replica: ReplicaTraffic) -> str:
    """One line about a challenger on a replica."""
    c = replica.challenger
    assert c is not None  # the caller looked
    head = f"{replica.address}  {c.version} {c.mode} {c.percent:g} %: "
    if c.mode == "canary":
        spared = sum(c.fallbacks.values())
        return head + f"{c.requests} requests, {c.failures} failed, {spared} answered by the champion instead"
    compared, offered = c.shadow.get("compared", 0), sum(c.shadow.values())
    text = f"{compared} of {offered} requests compared"
    if c.rows:
        ways = ", ".join(f"{n} by {k}" for k, n in c.different_rows.items()) or "none"
        text += f", {c.rows} rows, different: {ways}, largest difference {c.max_abs_difference:.3g}"
        text += f", {c.shadow_us_per_row} µs a row against {c.champion_us_per_row}"
    return head + text
