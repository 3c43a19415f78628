"""How each measured server is started: its command, its environment, and when it counts as ready."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.model import MODEL_NAME, BenchModel
from benchmarks.payloads import Wire
from benchmarks.processes import free_port, server
from serving.ray_environment import RayPorts, ray_environment

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / "peers"
OIP_PATH = f"/v2/models/{MODEL_NAME}/infer"

Addresses = Mapping[str, str]
Check = Callable[[str, Wire], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """What a server needs to start.

    Attributes:
        folder: Scratch of this one start; short, because sockets live in it.
        registry: Our registry with the model promoted.
        right: Whether a URL gives the right answer in a wire format.
    """

    folder: Path
    registry: Path
    model: BenchModel
    right: Check


Start = Callable[[Workplace], contextlib.AbstractContextManager[Addresses]]


def python_of(environment: str | None) -> Path:
    """The interpreter of a peer's environment, or of this process."""
    return Path(sys.executable) if environment is None else ROOT / ".venvs" / environment / "bin" / "python"


def ours_standalone(*, capture: bool, fast_lane: bool = True, grpc: bool = False) -> Start:
    """Our data plane under uvicorn, without Ray; with gRPC when asked for."""

    @contextlib.contextmanager
    def start(place: Workplace) -> Iterator[Addresses]:
        ready_file, port = place.folder / "ready", free_port()
        command = [str(python_of(None)), "-m", "serving.standalone", "--registry", str(place.registry)]
        command += ["--records", str(place.folder / "records"), "--port", str(port), "--ready-file", str(ready_file)]
        command += [] if capture else ["--no-capture"]
        command += [] if fast_lane else ["--no-fast-lane"]
        url, grpc_port = f"http://127.0.0.1:{port}", free_port()
        command += ["--grpc-port", str(grpc_port)] if grpc else []
        environment = {"PYTHONPATH": str(ROOT)}
        with _answering(place, command, environment, url + OIP_PATH, Wire.OIP_BINARY):
            yield {"front": url, "direct": url, "grpc": f"grpc://127.0.0.1:{grpc_port}"}

    return start


def ours_ray(*, capture: bool) -> Start:
    """Our Ray Serve application with one replica behind HAProxy, as `serving.ray_server` runs it."""

    @contextlib.contextmanager
    def start(place: Workplace) -> Iterator[Addresses]:
        ports = {"--port": free_port(), "--haproxy-stats-port": free_port(), "--haproxy-metrics-port": free_port()}
        ports["--grpc-port"] = free_port()
        ports["--first-replica-port"] = _first_replica_port()
        ready_file = place.folder / "ready.json"
        command = [str(python_of(None)), "-m", "serving.ray_server", "--registry", str(place.registry)]
        command += ["--records", str(place.folder / "records"), "--folder", str(place.folder / "r")]
        command += [word for name, port in ports.items() for word in (name, str(port))]
        command += ["--ready-file", str(ready_file), *([] if capture else ["--no-capture"])]

        def addresses() -> dict[str, str]:
            facts = json.loads(ready_file.read_text(encoding="utf-8"))
            return {"front": _url(facts), "direct": _url(facts["replicas"][0])}

        def ready() -> bool:
            return ready_file.exists() and all(
                place.right(url + OIP_PATH, Wire.OIP_BINARY) for url in addresses().values()
            )

        with server(command, environment={"PYTHONPATH": str(ROOT)}, folder=place.folder, ready=ready):
            yield addresses() | {"grpc": f"grpc://127.0.0.1:{ports['--grpc-port']}"}

    return start


def plain_ray(mode: str) -> Start:
    """Ray Serve without us, in one of the modes of `peers/ray_server.py`."""

    @contextlib.contextmanager
    def start(place: Workplace) -> Iterator[Addresses]:
        ready_file = place.folder / "ready.json"
        command = [str(python_of(None)), str(PEERS / "ray_server.py"), "--mode", mode, "--port", str(free_port())]
        variables = {"BENCH_MODEL": str(place.model.onnx), "RAY_USAGE_STATS_ENABLED": "0"}
        if mode == "throughput":
            variables |= _high_throughput(place.folder)

        def addresses() -> dict[str, str]:
            urls: dict[str, str | None] = json.loads(ready_file.read_text(encoding="utf-8"))
            return {entry: url for entry, url in urls.items() if url}

        def ready() -> bool:
            return ready_file.exists() and all(place.right(f"{url}/infer", Wire.RAW) for url in addresses().values())

        command += ["--ready-file", str(ready_file)]
        with server(command, environment=variables, folder=place.folder, ready=ready):
            yield addresses()

    return start


def mosec(max_batch: int) -> Start:
    """One worker of mosec."""

    @contextlib.contextmanager
    def start(place: Workplace) -> Iterator[Addresses]:
        port, python = free_port(), python_of("mosec")
        command = [str(python), str(PEERS / "mosec_server.py"), "--address", "127.0.0.1", "--port", str(port)]
        environment = {"BENCH_MAX_BATCH": str(max_batch)}
        url = f"http://127.0.0.1:{port}"
        with _answering(place, [*command, "--log-level", "error"], environment, f"{url}/infer", Wire.RAW):
            yield {"front": url}

    return start


def litserve(wire: Wire) -> Start:
    """LitServe with one worker and its ZeroMQ queue."""

    @contextlib.contextmanager
    def start(place: Workplace) -> Iterator[Addresses]:
        port = free_port()
        command = [str(python_of("litserve")), str(PEERS / "litserve_server.py"), "--wire", str(wire)]
        url = f"http://127.0.0.1:{port}"
        with _answering(place, [*command, "--port", str(port)], {}, f"{url}/infer", wire):
            yield {"front": url}

    return start


@contextlib.contextmanager
def pytriton(place: Workplace) -> Iterator[Addresses]:
    """The real Triton front end with PyTriton's Python backend."""
    port, grpc_port, python = free_port(), free_port(), python_of("pytriton")
    command = [str(python), str(PEERS / "pytriton_server.py"), "--port", str(port), "--grpc-port", str(grpc_port)]
    environment = {"PYTRITON_HOME": str(place.folder / "pytriton")}
    url = f"http://127.0.0.1:{port}"
    pid = None
    try:
        with _answering(place, command, environment, url + OIP_PATH, Wire.OIP_BINARY) as process:
            pid = process.pid
            yield {"front": url, "grpc": f"grpc://127.0.0.1:{grpc_port}"}
    finally:
        # Its shared memory outlives it; the name (misspelt by PyTriton) holds the pid.
        for leftover in Path("/dev/shm").glob(f"pytrtion{pid}-*"):
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def _answering(
    place: Workplace, command: list[str], environment: Mapping[str, str], url: str, wire: Wire
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that is ready when it gives the right answer."""
    python_bin = str(Path(command[0]).parent)
    variables = {"BENCH_MODEL": str(place.model.onnx), "TMPDIR": str(place.folder), "PYTHONUNBUFFERED": "1"}
    variables |= {"PATH": f"{python_bin}:/usr/local/bin:/usr/bin:/bin"} | dict(environment)
    with server(command, environment=variables, folder=place.folder, ready=lambda: place.right(url, wire)) as process:
        yield process


def _high_throughput(folder: Path) -> dict[str, str]:
    """The same variables that our own server sets, so that both have the same HAProxy."""
    ports = RayPorts(
        haproxy_stats=free_port(),
        haproxy_metrics=free_port(),
        first_replica_http=_first_replica_port(),
        first_replica_grpc=_first_replica_port(),
    )
    return ray_environment(folder, ports=ports, haproxy_threads=min(4, os.cpu_count() or 1))


def _first_replica_port() -> int:
    """Ray takes replicas' ports upwards from here; random, so that another cluster on the machine is not in the way."""
    return random.randrange(20_000, 29_000)


def _url(facts: Mapping[str, str | int]) -> str:
    return f"http://{facts['host']}:{facts['port']}"


def capture_account(url: str) -> dict[str, int]:
    """The replica's own account of capture, added up over versions: result to records.

    Args:
        url: Base URL of the replica's own port.
    """
    text = httpx.get(f"{url}/metrics", timeout=10).raise_for_status().text
    account: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith("hardcase_capture_records_total{"):
            labels, value = line.rsplit(" ", 1)
            result = labels.split('result="', 1)[1].split('"', 1)[0]
            account[result] = account.get(result, 0) + int(float(value))
    return account
