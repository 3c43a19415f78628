"""A pool as a Ray Serve application: replicas that are identical, each with all its models, each its own HTTP server.

Versions are not deployments: replicas follow the registry, so nothing here changes when a model does. Import this
module only after `serving.ray_environment` has been applied, because Ray reads its environment while it is imported.
Starting, attaching to and stopping a cluster is `serving.ray_cluster`'s business.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import LoggingConfig

from export.contracts import codec
from serving import autoscaling
from serving.autoscaling import LoadMeter
from serving.grpc import ingress
from serving.health import trouble
from serving.options import ServingOptions
from serving.pools import APPLICATION, ClusterOptions, PoolSpec
from serving.replica import Replica

if TYPE_CHECKING:
    from serving.version import LoadedVersion

POOL = "pool"
_STOP_MARGIN_S = 10.0
_LOOK_BACK_S = 5.0  # Ray averages what replicas report over this time
_REPORT_S = 1.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_log = logging.getLogger("hardcase.ray")


class PoolReplica:
    """One replica. Ray constructs it, asks for the app, then starts the HTTP server, which uses our protocol class."""

    def __init__(self, options: dict[str, Any], route: str = "/") -> None:
        self._replica = Replica(codec.from_plain(ServingOptions, options), _replica_name())
        self._own_route = route != "/"
        self._meter = LoadMeter()
        if _same_loop():
            self._replica.hook()
            ingress.offer(self._replica.plane)
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
        app = build_app(self._replica.plane)
        if not self._own_route:
            return app
        # Ray answers what is not below the pool's route itself; /metrics on the replica's own port must not be lost.
        self._replica.protocol.around = _Beside(app)
        return _Unprefixed(app)

    async def check_health(self) -> None:
        """Asked by Ray on our loop, so an answer at all means that the loop lives.

        Raises:
            RuntimeError: only a new process can help.
        """
        found = trouble(self._versions(), self._replica.options.limits.timeout_s, perf_counter_ns())
        if found is not None:
            raise RuntimeError(found)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Ray every second where the pool scales: Ray's own counts do not see the lane's requests."""
        spent = [
            (v, sum(cost.input_ns + cost.infer_ns + cost.output_ns for cost in v.stats.batch_sizes.values()))
            for v in self._versions()
        ]
        load = self._meter.read(spent)
        return {autoscaling.UTILISATION: load.utilisation, autoscaling.QUEUE_MS: load.queue_ms}

    def _versions(self) -> list[LoadedVersion]:
        return self._replica.versions()

    async def __del__(self) -> None:
        """Called by Ray when the replica has been drained."""
        if hasattr(self, "_replica"):
            await self._replica.close()


class _Beside:
    """Makes of the server's ASGI app one in which only paths below "/-/" are the server's, and all others ours."""

    def __init__(self, ours: Any) -> None:
        self._ours = ours

    def __call__(self, servers: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            ours = scope["type"] == "http" and not scope["path"].startswith("/-/")
            await (self._ours if ours else servers)(scope, receive, send)

        return app


class _Unprefixed:
    """Our app sees whole paths, wherever Ray mounts it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "root_path": ""}, receive, send)


def build(pool: PoolSpec, cluster: ClusterOptions) -> serve.Application:
    """The application of one pool."""
    actor: dict[str, Any] = {"num_cpus": pool.cpus, "num_gpus": pool.gpus}
    if pool.threads:
        # in the environment before the process imports numpy or torch, which make their threads then
        actor["runtime_env"] = {"env_vars": dict.fromkeys(_THREAD_VARIABLES, str(pool.threads))}
    settings: dict[str, Any] = {
        "name": POOL,
        "ray_actor_options": actor,
        # Our own queue bounds itself, per version and in rows; Ray's count would only see the slower lane.
        "max_ongoing_requests": 1_000_000,
        "health_check_period_s": 1.0,  # a dead process is noticed, and replaced, that much sooner
        "health_check_timeout_s": cluster.health_timeout_s,
        "graceful_shutdown_timeout_s": cluster.drain_s + _STOP_MARGIN_S,
        "graceful_shutdown_wait_loop_s": 0.5,
        "max_surge_percent": 100,  # a new replica is ready before an old one goes
        "logging_config": LoggingConfig(enable_access_log=False, log_level="INFO"),
    }
    if pool.autoscaling is None:
        settings["num_replicas"] = pool.replicas
    else:
        settings["autoscaling_config"] = _autoscaling_config(pool.autoscaling)
    deployment = _pool_deployment().options(**settings)
    application: serve.Application = deployment.bind(codec.to_plain(pool.options), pool.route)
    return application


def _autoscaling_config(options: autoscaling.Autoscaling) -> AutoscalingConfig:
    with warnings.catch_warnings():
        # The variable that is to follow this field is not read by Ray 2.60: tests/ray says when it is.
        warnings.simplefilter("ignore", DeprecationWarning)
        policy: Any = AutoscalingPolicy  # untyped
        return AutoscalingConfig(
            min_replicas=options.min_replicas,
            max_replicas=options.max_replicas,
            upscale_delay_s=options.upscale_s,
            downscale_delay_s=options.downscale_s,
            look_back_period_s=_LOOK_BACK_S,
            metrics_interval_s=_REPORT_S,
            policy=policy(policy_function="serving.autoscaling:Policy", policy_kwargs=dataclasses.asdict(options)),
        )


def _pool_deployment() -> Any:
    return serve.deployment(serve.ingress()(PoolReplica))


def _replica_name() -> str:
    context = serve.get_replica_context()
    pool = POOL if context.app_name == APPLICATION else context.app_name.removeprefix(f"{APPLICATION}-")
    return f"{pool}-{context.replica_id.unique_id}"


def _same_loop() -> bool:
    """Whether Ray runs our code on the loop of the replica's HTTP server."""
    from ray.serve._private import constants

    return bool(constants.RAY_SERVE_ENABLE_DIRECT_INGRESS and not constants.RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD)
