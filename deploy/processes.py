"""Processes on this machine: who has a port, what belongs to a run, and how to end it without leaving anything behind.

Every process of a run inherits `HARDCASE_RUN_ID`. Ray detaches its daemons from their parents, so a process tree is not
enough to find them; the variable is. A process that somebody else owns, or that lacks the mark, is never touched.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

RUN_ID = "HARDCASE_RUN_ID"
RUN_TEMP = "HARDCASE_RUN_TEMP"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class PortOwner:
    """Who listens on a port; fields are empty when the system does not say (another user's process)."""

    pid: int | None
    name: str
    command: str

    def describe(self) -> str:
        """For people: `'python3' (pid 12): python3 -m http.server`."""
        if self.pid is None:
            return "a process that this user may not see"
        return f"'{self.name}' (pid {self.pid}): {self.command}"


def port_is_free(host: str, port: int) -> bool:
    """Whether a listener could bind now. Connections in TIME_WAIT do not count.

    Raises:
        OSError: the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, anywhere on this machine; all different."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_range(first: int, end: int, *, step: int = 1000, needed: int = 16) -> int:
    """The first of `first`, `first + step`, ... below `end` after which `needed` ports are free; `first` if none is."""
    for start in range(first, end, step):
        if all(port_is_free("", port) for port in range(start, start + needed)):
            return start
    return first


def port_owner(port: int) -> PortOwner:
    """The process that listens on a TCP port of this machine."""
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid:
            try:
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline())
                return PortOwner(pid=connection.pid, name=process.name(), command=command[:120])
            except psutil.Error:
                break
    return PortOwner(pid=None, name="", command="")


def adopt_orphans() -> None:
    """Become the parent of descendants whose parents end, so that they can be waited for and leave no zombie."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies: a killed supervisor must not leave its children running."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def members(run_id: str) -> list[psutil.Process]:
    """Every living process of a run except this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(RUN_ID) == run_id:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def end_all(run_id: str, *, grace_s: float) -> list[int]:
    """SIGTERM to every process of a run, SIGKILL to what remains after `grace_s`.

    Returns:
        Ids of processes that had to be killed.
    """
    processes = members(run_id)
    _signal(processes, signal.SIGTERM)
    _, alive = _wait(processes, grace_s)
    killed = [p.pid for p in alive]
    _signal(alive, signal.SIGKILL)
    # What was being started while we looked is caught by looking again.
    for _ in range(5):
        remaining = members(run_id)
        if not remaining:
            break
        _signal(remaining, signal.SIGKILL)
        _wait(remaining, 2.0)
    reap()
    return killed


def reap() -> None:
    """Collect adopted processes that ended. Children that `subprocess` watches must have been waited for before."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _wait(processes: list[psutil.Process], timeout_s: float) -> tuple[list[psutil.Process], list[psutil.Process]]:
    deadline = time.monotonic() + timeout_s
    alive = list(processes)
    while alive and time.monotonic() < deadline:
        alive = [p for p in alive if _lives(p)]
        if alive:
            time.sleep(0.05)
    return [p for p in processes if p not in alive], alive


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue


def stop_child(child: subprocess.Popen[bytes], grace_s: float) -> bool:
    """SIGTERM, wait, SIGKILL. True when it ended by itself."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(5)
            return False
    return True
