"""A real Prometheus to ask, a real Alertmanager to hear of alerts, and a receiver that it tells."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.observability.local import ALERTMANAGER_NAMES, EXEMPLARS


def program(*names: str) -> str:
    """A program that a test needs: skips without it, fails in CI."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = f"{names[0]} is not installed (Debian packages prometheus, prometheus-alertmanager)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """What `condition` returns once that is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return value


@dataclass(frozen=True)
class Prometheus:
    """One to ask."""

    url: str

    def get(self, path: str, **parameters: Any) -> Any:
        """Data of an answer of the HTTP API, which must be a success."""
        with httpx.Client(trust_env=False, timeout=20) as client:
            plain = client.get(f"{self.url}/api/v1/{path}", params=parameters).json()
        assert plain["status"] == "success", plain
        return plain["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Samples of an instant query."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def series(self, expression: str, seconds: float, step_s: float = 0.5) -> list[tuple[dict[str, str], list[float]]]:
        """Labels and finite values of every series of the last seconds."""
        now = time.time()
        result = self.get("query_range", query=expression, start=now - seconds, end=now, step=step_s)["result"]
        values = [(r["metric"], [float(v) for _, v in r["values"] if math.isfinite(float(v))]) for r in result]
        return [(labels, finite) for labels, finite in values if finite]


@dataclass
class Heard:
    """What the receiver was told: (status, labels, annotations) of every alert, in order."""

    url: str = ""
    alerts: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)

    def of(self, name: str, status: str, **labels: str) -> dict[str, str] | None:
        """Annotations of the first such alert, None when there was none."""
        for said, has, notes in list(self.alerts):
            if said == status and has["alertname"] == name and labels.items() <= has.items():
                return notes
        return None


@contextmanager
def receiver() -> Iterator[Heard]:
    """A webhook that remembers what it is told."""
    heard = Heard()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            plain = json.loads(self.rfile.read(int(self.headers["content-length"])))
            for alert in plain["alerts"]:
                heard.alerts.append((alert["status"], alert["labels"], alert["annotations"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def started(folder: Path, name: str, argv: list[str], url: str) -> Iterator[None]:
    """A process that answers `/-/ready`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:

        def ready() -> bool:
            assert process.poll() is None, (folder / f"{name}.log").read_text()
            try:
                return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        until(ready, 30, f"{name} does not answer")
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[Prometheus]:
    """Run Prometheus over the configuration in `folder`."""
    url = f"http://127.0.0.1:{port}"
    argv = [program("prometheus"), f"--config.file={folder / 'prometheus.yml'}", EXEMPLARS]
    argv += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with started(folder, "prometheus", argv, url):
        yield Prometheus(url)


@contextmanager
def alertmanager(folder: Path, port: int) -> Iterator[str]:
    """Run Alertmanager over the configuration in `folder`; gives its address."""
    url = f"http://127.0.0.1:{port}"
    argv = [program(*ALERTMANAGER_NAMES), f"--config.file={folder / 'alertmanager.yml'}"]
    argv += [f"--storage.path={folder / 'alertmanager'}", f"--web.listen-address=127.0.0.1:{port}"]
    with started(folder, "alertmanager", [*argv, "--cluster.listen-address="], url):
        yield url
