"""The command that leads from a production answer to the versions trained on it, and back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json
from deploy.errors import CommandError


def lineage(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="RECORD|CASE|VERSION", help="A record's id, a case's, or a version.")],
    model: Annotated[
        str | None, typer.Option("--model", help="With a version, and where record ids are not unique.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """From a production answer to the versions trained on it, or from a version back to the answers behind it.

    Of a version give the model too, or write MODEL:VERSION. Needs a running monitor.

    Example: hardcase lineage digits:3
    """
    client = _client(ctx)
    found = _lineage(client, name, model)
    if as_json:
        print_json(found)
        return
    from rich.tree import Tree

    tree = Tree(found["about"])
    branch = tree.add(f"{len(found['records'])} answers")
    for r in found["records"][:20]:
        case = f" · case {r['case']}" if r["case"] else ""
        branch.add(f"record {r['record_id']} · {r['model']} {r['version']} said {r['predicted']}{case}")
    branch = tree.add(f"{len(found['said'])} times somebody said what is right")
    for s in found["said"][:20]:
        branch.add(f"{s['actor']}: {s['what']} {s['label'] if s['label'] is not None else ''} · case {s['case']}")
    branch = tree.add(f"{len(found['snapshots'])} data sets")
    for s in found["snapshots"]:
        d = s["dataset"]
        branch.add(f"snapshot {d['id']} · {s['rows']} of {d['rows']} rows · {d['name']}")
    branch = tree.add(f"{len(found['versions'])} versions trained on them")
    for v in found["versions"]:
        said = f" · snapshot {v['snapshot']}" if v["snapshot"] else " · trained elsewhere"
        made = branch.add(f"{v['model']} {v['version']}{said}" + (" · champion" if v["champion"] else ""))
        if v["training"]:
            made.add(f"turn {v['training']}: {v['stage'].replace('_', ' ')}")
        if v["gate"]:
            made.add(f"gate {v['gate']}: {v['gate_outcome']} · {client.base}/gates/{v['gate']}")
        if v["rollout"]:
            made.add(f"roll-out {v['rollout']}: {v['rollout_state'].replace('_', ' ')}")
        if v["mlflow"]:
            there = v["mlflow"]
            made.add(f"MLflow {there['name']}/{there['number']} · {there['url'] or 'no server configured'}")
            if there["run_url"]:
                made.add(f"MLflow run {there['run']} · {there['run_url']}")
    console().print(tree)


def _lineage(client: Any, name: str, model: str | None) -> Any:
    from deploy.errors import Missing

    if ":" in name and model is None:
        model, _, version = name.partition(":")
        return client.get(f"/api/lineage/version/{_quoted(model)}", version=version)
    if len(name) == 16 and set(name) <= set("0123456789abcdef"):
        try:
            return client.get(f"/api/lineage/case/{name}")
        except Missing:
            pass  # a record may have such an id, too
    if model is not None:
        try:
            return client.get(f"/api/lineage/version/{_quoted(model)}", version=name)
        except CommandError:
            pass  # it is no version of the model: then it is a record's id
    return client.get(f"/api/lineage/record/{_quoted(name)}", model=model)


def _client(ctx: typer.Context) -> Any:
    from deploy.monitor_client import MonitorClient

    return MonitorClient.of(invocation_of(ctx).settings)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
