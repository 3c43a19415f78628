"""`hardcase demo`: find or start a running system, tell the story, print and write what came out of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from deploy.addresses import addresses
from deploy.cli.context import Invocation, console, print_json, print_table
from deploy.demo import findings as f
from deploy.demo.loop_story import tell_loop
from deploy.demo.overlay import overlay, variables
from deploy.demo.page import render
from deploy.demo.story import tell
from deploy.demo.told_page import render_told
from deploy.errors import CommandError, Missing, UsageError
from deploy.log_tail import last_lines
from deploy.monitor_client import MonitorClient
from deploy.paths import StatePaths
from deploy.run_state import current_run, write_atomically
from deploy.settings import Settings
from deploy.settings_file import Loaded, load_settings
from export.registry import Registry

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
MODEL = "digits"


def run_demo(invocation: Invocation, *, quick: bool, day: bool, as_json: bool) -> int:
    """Tell the story; returns the exit code: 0 when every claim holds.

    Args:
        invocation: This call of the command.
        quick: Fewer requests.
        day: Only a day: traffic, shifts, what was found. Needs nothing that a running system might lack.
        as_json: Print the report as JSON.
    """
    out = console(stderr=as_json)
    if not day:
        run = current_run(invocation.paths)
        if run is None or not run.ready:
            return run_story(invocation, out, quick=quick, as_json=as_json)
        if any(MODEL in trainer.models for trainer in invocation.settings.retrain.trainers):
            return run_story_on(invocation, out, quick=quick, as_json=as_json)
        out.print(
            f"The running system has no trainer for '{MODEL}' (retrain.trainers), so this is a day without retraining. "
            "For the whole story stop it (`make down`) and run `make demo` again: it then starts a system of its own."
        )
    return run_day(invocation, out, quick=quick, as_json=as_json)


def run_story(invocation: Invocation, out: Console, *, quick: bool, as_json: bool) -> int:
    """The whole story on a system of its own, in a state folder of its own, which is emptied before."""
    paths = invocation.paths.make()
    state = paths.demo / "story"
    shutil.rmtree(state, ignore_errors=True)
    faults = paths.demo / "trainer.json"
    faults.unlink(missing_ok=True)
    settings = overlay(faults, quick=quick)
    environ = {**os.environ, **variables(settings), "HARDCASE__STATE_DIR": json.dumps(str(state))}
    loaded = load_settings(invocation.loaded.file, environ, Path.cwd())
    own = StatePaths(loaded.state)
    with running_system(loaded, own, paths.logs / "demo-up.log", out, environ):
        shown: dict[str, Any] = {"overlay": overlay(Path("trainer.json"), quick=quick)}  # no path of this machine
        return _tell(loaded.settings, own, paths, faults, shown, out, quick=quick, as_json=as_json)


def run_story_on(invocation: Invocation, out: Console, *, quick: bool, as_json: bool) -> int:
    """The whole story on the running system; its trainer must be the demo's for the bad candidates to be bad."""
    paths = invocation.paths.make()
    faults = paths.demo / "trainer.json"
    program = next(t.program for t in invocation.settings.retrain.trainers if MODEL in t.models)
    if str(faults) not in program:
        raise UsageError(
            f"the running system trains '{MODEL}' with something else than the demo's trainer",
            f"retrain.trainers: program must be [python, -m, deploy.demo.trainer, --faults, {faults}]; "
            "or stop the system (`make down`): then the demo starts one of its own",
        )
    shown: dict[str, Any] = {"overlay": "none: a running system was used"}
    return _tell(invocation.settings, invocation.paths, paths, faults, shown, out, quick=quick, as_json=as_json)


def _tell(
    settings: Settings,
    own: StatePaths,
    paths: StatePaths,
    faults: Path,
    chosen: dict[str, Any],
    out: Console,
    *,
    quick: bool,
    as_json: bool,
) -> int:
    where = addresses(settings)
    client = MonitorClient.of(settings)
    told = tell_loop(
        serving=where["inference"],
        grpc=where.get("grpc"),
        client=client,
        registry=Registry(own.registry),
        faults=faults,
        log=paths.logs / "demo-clients.log",
        out=out,
        quick=quick,
        settings=chosen,
    )
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


def run_day(invocation: Invocation, out: Console, *, quick: bool, as_json: bool) -> int:
    """A day: healthy traffic, shifts, feedback, what was flagged and how much of it was right."""
    started = time.monotonic()
    log = invocation.paths.make().logs / "demo-up.log"
    with running_system(invocation.loaded, invocation.paths, log, out):
        if MODEL not in invocation.registry.models():
            raise Missing(
                f"the registry has no model '{MODEL}', which the demo is about",
                "`hardcase up` on an empty registry makes it, or: hardcase export deploy.demo.train:package --register",
            )
        client = MonitorClient.of(invocation.settings)
        serving = addresses(invocation.settings)["inference"]
        found = tell(serving, client, invocation.settings.monitor.window_s, out, quick=quick)
        paths = invocation.paths.make()
        write_atomically(paths.demo / "report.json", json.dumps(asdict(found), indent=1))
        write_atomically(paths.demo / "report.html", render(found, client))
    if as_json:
        print_json(found)
    else:
        show(found, out)
        out.print(f"\nReport: {paths.demo / 'report.html'}   ({time.monotonic() - started:.0f} s)")
    return 0 if found.holds else 1


@contextmanager
def running_system(
    loaded: Loaded, paths: StatePaths, log: Path, out: Console, environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A running `hardcase up`: the one that is there, or one of our own for as long as it takes.

    Args:
        loaded: Its settings.
        paths: Its state folder.
        log: What one of our own prints.
        out: Where progress goes.
        environ: Of one of our own; None inherits.

    Raises:
        CommandError: it did not start.
    """
    run = current_run(paths) if paths.lock.exists() else None
    if run is not None and run.ready:
        out.print(f"Using the system that runs since {run.started_at}.")
        yield
        return
    paths.make()
    command = [sys.executable, "-m", "deploy.cli"]
    if loaded.file is not None:
        command += ["--settings", str(loaded.file)]
    out.print("Nothing runs on this state folder: starting it for the demo (and stopping it afterwards).")
    with log.open("wb") as file:
        # Not in the terminal's group: Ctrl-C comes to us, and we stop it in order.
        process = subprocess.Popen(
            [*command, "up"],
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=None if environ is None else dict(environ),
        )
    try:
        _await_ready(paths, process, log)
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await_ready(paths: StatePaths, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        run = current_run(paths)
        if run is not None and run.ready:
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise CommandError("the system did not start", "\n".join(last_lines(log, 12)))
        time.sleep(0.2)


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
