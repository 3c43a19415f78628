"""A local Ray cluster that serves, as a subprocess with a folder and ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.processes import free_ports
from export.contracts import codec
from serving.options import ServingOptions

ROOT = Path(__file__).resolve().parents[2]
START_S = 150.0
STOP_S = 60.0


@dataclass(frozen=True, kw_only=True)
class RayServing:
    """A running cluster.

    Attributes:
        port: HAProxy's port on loopback.
        pid: The process that started everything.
        folder: Of the cluster; everything that belongs to it mentions this path.
        ready_file: Lists the replicas, kept up to date.
        haproxy_ports: Statistics and metrics.
    """

    port: int
    pid: int
    folder: Path
    ready_file: Path
    log: Path
    records: Path
    haproxy_ports: tuple[int, int]
    options_file: Path
    scale_file: Path
    grpc_port: int = 0

    def read_again(self) -> None:
        """Make the server read its options and scale files again and replace the replicas."""
        os.kill(self.pid, signal.SIGHUP)

    def named(self, name: str) -> list[psutil.Process]:
        """Processes of the cluster by name: "haproxy", "raylet", "gcs_server", "ray::ServeController"."""
        found = []
        for process in self.processes():
            try:
                if process.name() == name or " ".join(process.cmdline()).startswith(name):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def replica_ports(self) -> list[int]:
        """Ports of the replicas' own HTTP servers, as of the last look."""
        return [int(replica["port"]) for replica in json.loads(self.ready_file.read_text())["replicas"]]

    def processes(self) -> list[psutil.Process]:
        """Every process below the one that started everything."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def replica_pids(self) -> list[int]:
        """Processes of the replicas, by the ports on which they listen."""
        ports = set(self.replica_ports())
        found = []
        for process in self.processes():
            try:
                if any(c.laddr.port in ports for c in process.net_connections("tcp") if c.status == "LISTEN"):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


@contextmanager
def ray_serving(
    work: Path, registry: Path, *, replicas: int = 1, options: ServingOptions | None = None, extra: tuple[str, ...] = ()
) -> Iterator[RayServing]:
    """Run `python -m serving.ray_server` until the block ends.

    Args:
        work: For the record log, the ready file and standard error.
        registry: Folder of the registry.
        replicas: How many replicas.
        options: Other settings; registry and records are filled in.
        extra: More arguments of the command line.
    """
    folder = Path(tempfile.mkdtemp(prefix="hcr-", dir="/tmp"))  # short: it holds Unix sockets
    port, stats, metrics, grpc_port = free_ports(4)
    first = 20_000 + os.getpid() % 10 * 1000  # replicas take ports from here on
    ready, log, records = work / "ready.json", work / "stderr.txt", work / "records"
    command = [sys.executable, "-m", "serving.ray_server", "--registry", str(registry), "--records", str(records)]
    command += [
        "--folder",
        str(folder),
        "--port",
        str(port),
        "--grpc-port",
        str(grpc_port),
        "--replicas",
        str(replicas),
        "--ready-file",
        str(ready),
    ]
    command += ["--first-replica-port", str(first), "--haproxy-stats-port", str(stats)]
    command += ["--haproxy-metrics-port", str(metrics), *extra]
    work.mkdir(parents=True, exist_ok=True)
    options_file, scale_file = work / "options.json", work / "scale.json"
    options_file.write_bytes(codec.dumps(options) if options is not None else b"{}")
    scale_file.write_text("{}")
    command += ["--options-json", f"@{options_file}", "--scale-json", f"@{scale_file}"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        _wait(process, ready, log, replicas)
        yield RayServing(
            port=port,
            pid=process.pid,
            folder=folder,
            ready_file=ready,
            log=log,
            records=records,
            haproxy_ports=(stats, metrics),
            grpc_port=grpc_port,
            options_file=options_file,
            scale_file=scale_file,
        )
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to stop, and end what is left of it when it does not."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        for child in family:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()


def _wait(process: subprocess.Popen[bytes], ready: Path, log: Path, replicas: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        plain: dict[str, Any] = json.loads(ready.read_text()) if ready.exists() else {"replicas": []}
        if len(plain["replicas"]) == replicas:
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"Ray Serve did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)
