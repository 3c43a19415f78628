"""`hardcase demo`: find or start a running system, tell the story, print and write what came out of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from deploy.cli.context import Invocation, console, print_json, print_table
from deploy.demo import findings as f
from deploy.demo.page import render
from deploy.demo.story import tell
from deploy.errors import CommandError, Missing
from deploy.local import addresses
from deploy.log_tail import last_lines
from deploy.monitor_client import MonitorClient
from deploy.run_state import current_run, write_atomically

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
MODEL = "digits"


def run_demo(invocation: Invocation, *, quick: bool, as_json: bool) -> int:
    """Tell the story; returns the exit code: 0 when every claim holds."""
    out = console(stderr=as_json)
    started = time.monotonic()
    with running_system(invocation, out):
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
def running_system(invocation: Invocation, out: Console) -> Iterator[None]:
    """A running `hardcase up`: the one that is there, or one of our own for as long as it takes.

    Raises:
        CommandError: it did not start.
    """
    paths = invocation.paths
    run = current_run(paths)
    if run is not None and run.ready:
        out.print(f"Using the system that runs since {run.started_at}.")
        yield
        return
    paths.make()
    log = paths.logs / "demo-up.log"
    command = [sys.executable, "-m", "deploy.cli"]
    if invocation.loaded.file is not None:
        command += ["--settings", str(invocation.loaded.file)]
    out.print("Nothing runs on this state folder: starting it for the demo (and stopping it afterwards).")
    with log.open("wb") as file:
        # Not in the terminal's group: Ctrl-C comes to us, and we stop it in order.
        process = subprocess.Popen(
            [*command, "up"], stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        _await_ready(invocation, process)
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await_ready(invocation: Invocation, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    log = invocation.paths.logs / "demo-up.log"
    while True:
        run = current_run(invocation.paths)
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
