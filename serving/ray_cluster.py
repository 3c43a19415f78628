"""Starting or attaching to a Ray cluster, running the pools in it, and leaving it as it was found.

Import this module only after `serving.ray_environment` has been applied: Ray reads its environment while it is
imported.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, LoggingConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from export.contracts.errors import HardcaseError
from serving.auth import is_loopback, require_safe_bind
from serving.deployment import build
from serving.pools import APPLICATION, ClusterOptions, PoolSpec, check_pools
from serving.ray_environment import ADDRESS_FILE, NEEDED

RAY_ERRORS: tuple[type[Exception], ...] = (ray.exceptions.RayError, RayServeException, TimeoutError)
_OBJECT_STORE_BYTES = 100 << 20  # nothing of ours goes through the object store; Ray wants at least 75 MiB
_ATTACH_S = 30.0
_log = logging.getLogger("hardcase.ray")


class ServeFailed(HardcaseError):
    """Ray Serve did not bring the application up; the log folder of the replica says why."""

    code = "serve_failed"


class ClusterUnfit(HardcaseError):
    """The existing cluster cannot serve as it is; the message says what its nodes lack and how to start them."""

    code = "cluster_unfit"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaTarget:
    """Where one replica's own HTTP server listens."""

    host: str
    port: int


def start(pools: Sequence[PoolSpec], cluster: ClusterOptions) -> None:
    """Start Ray Serve, or attach to an existing cluster, and run the pools; returns when every replica is ready.

    A pool that runs already, with other settings, is rolled: new replicas are ready before old ones go.

    Args:
        pools: Exactly one default pool, and any number of models' own.
        cluster: Where.

    Raises:
        UnsafeBind: reachable from other machines without a credential.
        PoolsUnfit: the pools contradict each other.
        ClusterUnfit: the cluster cannot be reached, or was not started for our serving.
        ServeFailed: not ready in time, or the replicas fail to start.
    """
    check_pools(tuple(pools))
    for pool in pools:
        require_safe_bind(cluster.host, pool.options.auth)
    if cluster.address is not None:
        _attach(cluster.address)
    elif not ray.is_initialized():
        _start_local(pools, cluster)
    http = HTTPOptions(host=cluster.host, port=cluster.port)
    grpc = gRPCOptions(
        port=cluster.grpc_port or 0,
        grpc_servicer_functions=["serving.grpc.ingress:add_to"] if cluster.grpc_port else [],
        enable_reflection=False,  # it would answer without a credential
    )
    serve.start(http_options=http, grpc_options=grpc, logging_config=LoggingConfig(log_level="WARNING"))
    _check_front(cluster)
    deadline = time.monotonic() + cluster.start_timeout_s
    serve.run_many(
        [serve.RunTarget(build(pool, cluster), name=pool.application, route_prefix=pool.route) for pool in pools],
        wait_for_applications_running=False,
    )
    for stale in _ours() - {pool.application for pool in pools}:
        serve.delete(stale)
    for pool in pools:
        _wait_until_running(pool, deadline)
    if cluster.address is None:
        _wait_for_haproxy(pools, deadline)


def stop(cluster: ClusterOptions, *, keep: bool = False) -> None:
    """Drain and stop our applications, and the cluster if it is ours. Replicas write their record logs out.

    Args:
        cluster: As it was started.
        keep: Leave the applications running in a cluster that is not ours.
    """
    if not ray.is_initialized():
        return
    untyped: Any = serve
    if cluster.address is None:
        untyped.shutdown()
    elif not keep:
        for name in sorted(_ours()):
            untyped.delete(name)
    _disconnect()


def replica_targets() -> list[ReplicaTarget]:
    """Where the replicas' own HTTP servers listen, for Prometheus. The process must be connected to the cluster."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    if client is None:
        return []
    # With HAProxy on, the public status names only proxies; the list that HAProxy is configured from names replicas.
    host = client.http_config.host
    groups = ray.get(client._controller.get_target_groups.remote(from_proxy_manager=True))
    return [
        # Replicas bind what HAProxy binds; on loopback, the node's address that Ray gives is not where they listen.
        ReplicaTarget(host=host if is_loopback(host) else target.ip, port=target.port)
        for group in groups
        if group.protocol == "HTTP" and _is_ours(group.app_name)
        for target in group.targets
    ]


def _start_local(pools: Sequence[PoolSpec], cluster: ClusterOptions) -> None:
    # logical: room for a surge during a rolling restart
    cpus = sum(2 * pool.most_replicas * pool.cpus for pool in pools)
    ray.init(
        num_cpus=max(2, int(cpus + 0.999)),
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(cluster.folder) if cluster.folder is not None else None,
    )
    if cluster.folder is not None:  # for those of this machine that are let in: jobs of trainings
        (cluster.folder / ADDRESS_FILE).write_text(ray.get_runtime_context().gcs_address)


def _attach(address: str) -> None:
    """Connect to a cluster that somebody else started, and look whether it can serve.

    Raises:
        ClusterUnfit: it cannot be reached, it refuses our token, or a node's environment lacks what is needed.
    """
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        _log.error("Ray at %s: %s", address, error)
        raise ClusterUnfit(
            "the Ray cluster of ray.address cannot be reached, or refuses the token: "
            "is it running, the same Ray version, and is ray.auth_token_file its token?"
        ) from error
    nodes: Any = ray.nodes  # untyped
    remote: Any = ray.remote(num_cpus=0, max_retries=0)(_environment)
    asked = {
        str(node["NodeID"]): remote.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        ).remote(tuple(NEEDED))
        for node in nodes()
        if node["Alive"]
    }
    try:
        answers: dict[str, dict[str, str | None]] = dict(
            zip(asked, ray.get(list(asked.values()), timeout=_ATTACH_S), strict=True)
        )
    except ray.exceptions.RayError as error:
        _disconnect()
        raise ClusterUnfit("the nodes of the Ray cluster cannot import this package: install hardcase there") from error
    lacking = sorted(
        {f"{name}={wanted}" for found in answers.values() for name, wanted in NEEDED.items() if found[name] != wanted}
    )
    if lacking:
        _disconnect()
        raise ClusterUnfit(
            f"the Ray cluster was started without {', '.join(lacking)} in its nodes' environment: set what "
            "`python -m serving.ray_environment` prints on every node before `ray start`"
        )


def _check_front(cluster: ClusterOptions) -> None:
    """Whoever starts Serve in a cluster decides where HAProxy listens, for good.

    Raises:
        ClusterUnfit: somebody did, and not where the settings say.
    """
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    found = client.http_config if client is not None else None
    if found is not None and (found.host, found.port) != (cluster.host, cluster.port):
        _disconnect()
        raise ClusterUnfit(
            f"Ray Serve runs in this cluster already, on {found.host} port {found.port}: set serving.host and "
            "serving.port to that, or shut it down first"
        )


def _environment(names: tuple[str, ...]) -> dict[str, str | None]:
    """Runs on a node of the cluster: what its processes were started with."""
    return {name: os.environ.get(name) for name in names}


def _ours() -> set[str]:
    return {name for name in serve.status().applications if _is_ours(name)}


def _is_ours(application: str) -> bool:
    return application == APPLICATION or application.startswith(f"{APPLICATION}-")


def _disconnect() -> None:
    untyped: Any = ray.shutdown
    untyped()


def _wait_until_running(pool: PoolSpec, deadline: float) -> None:
    """Wait until an application runs, with the replicas that were asked for.

    Raises:
        ServeFailed: with Ray's own reason in the log.
    """
    while True:
        status = serve.status().applications[pool.application]
        if status.status == ApplicationStatus.RUNNING:
            return
        if status.status == ApplicationStatus.DEPLOY_FAILED or time.monotonic() > deadline:
            _log.error("Ray Serve: %s: %s", status.status, status.message)
            raise ServeFailed(f"Ray Serve reports {status.status} for the pool {pool.application}: its logs say why")
        time.sleep(0.1)


def _wait_for_haproxy(pools: Sequence[PoolSpec], deadline: float) -> None:
    """Wait until HAProxy sends requests to every replica: Serve reports RUNNING a moment before it has told HAProxy.

    Until then HAProxy falls back to a proxy of Serve's, which answers too, slowly.

    Raises:
        ServeFailed: it does not in time.
    """
    port = os.environ.get("RAY_SERVE_HAPROXY_STATS_PORT")
    if port is None or os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        return
    wanted = {f"http-{pool.application}": pool.first_replicas for pool in pools}
    while True:
        up = _servers_up(f"http://127.0.0.1:{port}/stats;csv")
        if all(up.get(backend, 0) >= replicas for backend, replicas in wanted.items()):
            return
        if time.monotonic() > deadline:
            raise ServeFailed("HAProxy does not reach the replicas of the serving pools: their logs say why")
        time.sleep(0.1)


def _servers_up(url: str) -> dict[str, int]:
    """How many replicas HAProxy's statistics page calls UP, by backend."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            rows = list(csv.DictReader(io.StringIO(answer.read().decode().lstrip("# "))))
    except OSError:
        return {}
    no_replicas = ("FRONTEND", "BACKEND")
    up: dict[str, int] = {}
    for row in rows:
        is_replica = row["svname"] not in no_replicas and "fallback" not in row["svname"]
        if is_replica and row["status"].startswith("UP"):
            up[row["pxname"]] = up.get(row["pxname"], 0) + 1
    return up
