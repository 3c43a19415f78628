"""Serving on Ray Serve as one foreground process: starts a cluster on this machine, serves, stops everything.

    python -m serving.ray_server --registry .hardcase/registry --records .hardcase/records --folder /tmp/hardcase-ray

Ctrl-C or SIGTERM drains the replicas and ends every process of the cluster. `--ready-file` appears when all replicas
are ready; it names the front address and every replica's own, and is kept up to date while replicas come and go.
SIGHUP reads `--options-json @FILE` and `--scale-json @FILE` again and replaces the replicas, new ones before old ones.
Exit status: 0 stopped as asked, 2 the settings are wrong, 3 Ray Serve did not start.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from export.contracts import codec
from export.contracts.errors import HardcaseError
from serving.autoscaling import Autoscaling
from serving.pools import ClusterOptions, PoolSpec
from serving.ray_environment import RayPorts, make_haproxy_keeper, make_token, ray_environment
from serving.standalone import read_options

_LOOK_S = 0.5
_DRAIN_S = 1.0  # HAProxy is on this machine: it forgets a replica at once

_log = logging.getLogger("hardcase.ray")


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    arguments = _arguments(argv)
    logging.basicConfig(level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        pools = _pools(arguments)
        arguments.folder.mkdir(parents=True, exist_ok=True)
        ports = RayPorts(
            haproxy_stats=arguments.haproxy_stats_port,
            haproxy_metrics=arguments.haproxy_metrics_port,
            first_replica_http=arguments.first_replica_port,
            first_replica_grpc=arguments.first_replica_port + 1000,
            fallback_http=_free_port(),
            fallback_grpc=_free_port(),
        )
        threads = min(4, os.cpu_count() or 1)
        environment = ray_environment(
            arguments.folder,
            ports=ports,
            drain_s=_DRAIN_S,
            haproxy_threads=threads,
            timeout_s=pools[0].options.limits.timeout_s,
            token_file=make_token(arguments.folder / "token"),
            haproxy=make_haproxy_keeper(arguments.folder, receive_s=pools[0].options.limits.receive_s),
        )
    except (HardcaseError, ValueError, OSError) as error:
        print(f"hardcase: {error}", file=sys.stderr)
        return 2
    os.environ.update(environment)
    cluster = ClusterOptions(
        host=arguments.host,
        port=arguments.port,
        grpc_port=arguments.grpc_port,
        drain_s=_DRAIN_S,
        address=arguments.ray_address,
        folder=arguments.folder / "ray",
    )
    return _serve(pools, cluster, arguments)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """Contents of `--scale-json`: replicas of the default pool, and models with pools of their own.

    Attributes:
        pools: Replicas by model, besides those of `--pool`.
    """

    replicas: int | None = None
    autoscaling: Autoscaling | None = None
    pools: dict[str, int] = dataclasses.field(default_factory=dict)


def _pools(arguments: argparse.Namespace) -> list[PoolSpec]:
    """The default pool, and one for each `--pool MODEL[:REPLICAS]`, as the files say now.

    Raises:
        HardcaseError, ValueError, OSError: what is given cannot be followed.
    """
    lane = False if arguments.no_fast_lane else None
    options = read_options(arguments.options_json, arguments.registry, arguments.records, lane)
    if arguments.no_capture:
        options = dataclasses.replace(options, capture=None)
    text = arguments.scale_json
    scale = codec.loads(Scale, Path(text[1:]).read_bytes() if text.startswith("@") else text)
    own = dict(scale.pools)
    for named in arguments.pool:
        model, _, replicas = named.partition(":")
        own[model] = int(replicas or 1)
    first = PoolSpec(
        options=dataclasses.replace(options, elsewhere=tuple(own)),
        replicas=scale.replicas or arguments.replicas,
        autoscaling=scale.autoscaling,
    )
    return [
        first,
        *(
            PoolSpec(options=dataclasses.replace(options, models=(model,)), model=model, replicas=replicas)
            for model, replicas in own.items()
        ),
    ]


def _serve(pools: list[PoolSpec], cluster: ClusterOptions, arguments: argparse.Namespace) -> int:
    from serving import ray_cluster

    stop, again = threading.Event(), threading.Event()

    def on_signal(number: int, _: object) -> None:
        if number == signal.SIGHUP:
            again.set()
        else:
            stop.set()

    def listen() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, on_signal)

    listen()
    try:
        ray_cluster.start(pools, cluster)
        listen()  # Ray put its own handlers in place while it started
        print(f"hardcase: serving on http://{arguments.host}:{arguments.port} (pid {os.getpid()})", flush=True)
        seen: list[dict[str, str | int]] = []
        while not stop.is_set():
            if again.is_set():
                again.clear()
                ray_cluster.start(_pools(arguments), cluster)
            targets = _targets(seen)
            if arguments.ready_file is not None and targets != seen:
                _announce(arguments, targets)
            seen = targets
            stop.wait(_LOOK_S)
    except (HardcaseError, ValueError, OSError) as error:
        print(f"hardcase: {error}", file=sys.stderr)
        return 3
    finally:
        if arguments.ready_file is not None:
            arguments.ready_file.unlink(missing_ok=True)
        ray_cluster.stop(cluster)
    return 0


def _targets(known: list[dict[str, str | int]]) -> list[dict[str, str | int]]:
    """The replicas' addresses; what is known while the controller is away."""
    from serving import ray_cluster

    try:
        return [dataclasses.asdict(target) for target in ray_cluster.replica_targets()]
    except ray_cluster.RAY_ERRORS as error:
        _log.warning("replicas cannot be listed: %s", type(error).__name__)
        return known


def _announce(arguments: argparse.Namespace, replicas: list[dict[str, str | int]]) -> None:
    facts = {
        "host": arguments.host,
        "port": arguments.port,
        "pid": os.getpid(),
        "ready": bool(replicas),
        "replicas": replicas,
    }
    partial = arguments.ready_file.with_name(arguments.ready_file.name + ".partial")
    partial.write_text(json.dumps(facts))
    partial.replace(arguments.ready_file)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.ray_server", description=__doc__.split("\n")[0])
    parser.add_argument("--registry", help="folder of the registry")
    parser.add_argument("--records", help="folder of the record logs")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the cluster; short, it holds sockets")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="HAProxy's port (default: %(default)s)")
    parser.add_argument("--grpc-port", type=int, help="HAProxy's port for gRPC (default: HTTP only)")
    parser.add_argument("--replicas", type=int, default=1, help="how many replicas (default: %(default)s)")
    parser.add_argument("--pool", action="append", default=[], help="MODEL[:REPLICAS]: a pool of its own for a model")
    parser.add_argument("--scale-json", default="{}", help="replicas of the default pool as JSON, or @file")
    parser.add_argument("--ray-address", help="an existing cluster, instead of one that ends with this process")
    parser.add_argument("--first-replica-port", type=int, default=30_000, help="replicas' own ports begin here")
    parser.add_argument("--haproxy-stats-port", type=int, default=8404)
    parser.add_argument("--haproxy-metrics-port", type=int, default=9101)
    parser.add_argument("--ready-file", type=Path, help="file that appears, with all addresses, when all is ready")
    parser.add_argument("--no-fast-lane", action="store_true", help="send every request through ASGI")
    parser.add_argument("--no-capture", action="store_true", help="record nothing")
    parser.add_argument("--options-json", default="{}", help="ServingOptions as JSON, or @file")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
