"""The systems that the demo is told on: the running one where it is fit for it, and otherwise one of its own.

One of its own takes nothing from the settings but ports, the device and whether Ray is used: it writes to no database,
bucket or tracker of its owner and sends nobody a notice. Beside a running system it takes free ports, and no Ray.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.demo.overlay import VERSION
from deploy.errors import CommandError
from deploy.local import frozen_settings
from deploy.log_tail import last_lines
from deploy.monitor_client import MonitorClient
from deploy.paths import StatePaths
from deploy.processes import free_ports
from deploy.run_state import RunInfo, current_run, write_atomically
from deploy.settings import Settings
from deploy.settings_file import ENV_PREFIX, Loaded, load_settings
from export.registry import Registry

START_TIMEOUT_S = 420.0
STOP_TIMEOUT_S = 60.0
MODEL = "digits"
DAY_FLAGS = 50  # cases that a day must be able to open in one window


def await_running(paths: StatePaths) -> RunInfo | None:
    """The `hardcase up` of a state folder, ready; None when there is none, or none any more."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while (run := current_run(paths)) is not None and not run.ready and time.monotonic() < deadline:
        time.sleep(0.2)
    return run if run is not None and run.ready else None


def why_not_here(settings: Settings, paths: StatePaths, client: MonitorClient, faults: Path) -> str:
    """Why the running system cannot be told the story; "" when it can.

    Args:
        settings: Of that run.
        paths: Its state folder.
        client: Its monitor.
        faults: File that the demo's trainer reads, so that the bad candidates are bad.
    """
    programs = [trainer.program for trainer in settings.retrain.trainers if MODEL in trainer.models]
    if not any(str(faults) in program for program in programs):
        return f"the running system does not train '{MODEL}' with the demo's trainer"
    plan = Registry(paths.registry).plan(MODEL)
    if plan is None or plan.champion != VERSION:
        return f"the running system has another champion of '{MODEL}' than version {VERSION}"
    if client.get("/api/loop/trainings", model=MODEL)["trainings"] or client.get("/api/alarms", model=MODEL)["alarms"]:
        return "the running system has had an alarm or a training already"
    return ""


def own_settings(settings: Settings, state: Path, sections: dict[str, Any], *, beside: bool) -> dict[str, Any]:
    """Settings of a system of the demo's own, as they would stand in `hardcase.yaml`.

    Args:
        settings: Of the caller.
        state: Its state folder.
        sections: What it needs besides.
        beside: The caller's own ports are taken.
    """
    serving, monitor = settings.serving, settings.monitor
    http, grpc, console = (serving.port, serving.grpc_port, monitor.port) if not beside else free_ports(3)
    return {
        **sections,
        "state_dir": str(state),
        "serving": {
            "port": http,
            "grpc_port": grpc if serving.grpc_port else 0,
            "standalone": serving.standalone or beside,
            "runtime": serving.runtime.model_dump(mode="json"),
        },
        "ray": {"temp_root": settings.ray.temp_root},
        "monitor": {**sections.get("monitor", {}), "port": console},
        "observability": {"prometheus": False},
    }


@contextmanager
def own_system(plain: dict[str, Any], log: Path, out: Console) -> Iterator[Loaded]:
    """A `hardcase up` for as long as it takes, in a state folder that is emptied before.

    Args:
        plain: From `own_settings`.
        log: What it prints.
        out: Where progress goes.

    Raises:
        CommandError: it did not start.
    """
    state = Path(plain["state_dir"])
    shutil.rmtree(state, ignore_errors=True)
    file = state.with_suffix(".json")
    write_atomically(file, json.dumps(plain, indent=1))
    loaded = load_settings(file, {}, state.parent)
    paths = StatePaths(loaded.state).make()
    out.print("Starting a system for the demo; it is stopped afterwards.")
    with log.open("wb") as output:
        # Not in the terminal's group: Ctrl-C comes to us, and we stop it in order.
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", "--settings", str(file), "up"],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)},
        )
    try:
        _await_ready(paths, process, log)
        yield loaded
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def running_settings(paths: StatePaths) -> Settings:
    """The settings that the running system was started with: the caller's may be others by now."""
    return Settings.model_validate(json.loads(frozen_settings(paths).read_text()))


def _await_ready(paths: StatePaths, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        run = current_run(paths)
        if run is not None and run.ready:
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise CommandError("the system did not start", "\n".join(last_lines(log, 12)))
        time.sleep(0.2)
