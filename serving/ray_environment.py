"""The environment that Ray must be started in. Ray reads it while it is imported, so it is set before, on every node.

This module imports nothing of Ray. `tests/ray` holds a test of each fact that we rely on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SOCKET_PATH_BYTES = 107  # sun_path of a Unix socket on Linux, without its NUL
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
    folder: Path, *, ports: RayPorts | None = None, drain_s: float = 30.0, haproxy_threads: int = 4
) -> dict[str, str]:
    """Variables for Ray Serve's high-throughput path: client → HAProxy → the replica's own HTTP server.

    Args:
        folder: Where HAProxy keeps its configuration, state and sockets; short, because Unix socket paths are.
        ports: Ports; the defaults are Ray's.
        drain_s: How long a replica that is being stopped is held while HAProxy forgets it. Ray's 30 s suit a cluster;
            a single machine needs a second or two.
        haproxy_threads: HAProxy's threads.

    Raises:
        ValueError: the folder's path is too long for a Unix socket.
    """
    ports = ports or RayPorts()
    longest = len(str(folder / "metrics.sock").encode()) + _NODE_FOLDER_BYTES
    if longest > _SOCKET_PATH_BYTES:
        raise ValueError(
            f"the folder for HAProxy's sockets has too long a path, by {longest - _SOCKET_PATH_BYTES} bytes"
        )
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",  # the model runs on the loop that its HTTP server runs on
        "RAY_USAGE_STATS_ENABLED": "0",
        # nothing of the answer has been sent: ask another replica. Inference changes nothing, so asking twice is safe
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_RETRIES": "3",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",  # a stopped process is out of rotation within 3 s
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
