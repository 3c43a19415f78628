"""Keeps a front door open: HAProxy is back at once when it, or what runs it, was killed. Started by Ray in its place.

Ray Serve's own way to a new HAProxy is three failed health checks, a new actor, and an HAProxy without routes that
answers 404 until it is told them: measured, 3.1 s. This program is what `RAY_SERVE_HAPROXY_BINARY_PATH` names. It
remembers the configuration, leaves a small watcher behind, and becomes HAProxy (`exec`, same process id, which Ray
checks). When that HAProxy ends without a successor, the watcher starts another one with the configuration remembered.
When Ray's new actor arrives, its HAProxy takes the sockets over from the stand-in, with the routes from the first
moment. A stand-in ends when its backends are all gone: then serving was stopped, not hurt.

It also amends what Ray wrote (decision 0290). HAProxy asks another replica again only when it holds the whole request;
Ray lets it pass on the head before the body is there, so a request of two packets dies with its replica. And Ray makes
every refusal of HAProxy's own a plain 500, which no client may repeat; it is a 503 in the protocol's words here.

Only the standard library, no import of ours: it runs as `python -I -S` and must start within milliseconds.

    haproxy_keeper.py REAL_BINARY SECONDS -db -f FILE [...]

SECONDS are what a request's body may take to arrive.
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
_FRONTENDS = re.compile(r"^frontend (http|grpc)_frontend\n(?:\s*#.*\n)*\s*bind .*\n", re.MULTILINE)
_ERROR_FILES = re.compile(r"^\s*errorfile 50[234] .*\n", re.MULTILINE)
_ERROR = '    http-error status {} content-type application/json{} string \'{{"error":"{}"}}\'\n'
_ERRORS = (
    _ERROR.format(502, "", "the replica ended before it had answered")
    + _ERROR.format(503, ' hdr Retry-After "1"', "no replica takes requests at the moment")
    + _ERROR.format(504, "", "the replica did not answer within the time limit")
    + _ERROR.format(408, "", "the request did not arrive within the time limit")
)
# Of a stream, the messages that come later must not be waited for.
_UNARY = " if { path /inference.GRPCInferenceService/ModelInfer }"


def main(argv: list[str]) -> None:
    """Start a watcher, then become HAProxy."""
    real, body_s, arguments = argv[0], float(argv[1]), argv[2:]
    if "-f" not in arguments:  # a question such as `-v`
        os.execv(real, [real, *arguments])
    config = arguments[arguments.index("-f") + 1]
    with _locked(config):
        _amend(config, body_s)
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


def _amend(config: str, body_s: float) -> None:
    """Make a configuration of Ray's hold requests until they are whole; another one stays as it is."""
    with open(config, encoding="utf-8") as file:
        text = file.read()
    with open(config, "w", encoding="utf-8") as file:
        file.write(amended(text, body_s))


def amended(text: str, body_s: float) -> str:
    """What Ray wrote, amended.

    Args:
        text: A configuration as Ray writes it.
        body_s: What a body may take to arrive; one larger than HAProxy's buffer is passed on when that is full.
    """

    def with_wait(frontend: re.Match[str]) -> str:
        unary = _UNARY if frontend[1] == "grpc" else ""
        return f"{frontend[0]}    http-request wait-for-body time {round(body_s * 1000)}ms{unary}\n"

    if not _ERROR_FILES.search(text):  # not Ray's, or amended already
        return text
    text = _ERROR_FILES.sub("", text).replace("\ndefaults\n", "\ndefaults\n    option dontlog-normal\n" + _ERRORS, 1)
    return _FRONTENDS.sub(with_wait, text)


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
