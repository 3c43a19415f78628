"""`hardcase registry ...`: models, versions, aliases and traffic plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.context import JsonFlag, author, console, invocation_of, print_json, print_table

if TYPE_CHECKING:
    from export.contracts.traffic import TrafficPlan
    from export.package import Package

Author = Annotated[str, typer.Option("--author", help="Who decides; default: you.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Why; kept in the history.")]
Model = Annotated[str, typer.Argument(help="Name of the model.")]
Version = Annotated[str, typer.Argument(help="Version, or an alias of one.")]

registry_app = typer.Typer(no_args_is_help=True, help="Models, versions, aliases and traffic plans in the registry.")


@registry_app.command("list")
def registry_list(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """All models, their versions and what answers.

    Example: hardcase registry list
    """
    registry = invocation_of(ctx).registry
    models = [
        {
            "model": name,
            "versions": registry.versions(name),
            "champion": plan.champion if (plan := registry.plan(name)) else None,
            "challenger": plan.challenger if plan else None,
            "mode": plan.mode if plan else None,
            "aliases": registry.aliases(name),
        }
        for name in registry.models()
    ]
    if as_json:
        print_json(models)
        return
    rows = (
        (m["model"], m["champion"] or "-", ", ".join(registry.versions(str(m["model"]))), _pairs(m["aliases"]))
        for m in models
    )
    print_table(
        ("model", "champion", "versions", "aliases"),
        rows,
        empty="The registry is empty: `hardcase export` or `hardcase import` makes a package, --register adds it.",
    )


@registry_app.command("show")
def registry_show(
    ctx: typer.Context,
    model: Model,
    version: Annotated[str | None, typer.Argument(help="Version or alias; none shows the model.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """One model's plan and versions, or everything that is known about one version.

    Example: hardcase registry show digits 1
    """
    from deploy.packaging import describe_model, describe_version

    registry = invocation_of(ctx).registry
    if version is None:
        facts = describe_model(registry, model)
    else:
        facts = describe_version(registry.package(model, registry.resolve(model, version)))
    if as_json:
        print_json(facts)
    else:
        _show_facts(facts)


@registry_app.command("add")
def registry_add(
    ctx: typer.Context,
    package: Annotated[Path, typer.Argument(help="Package folder.", exists=True, file_okay=False)],
    as_json: JsonFlag = False,
) -> None:
    """Check a package in a limited child process and copy it into the registry. Nothing is served by that alone.

    Example: hardcase registry add packages/digits-2
    """
    from deploy.packaging import admit_and_add

    added = admit_and_add(invocation_of(ctx).registry, package)
    show_package(added, "added to the registry", as_json=as_json)


@registry_app.command("remove")
def registry_remove(ctx: typer.Context, model: Model, version: Version, as_json: JsonFlag = False) -> None:
    """Delete a version that no plan and no alias names.

    Example: hardcase registry remove digits 1
    """
    invocation_of(ctx).registry.remove_version(model, version)
    if as_json:
        print_json({"removed": {"model": model, "version": version}})
    else:
        console().print(f"version {version} of {model} is removed")


@registry_app.command("promote")
def registry_promote(
    ctx: typer.Context, model: Model, version: Version, by: Author = "", reason: Reason = "", as_json: JsonFlag = False
) -> None:
    """Make a version the champion. Replicas load it in the background and flip when it is ready.

    Example: hardcase registry promote digits 2 -m "better on rotated"
    """
    registry = invocation_of(ctx).registry
    plan = registry.promote(model, registry.resolve(model, version), author=by or author(), reason=reason)
    show_plan(plan, as_json=as_json)


@registry_app.command("rollback")
def registry_rollback(
    ctx: typer.Context, model: Model, by: Author = "", reason: Reason = "", as_json: JsonFlag = False
) -> None:
    """Return to the champion before the present one.

    Example: hardcase registry rollback digits -m "errors on 2"
    """
    show_plan(invocation_of(ctx).registry.rollback(model, author=by or author(), reason=reason), as_json=as_json)


@registry_app.command("history")
def registry_history(ctx: typer.Context, model: Model, as_json: JsonFlag = False) -> None:
    """Every traffic plan a model ever had, newest first.

    Example: hardcase registry history digits
    """
    plans = invocation_of(ctx).registry.history(model)[::-1]
    if as_json:
        print_json(plans)
        return
    rows = ((p.revision, p.changed_at, p.champion or "-", _challenger(p), p.author, p.reason) for p in plans)
    print_table(("revision", "when", "champion", "challenger", "by", "reason"), rows, empty="No plan yet.")


@registry_app.command("alias")
def registry_alias(
    ctx: typer.Context,
    model: Model,
    alias: Annotated[str, typer.Argument(help="The alias.")],
    version: Annotated[str | None, typer.Argument(help="Version that it names; none takes the alias away.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a name stand for a version.

    Example: hardcase registry alias digits stable 1
    """
    registry = invocation_of(ctx).registry
    registry.set_alias(model, alias, version)
    if as_json:
        print_json(registry.aliases(model))
    else:
        console().print(_pairs(registry.aliases(model)) or f"{model} has no aliases")


@registry_app.command("pin")
def registry_pin(
    ctx: typer.Context, model: Model, version: Version, by: Author = "", reason: Reason = "", as_json: JsonFlag = False
) -> None:
    """Keep a version loaded for requests that name it.

    Example: hardcase registry pin digits 1
    """
    registry = invocation_of(ctx).registry
    plan = registry.pin(model, registry.resolve(model, version), author=by or author(), reason=reason)
    show_plan(plan, as_json=as_json)


@registry_app.command("unpin")
def registry_unpin(
    ctx: typer.Context, model: Model, version: Version, by: Author = "", reason: Reason = "", as_json: JsonFlag = False
) -> None:
    """No longer keep a version loaded.

    Example: hardcase registry unpin digits 1
    """
    registry = invocation_of(ctx).registry
    plan = registry.unpin(model, registry.resolve(model, version), author=by or author(), reason=reason)
    show_plan(plan, as_json=as_json)


def show_package(package: Package, what: str, *, as_json: bool) -> None:
    """Say what became of a package."""
    name, version = package.manifest.name, package.manifest.version
    if as_json:
        print_json({"model": name, "version": version, "digest": package.digest, "path": str(package.dir)})
    else:
        console().print(f"{name} {version} is {what}: {package.dir}\n{package.digest}")


def show_plan(plan: TrafficPlan, *, as_json: bool) -> None:
    """Print a traffic plan."""
    if as_json:
        print_json(plan)
        return
    _show_facts(
        {
            "model": plan.model,
            "champion": plan.champion or "-",
            "challenger": _challenger(plan),
            "pinned": ", ".join(plan.pinned) or "-",
            "revision": f"{plan.revision}, {plan.changed_at}, by {plan.author}",
            "reason": plan.reason or "-",
        }
    )


def _show_facts(facts: dict[str, object]) -> None:
    width = max(len(k) for k in facts)
    for key, value in facts.items():
        lines = value if isinstance(value, list | tuple) else [value]
        for i, line in enumerate(lines or ["-"]):
            console().print(f"{key if i == 0 else '':<{width}}  {line}")


def _challenger(plan: TrafficPlan) -> str:
    if plan.challenger is None:
        return "-"
    share = f" {plan.canary_percent:g} %" if plan.canary_percent else ""
    return f"{plan.challenger} ({plan.mode}{share})"


def _pairs(aliases: object) -> str:
    return ", ".join(f"{k} → {v}" for k, v in aliases.items()) if isinstance(aliases, dict) else ""
