"""`hardcase up`: starts serving and the monitor as children, waits for them, watches them, and ends everything.

One straight loop: claim the state folder → look at the ports → start → wait until ready → watch → stop. A child that
dies is started again, a few times; the monitor's death costs serving nothing. Ctrl-C, SIGTERM and SIGHUP end the run;
a second one ends it at once.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from deploy import processes
from deploy.errors import AlreadyRunning, CommandError
from deploy.log_tail import LogTail, last_lines
from deploy.paths import StatePaths
from deploy.ports import PortNeed, check_port
from deploy.run_state import RunInfo, RunLock, current_run, read_run, write_run

RESTARTS = 3  # within RESTART_WINDOW_S; one more and the run is given up
RESTART_WINDOW_S = 120.0
STOP_GRACE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """A process to run.

    Attributes:
        role: "serving" or "monitor"; names the log file.
        argv: Command line.
        ready: Asks whether it answers; called every 0.1 s until it says yes.
        ready_timeout_s: After this without an answer the run is given up.
        once: It does one thing and ends; ending with status 0 is being ready.
        environment: Variables to add.
        extra: The run goes on without it: when it does not start or keeps dying, that is said and it is left out.
    """

    role: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    ready_timeout_s: float
    once: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    extra: bool = False


@dataclass
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes]
    tail: LogTail
    deaths: list[float] = field(default_factory=list)


class StopRequested(Exception):
    """A signal asked the run to end."""


class Supervisor:
    """One run of `hardcase up`.

    Args:
        paths: The state folder, made.
        say: Prints a line for people.
        progress: Told when a child is ready: its role, and seconds since the start.
        temp_root: Where the short temporary folder for sockets goes.
    """

    def __init__(
        self,
        paths: StatePaths,
        say: Callable[[str], None],
        progress: Callable[[str, float], None],
        temp_root: Path,
    ) -> None:
        self._paths = paths
        self._say = say
        self._progress = progress
        self._lock = RunLock(paths)
        self._children: list[_Child] = []
        self._signals = 0
        self.run_id = secrets.token_hex(8)
        self.temporary = temp_root / f"hc-{self.run_id[:8]}"
        self.info = RunInfo(
            pid=os.getpid(),
            run_id=self.run_id,
            started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            temporary=[str(self.temporary)],
        )

    def claim(self) -> None:
        """Take the state folder, and clear what a killed run left.

        Raises:
            AlreadyRunning: another `hardcase up` has it.
        """
        left_over = read_run(self._paths)
        if not self._lock.acquire():
            raise already_running(self._paths)
        if left_over is not None:
            for pid in processes.end_all(left_over.run_id, grace_s=5.0):
                self._say(f"ended process {pid}, left by a run that was killed")
            for folder in left_over.temporary:
                _remove_temporary(Path(folder))
        self._paths.replicas_file.unlink(missing_ok=True)
        write_run(self._paths, self.info)

    def start(self, specs: Sequence[ChildSpec], ports: Iterable[PortNeed], addresses: dict[str, str]) -> None:
        """Start the children and wait until all are ready.

        Raises:
            AlreadyRunning: a port is taken.
            CommandError: a child ended, or was not ready in time; its last lines are in the hint.
        """
        for need in ports:
            check_port(need)
        self.temporary.mkdir(mode=0o700)
        begun = time.monotonic()
        for spec in specs:
            self._children.append(self._spawn(spec))
        self.info = replace(self.info, addresses=addresses, children=self._roles())
        write_run(self._paths, self.info)
        waiting = list(self._children)
        while waiting:
            self._check_signals()
            for child in list(waiting):
                try:
                    if not self._is_ready(child, time.monotonic() - begun):
                        continue
                    self._progress(child.spec.role, time.monotonic() - begun)
                except CommandError as error:
                    self._give_up(child, error)
                waiting.remove(child)
            self._show_logs()
            time.sleep(0.1)
        self.info = replace(self.info, ready=True, children=self._roles())
        write_run(self._paths, self.info)

    def watch(self) -> None:
        """Show what the logs warn about and start again what dies, until a signal ends the run.

        Raises:
            StopRequested: a signal came.
            CommandError: a child keeps dying.
        """
        while True:
            self._check_signals()
            for child in list(self._children):
                if child.process.poll() is not None:
                    try:
                        self._revive(child)
                    except CommandError as error:
                        self._give_up(child, error)
            self._show_logs()
            time.sleep(0.2)

    def stop(self) -> None:
        """End every process of the run, remove its temporary folder, free the state folder."""
        started = time.monotonic()
        before = self._signals
        for child in self._children:
            if child.process.poll() is None:
                child.process.terminate()
        while any(c.process.poll() is None for c in self._children):
            if self._signals > before or time.monotonic() - started > STOP_GRACE_S:
                self._say("not waiting any longer")
                break
            self._show_logs()
            time.sleep(0.05)
        for child in self._children:
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait(10)
            child.tail.close()
        processes.end_all(self.run_id, grace_s=2.0)
        _remove_temporary(self.temporary)
        self._lock.release()

    def install_signals(self) -> None:
        """Make Ctrl-C, SIGTERM and SIGHUP end the run, once from inside the loops, not from inside a handler."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _check_signals(self) -> None:
        if self._signals:
            raise StopRequested

    def _spawn(self, spec: ChildSpec) -> _Child:
        log = self._paths.logs / f"{spec.role}.log"
        tail = LogTail(log)
        with log.open("ab") as out:
            # A session of its own: the terminal's Ctrl-C reaches the supervisor only, which ends things in order.
            process = subprocess.Popen(
                spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={
                    **os.environ,
                    **spec.environment,
                    processes.RUN_ID: self.run_id,
                    processes.RUN_TEMP: str(self.temporary),
                },
            )
        return _Child(spec=spec, process=process, tail=tail)

    def _roles(self) -> dict[str, int]:
        return {child.spec.role: child.process.pid for child in self._children}

    def _is_ready(self, child: _Child, after_s: float) -> bool:
        status = child.process.poll()
        if status is None:
            if not child.spec.once and child.spec.ready():
                return True
            if after_s > child.spec.ready_timeout_s:
                raise self._failed(child, f"was not ready after {child.spec.ready_timeout_s:.0f} s")
            return False
        if child.spec.once and status == 0:
            self._children.remove(child)
            return True
        raise self._failed(child, f"ended with status {status} while starting")

    def _revive(self, child: _Child) -> None:
        now = time.monotonic()
        child.deaths = [t for t in child.deaths if now - t < RESTART_WINDOW_S] + [now]
        if len(child.deaths) > RESTARTS:
            raise self._failed(child, f"ended {len(child.deaths)} times in {RESTART_WINDOW_S:.0f} s")
        self._say(f"{child.spec.role} ended with status {child.process.returncode}; starting it again")
        self._show_logs()
        child.tail.close()
        fresh = self._spawn(child.spec)
        child.process, child.tail = fresh.process, fresh.tail
        self.info = replace(self.info, children=self._roles())
        write_run(self._paths, self.info)

    def _give_up(self, child: _Child, error: CommandError) -> None:
        """Leave out a child that the run can do without.

        Raises:
            CommandError: the one given, when it cannot.
        """
        if not child.spec.extra:
            raise error
        self._say(f"{error.message}; going on without it\n{error.hint}")
        if child.process.poll() is None:
            child.process.kill()
            child.process.wait(10)
        child.tail.close()
        self._children.remove(child)
        self.info = replace(self.info, children=self._roles())
        write_run(self._paths, self.info)

    def _show_logs(self) -> None:
        for child in self._children:
            for line in child.tail.important():
                self._say(f"{child.spec.role}: {line}")

    def _failed(self, child: _Child, what: str) -> CommandError:
        log = self._paths.logs / f"{child.spec.role}.log"
        lines = "\n".join(f"    {line}" for line in last_lines(log, 15))
        return CommandError(f"{child.spec.role} {what}", f"the end of {log}:\n{lines}")


def already_running(paths: StatePaths) -> AlreadyRunning:
    """The error that says who runs on this state folder."""
    info = current_run(paths)
    who = f"pid {info.pid}, since {info.started_at}" if info else "its process has not said yet which"
    where = ", ".join(f"{k} {v}" for k, v in info.addresses.items()) if info else ""
    return AlreadyRunning(
        f"hardcase already runs on this state folder ({who})" + (f": {where}" if where else ""),
        "`hardcase status` shows it, `hardcase down` stops it; another state_dir runs a second one beside it",
    )


def child_argv(settings_file: Path, command: str) -> tuple[str, ...]:
    """The command line of a child: this interpreter, the settings as they were when the run started."""
    return (sys.executable, "-m", "deploy.cli", "--settings", str(settings_file), command, "--child")


def _remove_temporary(folder: Path) -> None:
    # Only a folder that a run made: the name is checked, because the path was read from a file.
    if folder.name.startswith("hc-") and folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
