"""Keeps a front door open: HAProxy is back at once when it, or what runs it, was killed. Started by Ray in its place.

Ray Serve's own way to a new HAProxy is three failed health checks, a new actor, and an HAProxy without routes that
answers 404 until it is told them: measured, 3.1 s. This program is what `RAY_SERVE_HAPROXY_BINARY_PATH` names. It
remembers the configuration, leaves a small watcher behind, and becomes HAProxy (`exec`, same process id, which Ray
checks). When that HAProxy ends without a successor, the watcher starts another one with the configuration remembered.
When Ray's new actor arrives, its HAProxy takes the sockets over from the stand-in, with the routes from the first
moment. A stand-in ends when its backends are all gone: then serving was stopped, not hurt.

Only the standard library, no import of ours: it runs as `python -I -S` and must start within milliseconds.

    haproxy_keeper.py REAL_BINARY -db -f FILE [...]
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

_LOOK_S = 0.5
_GONE_AFTER = 4  # looks in a row in which no backend took a connection
_SERVER = re.compile(r"^\s*server\s+\S+\s+(\S+):(\d+)\s+.*check", re.MULTILINE)
_SOCKET = re.compile(r"^\s*stats socket (\S+)", re.MULTILINE)
_PR_SET_PDEATHSIG = 1
KEPT, STAND_IN = ".kept", ".stand-in"


def main(argv: list[str]) -> None:
    """Start a watcher, then become HAProxy."""
    real, arguments = argv[0], argv[1:]
    if "-f" not in arguments:  # a question such as `-v`
        os.execv(real, [real, *arguments])
    config = arguments[arguments.index("-f") + 1]
    with _locked(config):
        if "-sf" in arguments:
            _keep(config)
        else:
            before = _read_pid(config)
            running = _config_of(before, config)
            if running is not None and os.path.exists(config + KEPT):
                # Ray begins anew while an HAProxy is there, ours or one whose actor was killed: take its place over.
                arguments[arguments.index("-f") + 1] = config + KEPT
                arguments += ["-sf", str(before), "-x", _admin_socket(running)]
        me = os.getpid()
        _write_pid(config, me)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:  # not a child of HAProxy, which would have to wait for it
            _watch(real, config, me)
        os._exit(0)
    os.wait()
    os.execv(real, [real, *arguments])


def _keep(config: str) -> None:
    """Remember a configuration, once for Ray's next HAProxy and once for a stand-in.

    The stand-in has an admin socket of its own: Ray must find its HAProxy dead, or it would not begin anew.
    """
    with open(config, encoding="utf-8") as file:
        text = file.read()
    for suffix, content in ((KEPT, text), (STAND_IN, _SOCKET.sub(r"\g<0>" + STAND_IN, text))):
        with open(config + suffix, "w", encoding="utf-8") as file:
            file.write(content)


def _watch(real: str, config: str, pid: int) -> None:
    """Wait until that HAProxy has ended, and stand in for it when it has no successor."""
    _wait(pid, None)
    with _locked(config):
        current, kept = _read_pid(config), config + STAND_IN
        if (current != pid and _config_of(current, config)) or not os.path.exists(kept):
            return
        stand_in = subprocess.Popen([real, "-db", "-f", kept, "-dR"], preexec_fn=_end_with_parent)  # noqa: PLW1509, one thread
        _write_pid(config, stand_in.pid)
    missed = 0
    while not _wait(stand_in.pid, _LOOK_S):
        missed = 0 if _any_backend(kept) else missed + 1
        if missed >= _GONE_AFTER:
            stand_in.terminate()
    stand_in.wait()


def _wait(pid: int, timeout_s: float | None) -> bool:
    """Wait for the end of a process that need not be a child; False when the time is over first."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)


def _admin_socket(file: str) -> str:
    """Where an HAProxy of this configuration hands its listening sockets over."""
    with open(file, encoding="utf-8") as text:
        return "".join(_SOCKET.findall(text.read())[:1])


def _any_backend(file: str) -> bool:
    """Whether a server of the configuration, a replica or Ray's own proxy, takes connections."""
    with open(file, encoding="utf-8") as text:
        servers = {(host, int(port)) for host, port in _SERVER.findall(text.read())}
    for server in sorted(servers):
        with contextlib.suppress(OSError), socket.create_connection(server, timeout=1.0):
            return True
    return False


def _config_of(pid: int, config: str) -> str | None:
    """With which form of a configuration a process runs; None when it is no HAProxy of this configuration."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            words = line.read().split(b"\0")
    except OSError:
        return None
    return next((form for form in (config, config + KEPT, config + STAND_IN) if form.encode() in words), None)


def _read_pid(config: str) -> int:
    try:
        with open(config + ".pid", encoding="ascii") as file:
            return int(file.read() or 0)
    except (OSError, ValueError):
        return 0


def _write_pid(config: str, pid: int) -> None:
    with open(config + ".pid", "w", encoding="ascii") as file:
        file.write(str(pid))


@contextlib.contextmanager
def _locked(config: str) -> Iterator[None]:
    with open(config + ".lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
