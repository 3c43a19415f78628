"""`hardcase demo`: find or start a running system, tell the story, print and write what came out of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from deploy.addresses import addresses
from deploy.cli.context import Invocation, console, print_json, print_table
from deploy.demo import findings as f
from deploy.demo.loop_story import tell_loop
from deploy.demo.overlay import FAULTS, overlay
from deploy.demo.page import render
from deploy.demo.story import tell
from deploy.demo.systems import (
    DAY_FLAGS,
    MODEL,
    await_running,
    own_settings,
    own_system,
    running_settings,
    why_not_here,
)
from deploy.demo.told_page import render_told
from deploy.errors import Missing
from deploy.monitor_client import MonitorClient
from deploy.paths import StatePaths
from deploy.run_state import write_atomically
from deploy.settings import Settings
from deploy.settings_findings import CaseSettings
from export.registry import Registry


def run_demo(invocation: Invocation, *, quick: bool, day: bool, as_json: bool) -> int:
    """Tell the story; returns the exit code: 0 when every claim holds.

    Args:
        invocation: This call of the command.
        quick: Fewer requests.
        day: Only a day: traffic, shifts, feedback, what was found.
        as_json: Print the report as JSON.
    """
    out = console(stderr=as_json)
    run = await_running(invocation.paths)
    settings = invocation.settings if run is None else running_settings(invocation.paths)
    if day:
        return run_day(invocation.paths.make(), settings, out, running=run is not None, quick=quick, as_json=as_json)
    if run is not None:
        client = MonitorClient.of(settings)
        why = why_not_here(settings, invocation.paths, client, invocation.paths.demo / FAULTS)
        client.close()
        if not why:
            out.print(f"Using the system that runs since {run.started_at}. Its console: {client.base}/")
            return run_story_on(invocation.paths.make(), settings, out, quick=quick, as_json=as_json)
        out.print(f"{why[0].upper()}{why[1:]}, and is left alone.")
    return run_story(invocation.paths.make(), settings, out, beside=run is not None, quick=quick, as_json=as_json)


def run_story(paths: StatePaths, settings: Settings, out: Console, *, beside: bool, quick: bool, as_json: bool) -> int:
    """The whole story on a system of its own, in a state folder of its own, which is emptied before."""
    faults = paths.demo / FAULTS
    faults.unlink(missing_ok=True)
    plain = own_settings(settings, paths.demo / "story", overlay(faults, quick=quick), beside=beside)
    with own_system(plain, paths.logs / "demo-up.log", out) as own:
        out.print(f"Its console: {addresses(own.settings)['console']}/")
        shown: dict[str, Any] = {"overlay": overlay(Path(FAULTS), quick=quick)}  # no path of this machine
        return _tell(own.settings, StatePaths(own.state), paths, shown, out, quick=quick, as_json=as_json)


def run_story_on(paths: StatePaths, settings: Settings, out: Console, *, quick: bool, as_json: bool) -> int:
    """The whole story on the running system."""
    (paths.demo / FAULTS).unlink(missing_ok=True)
    shown: dict[str, Any] = {"overlay": "none: a running system was used"}
    return _tell(settings, paths, paths, shown, out, quick=quick, as_json=as_json)


def _tell(
    settings: Settings,
    own: StatePaths,
    paths: StatePaths,
    chosen: dict[str, Any],
    out: Console,
    *,
    quick: bool,
    as_json: bool,
) -> int:
    where = addresses(settings)
    client = MonitorClient.of(settings)
    try:
        told = tell_loop(
            serving=where["inference"],
            grpc=where.get("grpc"),
            client=client,
            registry=Registry(own.registry),
            faults=paths.demo / FAULTS,
            log=paths.logs / "demo-clients.log",
            out=out,
            quick=quick,
            settings=chosen,
        )
    finally:
        client.close()
        (paths.demo / FAULTS).unlink(missing_ok=True)  # a running system's trainer is in order afterwards
    write_atomically(paths.demo / "report.json", json.dumps(asdict(told), indent=1))
    write_atomically(paths.demo / "report.html", render_told(told))
    if as_json:
        print_json(told)
        return 0 if told.holds else 1
    for claim in told.claims:
        mark = Text("holds  ", style="green") if claim.holds else Text("FAILS  ", style="bold red")
        out.print(mark + Text(f"{claim.name}: {claim.detail}"))
    out.print(f"\nReport: {paths.demo / 'report.html'}   ({told.seconds:.0f} s)")
    return 0 if told.holds else 1


def run_day(paths: StatePaths, settings: Settings, out: Console, *, running: bool, quick: bool, as_json: bool) -> int:
    """A day: healthy traffic, shifts, feedback, what was flagged and how much of it was right.

    On the running system, if scores may open enough cases there; otherwise on one of its own.
    """
    started = time.monotonic()
    if running and settings.monitor.cases.scored_per_window >= DAY_FLAGS:
        found = _day_on(settings, paths, paths, out, quick=quick)
    else:
        sections = {"monitor": {"window_s": 5, "cases": CaseSettings().model_dump(mode="json")}}
        plain = own_settings(settings, paths.demo / "day", sections, beside=running)
        with own_system(plain, paths.logs / "demo-up.log", out) as own:
            found = _day_on(own.settings, StatePaths(own.state), paths, out, quick=quick)
    if as_json:
        print_json(found)
    else:
        show(found, out)
        out.print(f"\nReport: {paths.demo / 'report.html'}   ({time.monotonic() - started:.0f} s)")
    return 0 if found.holds else 1


def _day_on(settings: Settings, own: StatePaths, paths: StatePaths, out: Console, *, quick: bool) -> f.Findings:
    if MODEL not in Registry(own.registry).models():
        raise Missing(
            f"the registry has no model '{MODEL}', which the demo is about",
            "`hardcase up` on an empty registry makes it, or: hardcase export deploy.demo.train:package --register",
        )
    client = MonitorClient.of(settings)
    try:
        found = tell(addresses(settings)["inference"], client, settings.monitor.window_s, out, quick=quick)
        write_atomically(paths.demo / "report.json", json.dumps(asdict(found), indent=1))
        write_atomically(paths.demo / "report.html", render(found, client))
    finally:
        client.close()
    return found


def show(found: f.Findings, out: Console) -> None:
    """The end of the story, for people."""
    out.print(Text("\nAccuracy, measured from feedback", style="bold"))
    print_table(
        ("part of the day", "requests", "accuracy", "mean confidence", ""),
        (
            (p.title, p.requests, f.percent(p.accuracy), f.percent(p.confidence), "shifted" if p.harmful else "")
            for p in found.phases
        ),
        empty="Nothing was sent.",
    )
    out.print(Text("Drift signals over their threshold (largest first)", style="bold"))
    print_table(
        ("of", "method", "subject", "before", "under", "threshold"),
        (
            (s.kind, s.method, s.subject, _number(s.before), _number(s.under), _number(s.threshold))
            for s in [s for s in found.signals if s.exceeded_under][:10]
        ),
        empty="None.",
    )
    wrong = sum(c.correct is False for c in found.cases)
    out.print(Text(f"Flagged cases of the shifted part: {wrong} of the top {len(found.cases)} are wrong", style="bold"))
    print_table(
        ("answer", "said", "truth", "P(wrong)", "part", "link"),
        (
            ("wrong" if c.correct is False else "right", c.predicted, c.label, _number(c.p_wrong), c.phase, c.link)
            for c in found.cases
        ),
        empty="None.",
    )
    for claim in found.claims:
        mark = Text("holds  ", style="green") if claim.holds else Text("FAILS  ", style="bold red")
        out.print(mark + Text(f"{claim.name}: {claim.detail}"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
