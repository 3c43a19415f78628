"""The serving process: Ray Serve behind HAProxy, or one process without Ray; in the foreground until a signal."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import threading
from pathlib import Path

from deploy import processes
from deploy.cli.context import Invocation, console
from deploy.errors import AlreadyRunning, CommandError
from deploy.paths import StatePaths
from deploy.ports import PortNeed, check_port
from deploy.replica_list import write_targets
from deploy.settings import Settings
from deploy.storage import first_pull
from deploy.wiring import cluster_options, pools, serving_options

TARGETS_INTERVAL_S = 1.0
_log = logging.getLogger("hardcase.serving")


def run_standalone(invocation: Invocation, *, supervised: bool) -> None:
    """Serve from this process until a signal.

    Raises:
        AlreadyRunning: the port is taken.
        CommandError: the host may not be bound without a credential.
    """
    from serving.standalone import Listening, serve

    _begin(invocation, supervised=supervised)
    settings, paths = invocation.settings.serving, invocation.paths.make()
    for need in serving_ports(invocation.settings):
        check_port(need)

    def ready(listening: Listening) -> None:
        write_targets(paths, [(listening.host, listening.port)])
        grpc = f", gRPC on {listening.host}:{listening.grpc_port}" if listening.grpc_port else ""
        console().print(f"serving without Ray on {listening.url}/v2{grpc}")

    options, grpc_port = serving_options(invocation.settings, paths), settings.grpc_port or None
    serve(options, settings.host, settings.port, grpc_port=grpc_port, on_ready=ready)


def serving_ports(settings: Settings) -> list[PortNeed]:
    """The ports that clients reach the service on."""
    serving = settings.serving
    needs = [PortNeed(host=serving.host, port=serving.port, setting="serving.port")]
    if serving.grpc_port:
        needs.append(PortNeed(host=serving.host, port=serving.grpc_port, setting="serving.grpc_port"))
    return needs


def run_ray(invocation: Invocation, *, supervised: bool) -> None:
    """Serve through Ray until a signal, keep the list of replicas for Prometheus, and end all that Ray started.

    Raises:
        AlreadyRunning: the port is taken.
    """
    if invocation.settings.serving.standalone:
        run_standalone(invocation, supervised=supervised)
        return
    _begin(invocation, supervised=supervised)
    settings, paths = invocation.settings, invocation.paths.make()
    if settings.ray.address is None:  # in somebody else's cluster, our own HAProxy may have it already
        for need in serving_ports(settings):
            check_port(need)
    temporary = _temporary(Path(settings.ray.temp_root))
    run_id = os.environ.setdefault(processes.RUN_ID, secrets.token_hex(8))
    stop = threading.Event()
    _stop_on_signals(stop)
    # Ray and Serve read these when they are imported, here and in every process that they start.
    for name, value in _ray_environment(settings, paths, temporary).items():
        os.environ.setdefault(name, value)
    from serving import ray_cluster

    cluster = cluster_options(settings, temporary)
    try:
        ray_cluster.start(pools(settings, paths), cluster)
        _stop_on_signals(stop)  # Ray put its own handlers in place while it started
        console().print(f"serving through Ray on http://{settings.serving.host}:{settings.serving.port}/v2")
        _publish_targets(paths, stop)
    finally:
        try:
            ray_cluster.stop(cluster, keep=paths.keep_file.exists())
            paths.keep_file.unlink(missing_ok=True)
        finally:
            if not supervised:
                processes.end_all(run_id, grace_s=3.0)
                shutil.rmtree(temporary, ignore_errors=True)


def _stop_on_signals(stop: threading.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())


def _publish_targets(paths: StatePaths, stop: threading.Event) -> None:
    from serving import ray_cluster

    known: list[tuple[str, int]] | None = None
    while not stop.is_set():
        try:
            targets = sorted((t.host, t.port) for t in ray_cluster.replica_targets())
            if targets != known:
                write_targets(paths, targets)
                known = targets
        except ray_cluster.RAY_ERRORS as error:  # its controller may be restarting
            _log.warning("replicas cannot be listed: %s", type(error).__name__)
        stop.wait(TARGETS_INTERVAL_S)


def _ray_environment(settings: Settings, paths: StatePaths, folder: Path) -> dict[str, str]:
    """For a cluster of our own all of it; for somebody else's only what lets us in."""
    from serving.ray_environment import NEEDED, RayPorts, make_haproxy_keeper, make_token, ray_environment

    own = settings.ray
    token = None
    if own.token_auth and (own.address is None or own.auth_token_file is not None):
        token = (
            Path(own.auth_token_file).expanduser().absolute() if own.auth_token_file else make_token(paths.ray_token)
        )
    if own.address is not None:
        access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)} if token is not None else {}
        return {**NEEDED, "RAY_USAGE_STATS_ENABLED": "0", **access}
    stats, metrics, fallback_http, fallback_grpc = processes.free_ports(4)
    ports = RayPorts(
        haproxy_stats=own.haproxy_stats_port or stats,
        haproxy_metrics=own.haproxy_metrics_port or metrics,
        first_replica_http=own.first_replica_port or processes.free_range(30_000, 40_000),
        first_replica_grpc=processes.free_range(40_000, 50_000),
        fallback_http=fallback_http,
        fallback_grpc=fallback_grpc,
    )
    return ray_environment(
        folder,
        ports=ports,
        drain_s=own.drain_s,
        haproxy_threads=own.haproxy_threads,
        haproxy_buffer_bytes=own.haproxy_buffer_bytes,
        timeout_s=settings.serving.limits.timeout_s,
        token_file=token,
        haproxy=make_haproxy_keeper(folder, receive_s=settings.serving.limits.receive_s),
    )


def _begin(invocation: Invocation, *, supervised: bool) -> None:
    configure_logging(invocation.settings.log.level)
    if supervised:
        processes.end_with_parent()
    else:
        processes.adopt_orphans()
    settings = invocation.settings.serving
    if invocation.settings.storage.url:
        first_pull(invocation.registry)
    from serving.auth import UnsafeBind, require_safe_bind

    try:
        require_safe_bind(settings.host, serving_options(invocation.settings, invocation.paths).auth)
    except UnsafeBind as error:
        raise CommandError(error.message, "set serving.auth.keys, or serving.host to 127.0.0.1") from None


def configure_logging(level: str) -> None:
    """Log to standard error: time, level, logger, message."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells where it found credentials


def _temporary(root: Path) -> Path:
    given = os.environ.get(processes.RUN_TEMP)
    folder = Path(given) if given else root / f"hc-{secrets.token_hex(4)}"
    if not given and folder.exists():
        raise AlreadyRunning(f"{folder} exists already")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
