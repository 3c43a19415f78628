"""What a pool is and how many replicas it gets, as frozen records. Nothing of Ray is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export.contracts.errors import HardcaseError
from serving.autoscaling import Autoscaling
from serving.options import ServingOptions

APPLICATION = "hardcase"  # the default pool's application; a model's own pool is called hardcase-MODEL


class PoolsUnfit(HardcaseError):
    """The pools contradict each other; the message says which."""

    code = "pools_unfit"


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSpec:
    """One pool: identical replicas that host the same models. Each is a Ray Serve application with a route of its own.

    Attributes:
        options: What each replica needs to know; registry and records must be reachable from where replicas run.
        model: The one model of this pool, which then owns the route `/v2/models/MODEL`. None is the default pool: it
            owns every other route and every model that has no pool. HAProxy sends a request to the longest route.
        replicas: How many, when `autoscaling` does not decide.
        autoscaling: None keeps the number.
        cpus: Logical CPUs that Ray reserves for each replica.
        gpus: GPUs that Ray reserves for each replica.
        threads: Threads of the numeric libraries in each replica (OpenMP, MKL, OpenBLAS); 0 leaves them alone.
    """

    options: ServingOptions
    model: str | None = None
    replicas: int = 1
    autoscaling: Autoscaling | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 0

    @property
    def application(self) -> str:
        """Name of the application in Ray Serve."""
        return APPLICATION if self.model is None else f"{APPLICATION}-{self.model}"

    @property
    def route(self) -> str:
        """The route that HAProxy knows it by."""
        return "/" if self.model is None else f"/v2/models/{self.model}"

    @property
    def first_replicas(self) -> int:
        """How many replicas there are when it starts."""
        return self.replicas if self.autoscaling is None else self.autoscaling.min_replicas

    @property
    def most_replicas(self) -> int:
        """How many replicas there may be."""
        return self.replicas if self.autoscaling is None else self.autoscaling.max_replicas


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOptions:
    """Where Ray and HAProxy are.

    Attributes:
        host: Address that HAProxy and the replicas bind; other machines need an API key.
        port: HAProxy's port.
        grpc_port: HAProxy's port for gRPC; None serves HTTP only.
        drain_s: As in `ray_environment`.
        health_timeout_s: A replica that leaves three health checks in a row unanswered for this long is replaced.
        address: An existing cluster; None starts one on this machine that ends with this process.
        folder: The local cluster's folder; short, because it holds Unix sockets.
        start_timeout_s: Time in which everything must be ready.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    drain_s: float = 30.0
    health_timeout_s: float = 2.0
    address: str | None = None
    folder: Path | None = None
    start_timeout_s: float = 120.0


def check_pools(pools: tuple[PoolSpec, ...]) -> None:
    """Refuse pools that Ray or HAProxy would mix up.

    Raises:
        PoolsUnfit: two default pools, none, or two names that HAProxy cannot tell apart.
    """
    if sum(pool.model is None for pool in pools) != 1:
        raise PoolsUnfit("there must be exactly one default pool")
    names = [pool.application.lower() for pool in pools]  # HAProxy's backends are named in lower case
    for name in names:
        if names.count(name) > 1:
            raise PoolsUnfit(f"two pools are called '{name.removeprefix(APPLICATION + '-')}' by HAProxy")
