"""How each measured server is started: its command, its environment, and when it counts as ready."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.model import MODEL_NAME, BenchModel
from benchmarks.payloads import Wire
from benchmarks.processes import free_port, server

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


def ours_standalone(*, capture: bool, fast_lane: bool = True) -> Start:
    """Our data plane under uvicorn, without Ray."""

    @contextlib.contextmanager
    def start(place: Workplace) -> Iterator[Addresses]:
        ready_file, port = place.folder / "ready", free_port()
        command = [str(python_of(None)), "-m", "serving.standalone", "--registry", str(place.registry)]
        command += ["--records", str(place.folder / "records"), "--port", str(port), "--ready-file", str(ready_file)]
        command += [] if capture else ["--options-json", json.dumps({"capture": None})]
        command += [] if fast_lane else ["--no-fast-lane"]
        url = f"http://127.0.0.1:{port}"
        environment = {"PYTHONPATH": str(ROOT)}
        with _answering(place, command, environment, url + OIP_PATH, Wire.OIP_BINARY):
            yield {"front": url, "direct": url}

    return start


def ours_ray(*, capture: bool) -> Start:
    """Our Ray Serve application with one replica behind HAProxy."""

    @contextlib.contextmanager
    def start(place: Workplace) -> Iterator[Addresses]:
        command = [str(python_of(None)), "-m", "benchmarks.our_ray", "--registry", str(place.registry)]
        command += ["--records", str(place.folder / "records"), *([] if capture else ["--no-capture"])]
        with _ray(place, command, Wire.OIP_BINARY, OIP_PATH, high_throughput=True) as addresses:
            yield addresses

    return start


def plain_ray(mode: str) -> Start:
    """Ray Serve without us."""

    @contextlib.contextmanager
    def start(place: Workplace) -> Iterator[Addresses]:
        command = [str(python_of(None)), str(PEERS / "ray_server.py"), "--mode", mode]
        with _ray(place, command, Wire.RAW, "/infer", high_throughput=mode == "throughput") as addresses:
            yield addresses

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
    port, python = free_port(), python_of("pytriton")
    command = [str(python), str(PEERS / "pytriton_server.py"), "--port", str(port), "--grpc-port", str(free_port())]
    environment = {"PYTRITON_HOME": str(place.folder / "pytriton")}
    url = f"http://127.0.0.1:{port}"
    with _answering(place, command, environment, url + OIP_PATH, Wire.OIP_BINARY):
        yield {"front": url}


@contextlib.contextmanager
def _answering(
    place: Workplace, command: list[str], environment: Mapping[str, str], url: str, wire: Wire
) -> Iterator[None]:
    """A server that is ready when it gives the right answer."""
    python_bin = str(Path(command[0]).parent)
    variables = {"BENCH_MODEL": str(place.model.onnx), "TMPDIR": str(place.folder), "PYTHONUNBUFFERED": "1"}
    variables |= {"PATH": f"{python_bin}:/usr/local/bin:/usr/bin:/bin"} | dict(environment)
    with server(command, environment=variables, folder=place.folder, ready=lambda: place.right(url, wire)):
        yield


@contextlib.contextmanager
def _ray(place: Workplace, command: list[str], wire: Wire, path: str, *, high_throughput: bool) -> Iterator[Addresses]:
    """A launcher with a Ray cluster of its own, on ports of its own; it writes its addresses when all is up."""
    ready_file, port = place.folder / "ready.json", free_port()
    variables = {"BENCH_MODEL": str(place.model.onnx), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    variables |= ray_environment(place.folder, high_throughput=high_throughput)

    def ready() -> bool:
        if not ready_file.exists():
            return False
        urls = [url for url in json.loads(ready_file.read_text()).values() if url]
        return all(place.right(url + path, wire) for url in urls)

    command = [*command, "--port", str(port), "--ready-file", str(ready_file)]
    with server(command, environment=variables, folder=place.folder, ready=ready):
        yield {entry: url for entry, url in json.loads(ready_file.read_text()).items() if url}


def ray_environment(folder: Path, *, high_throughput: bool) -> dict[str, str]:
    """Ray's settings for one start: usage statistics off, HAProxy's ports and files away from anybody else's."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    if not high_throughput:
        return variables
    first = 20_000 + free_port() % 10_000
    return variables | {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + 100),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(first + 101),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(first + 200),
    }


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
