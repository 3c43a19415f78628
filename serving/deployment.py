"""The pool as a Ray Serve application: replicas that are identical, each with all models, each its own HTTP server.

Versions are not deployments: replicas follow the registry, so nothing here changes when a model does. Import this
module only after `serving.ray_environment` has been applied, because Ray reads its environment while it is imported.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import ApplicationStatus, LoggingConfig

from export.contracts import codec
from export.contracts.errors import HardcaseError
from serving.auth import is_loopback, require_safe_bind
from serving.options import ServingOptions
from serving.replica import Replica

APPLICATION = "hardcase"
POOL = "pool"
_OBJECT_STORE_BYTES = 100 << 20  # nothing of ours goes through the object store; Ray wants at least 75 MiB
_STOP_MARGIN_S = 10.0
_log = logging.getLogger("hardcase.ray")


class ServeFailed(HardcaseError):
    """Ray Serve did not bring the application up; the log folder of the replica says why."""

    code = "serve_failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaTarget:
    """Where one replica's own HTTP server listens."""

    host: str
    port: int


class PoolReplica:
    """One replica. Ray constructs it, asks for the app, then starts the HTTP server, which uses our protocol class."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._replica = Replica(codec.from_plain(ServingOptions, options), _replica_name())
        if _same_loop():
            self._replica.hook()
        else:
            self._replica.stats.lane = "asgi"
            _log.warning(
                "RAY_SERVE_THROUGHPUT_OPTIMIZED=1 was not in the environment that Ray was started in: "
                "every request takes the slower ASGI lane"
            )

    async def __serve_build_asgi_app__(self) -> Any:
        """Load what the plans name; then the app that Ray mounts for everything that the lane does not take."""
        from serving.app import build_app

        await self._replica.open()
        await self._replica.settled()
        return build_app(self._replica.plane)

    async def check_health(self) -> None:
        """Asked by Ray on our loop, so an answer at all means that the loop lives.

        Raises:
            RuntimeError: only a new process can help.
        """
        pool = self._replica.pool
        if not pool.healthy():
            raise RuntimeError("a device failed for good in this process")
        stuck = pool.stuck(self._replica.options.limits.timeout_s)
        if stuck is not None:
            raise RuntimeError(f"a batch of {stuck} has been running for longer than the time limit")

    async def __del__(self) -> None:
        """Called by Ray when the replica has been drained."""
        if hasattr(self, "_replica"):
            await self._replica.close()


def build(
    options: ServingOptions, *, replicas: int = 1, cpus: float = 1.0, gpus: float = 0.0, drain_s: float = 30.0
) -> serve.Application:
    """The application.

    Args:
        options: The settings of every replica; registry and records must be reachable from where replicas run.
        replicas: How many.
        cpus: Logical CPUs that Ray reserves for each.
        gpus: GPUs that Ray reserves for each.
        drain_s: As in `ray_environment`.
    """
    deployment = _pool_deployment().options(
        name=POOL,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        # Our own queue bounds itself, per version and in rows; Ray's count would only see the slower lane.
        max_ongoing_requests=1_000_000,
        health_check_period_s=1.0,  # a dead process is noticed, and replaced, that much sooner
        health_check_timeout_s=15.0,
        graceful_shutdown_timeout_s=drain_s + _STOP_MARGIN_S,
        graceful_shutdown_wait_loop_s=0.5,
        max_surge_percent=100,  # a new replica is ready before an old one goes
        logging_config=LoggingConfig(enable_access_log=False, log_level="INFO"),
    )
    application: serve.Application = deployment.bind(codec.to_plain(options))
    return application


def start(
    options: ServingOptions,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    replicas: int = 1,
    cpus: float = 1.0,
    gpus: float = 0.0,
    drain_s: float = 30.0,
    ray_address: str | None = None,
    ray_folder: Path | None = None,
    timeout_s: float = 120.0,
) -> None:
    """Start Ray Serve and run the application; returns when every replica is ready.

    Args:
        options: The settings.
        host: Address that HAProxy and the replicas bind; other machines need an API key.
        port: HAProxy's port.
        replicas: How many replicas.
        cpus: Logical CPUs of each.
        gpus: GPUs of each.
        drain_s: As in `ray_environment`.
        ray_address: An existing cluster; None starts one on this machine that ends with this process.
        ray_folder: The local cluster's folder; short, because it holds Unix sockets.
        timeout_s: Time for all of it.

    Raises:
        UnsafeBind: reachable from other machines without a credential.
        ServeFailed: not ready in time, or the replicas fail to start.
    """
    require_safe_bind(host, options.auth)
    if ray_address is not None:
        ray.init(address=ray_address, log_to_driver=False)
    elif not ray.is_initialized():
        ray.init(
            num_cpus=max(2, int(2 * replicas * cpus)),  # logical: room for a surge during a rolling restart
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(ray_folder) if ray_folder is not None else None,
        )
    serve.start(http_options=HTTPOptions(host=host, port=port), logging_config=LoggingConfig(log_level="WARNING"))
    application = build(options, replicas=replicas, cpus=cpus, gpus=gpus, drain_s=drain_s)
    deadline = time.monotonic() + timeout_s
    _run(application, deadline)
    if ray_address is None:
        _wait_for_haproxy(replicas, deadline)


def stop() -> None:
    """Drain and stop the application, then the local cluster. Replicas write their record logs out."""
    if ray.is_initialized():
        untyped: Any = serve
        untyped.shutdown()
        _shut_ray_down()


def replica_targets() -> list[ReplicaTarget]:
    """Where the replicas' own HTTP servers listen, for Prometheus. The process must be connected to the cluster."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    if client is None:
        return []
    # With HAProxy on, the public status names only proxies; the list that HAProxy is configured from names replicas.
    host = client.http_config.host
    groups = ray.get(client._controller.get_target_groups.remote(app_name=APPLICATION, from_proxy_manager=True))
    return [
        # Replicas bind what HAProxy binds; on loopback, the node's address that Ray gives is not where they listen.
        ReplicaTarget(host=host if is_loopback(host) else target.ip, port=target.port)
        for group in groups
        if group.protocol == "HTTP" and group.app_name == APPLICATION
        for target in group.targets
    ]


def _shut_ray_down() -> None:
    untyped: Any = ray.shutdown
    untyped()


def _pool_deployment() -> Any:
    return serve.deployment(serve.ingress()(PoolReplica))


def _run(application: serve.Application, deadline: float) -> None:
    """Deploy, and wait until the application runs.

    Raises:
        ServeFailed: with Ray's own reason in the log.
    """
    serve.run(application, name=APPLICATION, route_prefix="/", blocking=False)
    while True:
        status = serve.status().applications[APPLICATION]
        if status.status == ApplicationStatus.RUNNING:
            return
        if status.status == ApplicationStatus.DEPLOY_FAILED or time.monotonic() > deadline:
            _log.error("Ray Serve: %s: %s", status.status, status.message)
            raise ServeFailed(f"Ray Serve reports {status.status} for the serving pool: its logs say why")
        time.sleep(0.1)


def _wait_for_haproxy(replicas: int, deadline: float) -> None:
    """Wait until HAProxy sends requests to every replica: Serve reports RUNNING a moment before it has told HAProxy.

    Until then HAProxy falls back to a proxy of Serve's, which answers too, slowly.

    Raises:
        ServeFailed: it does not in time.
    """
    port = os.environ.get("RAY_SERVE_HAPROXY_STATS_PORT")
    if port is None or os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        return
    while _servers_up(f"http://127.0.0.1:{port}/stats;csv") < replicas:
        if time.monotonic() > deadline:
            raise ServeFailed("HAProxy does not reach the replicas of the serving pool: their logs say why")
        time.sleep(0.1)


def _servers_up(url: str) -> int:
    """How many replicas HAProxy's statistics page calls UP."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            rows = list(csv.DictReader(io.StringIO(answer.read().decode().lstrip("# "))))
    except OSError:
        return 0
    no_replicas = ("FRONTEND", "BACKEND")
    return sum(
        row["pxname"] == f"http-{APPLICATION}"
        and row["svname"] not in no_replicas
        and "fallback" not in row["svname"]
        and row["status"].startswith("UP")
        for row in rows
    )


def _replica_name() -> str:
    return f"{POOL}-{serve.get_replica_context().replica_id.unique_id}"


def _same_loop() -> bool:
    """Whether Ray runs our code on the loop of the replica's HTTP server."""
    from ray.serve._private import constants

    return bool(constants.RAY_SERVE_ENABLE_DIRECT_INGRESS and not constants.RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD)
