"""The keeper with real HAProxy processes: who stands in, who takes over, and when nobody does."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serving.ray_environment import make_haproxy_keeper
from tests.support.ray_cluster import free_ports

pytestmark = pytest.mark.fault

CONFIG = """global
    stats socket {folder}/admin.sock mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend front
    bind 127.0.0.1:{port}
{routes}
"""
ROUTES = """    default_backend replicas
backend replicas
    server one 127.0.0.1:{backend} check
"""


class Door:
    """HAProxy as Ray starts it, through the keeper."""

    def __init__(self, folder: Path, backend: int) -> None:
        self.folder, self.backend = folder, backend
        self.port = free_ports(1)[0]
        self.config = folder / "haproxy.cfg"
        self.program = str(make_haproxy_keeper(folder))
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, routes: bool = True) -> subprocess.Popen[bytes]:
        text = ROUTES.format(backend=self.backend) if routes else ""
        self.config.write_text(CONFIG.format(folder=self.folder, port=self.port, routes=text))
        command = [self.program, "-db", "-f", str(self.config), "-dR", *arguments]
        self.started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return self.started[-1]

    def up(self) -> subprocess.Popen[bytes]:
        """Ray's first one, without routes, and the one with routes that replaces it."""
        first = self.start(routes=False)
        eventually((self.folder / "admin.sock").exists)
        second = self.reload(first)
        eventually(lambda: self.answers() and [p.pid for p in self.processes()] == [second.pid])
        return second

    def reload(self, old: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """As Ray does it: a new process that takes the sockets over from the old one."""
        return self.start("-sf", str(old.pid), "-x", f"{self.folder}/admin.sock")

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name() == "haproxy" and any(str(self.config) in word for word in process.cmdline()):
                    found.append(process)
        return found


@pytest.fixture
def backend() -> Iterator[http.server.HTTPServer]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def door(tmp_path: Path, backend: http.server.HTTPServer) -> Iterator[Door]:
    door = Door(tmp_path, backend.server_address[1])
    yield door
    for process in door.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for started in door.started:
        started.wait(5)


def eventually(holds: Callable[[], bool], timeout_s: float = 10.0) -> float:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < timeout_s, "it never came true"
        time.sleep(0.01)
    return time.monotonic() - started


def test_the_process_that_was_started_becomes_haproxy_itself(door: Door):
    started = door.start()
    eventually(door.answers)
    assert [p.pid for p in door.processes()] == [started.pid]


def test_a_killed_haproxy_has_a_stand_in_at_once(door: Door):
    second = door.up()
    second.kill()
    second.wait(5)
    assert eventually(door.answers) < 1.5
    assert not os.path.samefile(f"/proc/{door.processes()[0].pid}/exe", "/proc/self/exe")
    assert ".stand-in" in " ".join(door.processes()[0].cmdline())


def test_the_next_haproxy_of_rays_takes_over_from_the_stand_in_with_the_routes_of_before(door: Door):
    second = door.up()
    second.kill()
    second.wait(5)
    eventually(door.answers)
    refused: list[float] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            if not door.answers():
                refused.append(time.monotonic())

    asking = threading.Thread(target=ask)
    asking.start()
    third = door.start(routes=False)  # a new actor of Ray's begins without routes, which would be 404
    eventually(lambda: [p.pid for p in door.processes()] == [third.pid])
    time.sleep(0.2)
    done.set()
    asking.join()
    assert refused == []
    assert door.answers()


def test_a_reload_leaves_one_process_and_no_stand_in(door: Door):
    first = door.start()
    eventually(door.answers)
    second = door.reload(first)
    eventually(lambda: [p.pid for p in door.processes()] == [second.pid])
    time.sleep(0.3)
    assert [p.pid for p in door.processes()] == [second.pid]


def test_an_haproxy_without_backends_is_stopped_not_hurt(door: Door, backend: http.server.HTTPServer):
    second = door.up()
    backend.shutdown()
    backend.server_close()
    second.send_signal(signal.SIGKILL)
    second.wait(5)
    eventually(lambda: len(door.processes()) == 1)
    eventually(lambda: door.processes() == [], 15)
