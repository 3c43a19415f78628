"""How `hardcase retrain` shows a turn of the loop: live, as a policy's reasons, as facts."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from deploy.cli.context import console, print_table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from deploy.monitor_client import MonitorClient

ASK_EVERY_S = 0.5
ENDS = ("promoted", "rejected", "rolled_back", "failed", "cancelled")


def watch(client: MonitorClient, training: str, *, quiet: bool, tell: bool) -> dict[str, Any]:
    """Watch a turn to its end, with a bar that moves as the trainer says."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.fields[stage]:<12}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    out, since = console(), 0
    with Progress(*columns, console=out, disable=quiet or not sys.stdout.isatty(), transient=True) as bar:
        task = bar.add_task("", total=None, stage="")
        while True:
            events = client.get(f"/api/loop/trainings/{training}/events", since=since)
            since = events["next"]
            found: dict[str, Any] = client.get(f"/api/loop/trainings/{training}")["training"]
            if not quiet:
                for event in events["events"]:
                    if tell or event["kind"] == "stage":
                        out.print(_line(event), highlight=False, markup=False)
            _move(bar, task, found)
            if found["stage"] in ENDS and not events["events"]:
                return found
            time.sleep(ASK_EVERY_S)


def _move(bar: Progress, task: TaskID, turn: dict[str, Any]) -> None:
    steps = turn["steps"]
    bar.update(task, total=steps, completed=turn["step"] or 0, description=turn["note"], stage=turn["stage"])


def _line(event: dict[str, Any]) -> str:
    clock = str(event["at"])[11:19]
    if event["kind"] == "stage":
        return f"{clock}  {str(event['name']).replace('_', ' ')}" + (f": {event['text']}" if event["text"] else "")
    if event["kind"] == "metric":
        at = "" if event["step"] is None else f" at step {event['step']}"
        return f"{clock}    {event['name']} = {event['value']:.6g}{at}"
    return f"{clock}    {event['kind']}: {event['text'] or event['path'] or ''}"


def explain(found: dict[str, Any], dry_run: bool) -> None:
    """What happens or would happen, with every reason for and against."""
    out = console()
    would = "would happen" if dry_run else "happens"
    out.print(f"what {would}: {found['words']}")
    out.print(f"policy alone: {found['policy']['words']}")
    rows = [("yes" if r["holds"] else "no", r["name"], r["words"]) for r in found["reasons"]]
    print_table(("for it", "what", "because"), rows, empty="")
    snapshot = found["snapshot"]
    base = f"carried on from {snapshot['base'][:23]}" if snapshot["base"] else "nothing to carry on"
    out.print(f"snapshot: {snapshot['labels']} new labels, {snapshot['failures']} of them failures; {base}")
    out.print(
        f"trainer: {found['trainer'] or 'none'}; champion {found['champion']}, candidate {found['version'] or '?'}"
    )
    if found["training"]:
        out.print(f"training {found['training']} begins; `hardcase retrain follow {found['model']}` shows it")


def show(found: dict[str, Any]) -> None:
    """The facts of one turn."""
    turn, out = found["training"], console()
    out.print(f"training {turn['id']} of {turn['model']}, turn {turn['number']}: {turn['stage'].replace('_', ' ')}")
    facts = (
        ("because", turn["reason"]),
        ("asked by", turn["actor"]),
        ("approved by", turn["approved_by"]),
        ("champion", turn["champion"]),
        ("candidate", turn["version"]),
        ("snapshot", f"{turn['snapshot']} ({turn['rows']} rows)" if turn["snapshot"] else ""),
        ("trainer", turn["trainer"]),
        ("progress", f"{turn['step']} of {turn['steps']} {turn['note']}" if turn["step"] is not None else turn["note"]),
        ("metrics", ", ".join(f"{name} {value:.6g}" for name, value in sorted(turn["metrics"].items()))),
        ("gate", turn["gate_words"]),
        ("roll-out", turn["rollout"]),
        ("ended because", turn["problem"]),
    )
    print_table(("", ""), [(name, value) for name, value in facts if value], empty="")
