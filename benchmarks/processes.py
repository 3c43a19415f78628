"""Servers as child processes: started, watched, and ended with everything that they started. Only our own pids."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36


class ServerFailed(Exception):
    """A server did not come up; the text ends with the last lines of its log."""


def adopt_orphans() -> None:
    """Make this process the parent of orphaned descendants, so that a server's grandchildren can always be found.

    Ray, Triton and LitServe leave helpers behind when their parent dies first.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def server(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    ready: Callable[[], bool],
    timeout_s: float = 120.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the block runs.

    Args:
        command: What to execute.
        environment: Added to this process's environment.
        folder: Where its log `server.log` goes, and its working files through TMPDIR.
        ready: Asked every 0.1 s until it is true.
        timeout_s: How long it may take to become ready.

    Raises:
        ServerFailed: it ended or did not become ready in time.
    """
    before = {child.pid for child in psutil.Process().children()}
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            env=os.environ | dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        _await_ready(process, ready, timeout_s, log)
        yield process
    finally:
        _end(process, before)


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The server's process and all below it."""
    try:
        return _tree(psutil.Process(process.pid))
    except psutil.NoSuchProcess:
        return []


def _await_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], timeout_s: float, log: Path) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        if process.poll() is not None:
            raise ServerFailed(f"it ended with {process.returncode} before it was ready:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"it was not ready after {timeout_s:g} s:\n{_tail(log)}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes], before: set[int]) -> None:
    """Ask the server to end, give it 10 s, then kill what is left of it.

    Args:
        process: The server.
        before: Our children from before it was started; what else is our child by now was orphaned by the server.
    """
    known = descendants(process)
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
    time.sleep(0.2)  # helpers that end by themselves when their parent is gone
    for _ in range(3):  # one that was being started while we looked is found the next time round
        orphans = [child for child in psutil.Process().children() if child.pid not in before]
        known += [below for orphan in orphans for below in _tree(orphan)]
        left = [one for one in set(known) if one.is_running() and one.pid != process.pid] + (
            [psutil.Process(process.pid)] if process.poll() is None else []
        )
        if not left:
            break
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, timeout=5)
    process.wait(timeout=10)


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
