"""Real `hardcase` processes for tests: state folders of their own, free ports, everything with a time-out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from deploy import probes
from deploy.paths import StatePaths
from deploy.processes import RUN_ID, free_ports
from deploy.run_state import RunInfo, current_run

COMMAND = [sys.executable, "-m", "deploy.cli"]


def clean_environment(**more: str) -> dict[str, str]:
    """This environment without our own variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HARDCASE", "RAY_"))}
    return {**kept, **more}


@dataclass(frozen=True)
class Place:
    """A working folder with settings; nothing runs in it yet."""

    folder: Path
    serving_port: int
    monitor_port: int
    prefix: tuple[str, ...] = ()  # of every command: another network namespace

    @classmethod
    def make(cls, folder: Path, *, for_demo: bool = False, **sections: dict[str, Any] | list[Any]) -> Place:
        """Write hardcase.yaml with free ports; `sections` adds or overrides keys.

        Args:
            folder: Where to.
            for_demo: Let `up` be set for the demo: its trainer, its windows. A trainer of one's own prevents it.
            sections: Of the settings.
        """
        folder.mkdir(parents=True, exist_ok=True)
        serving, monitor, grpc = free_ports(3)
        settings: dict[str, Any] = {
            "serving": {"port": serving, "grpc_port": grpc},
            "monitor": {"port": monitor},
            "observability": {"prometheus": False},  # its port is the same for all
        }
        if not for_demo:
            settings["retrain"] = {"trainers": [{"name": "none", "program": ["false"]}]}
        for name, section in sections.items():
            if isinstance(section, list):
                settings[name] = section
            else:
                settings.setdefault(name, {}).update(section)
        (folder / "hardcase.yaml").write_text(yaml.safe_dump(settings))
        return cls(folder, serving, monitor)

    @property
    def paths(self) -> StatePaths:
        return StatePaths(self.folder / ".hardcase")

    @property
    def serving(self) -> str:
        return f"http://127.0.0.1:{self.serving_port}"

    @property
    def console(self) -> str:
        return f"http://127.0.0.1:{self.monitor_port}"

    def run(self, *arguments: str, timeout: float = 60.0, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*self.prefix, *COMMAND, *arguments],
            cwd=self.folder,
            env=clean_environment(**environ),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str, timeout: float = 60.0) -> Any:
        """Run a command with --json; fails the test when it fails."""
        done = self.run(*arguments, "--json", timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str, timeout: float = 150.0) -> Running:
        """`hardcase up`, ready."""
        out = (self.folder / "up.log").open("ab")
        process = subprocess.Popen(
            [*self.prefix, *COMMAND, "up", *arguments],
            cwd=self.folder,
            env=clean_environment(),
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        out.close()
        deadline = time.monotonic() + timeout
        while True:
            run = current_run(self.paths) if self.paths.lock.exists() else None
            if run is not None and run.ready and run.pid == process.pid:
                return Running(self, process, run)
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise AssertionError((self.folder / "up.log").read_text())
            time.sleep(0.1)


@dataclass
class Running:
    """A running `hardcase up`."""

    place: Place
    process: subprocess.Popen[bytes]
    run: RunInfo

    @property
    def log(self) -> str:
        return (self.place.folder / "up.log").read_text()

    def stop(self, number: int = signal.SIGINT, timeout: float = 60.0) -> int:
        """Send a signal, wait, return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def left_over(self) -> list[str]:
        """Command lines of processes of this run that still live."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(RUN_ID) == self.run.run_id and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline())[:100])
            except (psutil.Error, OSError):
                continue
        return found

    def ensure_stopped(self) -> None:
        """For fixtures: whatever happened, nothing stays."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def answers(url: str) -> bool:
    """GET is answered with 200."""
    return probes.answers(url)
