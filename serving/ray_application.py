"""The application builder that a Serve config names: `import_path: serving.ray_application:pool`.

For clusters that are told what to run by a file (KubeRay's `serveConfigV2`, `serve deploy`); `hardcase serve` calls
`serving.deployment.build` itself. Import it only where `serving.ray_environment` has been applied.
"""

from __future__ import annotations

from typing import Any

from export.contracts import codec
from serving.autoscaling import Autoscaling
from serving.options import ServingOptions
from serving.pools import ClusterOptions, PoolSpec


def pool_arguments(spec: PoolSpec, cluster: ClusterOptions) -> dict[str, Any]:
    """The `args` of an application in a Serve config: plain JSON."""
    plain: dict[str, Any] = {
        "options": codec.to_plain(spec.options),
        "model": spec.model,
        "replicas": spec.replicas,
        "autoscaling": None if spec.autoscaling is None else codec.to_plain(spec.autoscaling),
        "cpus": spec.cpus,
        "gpus": spec.gpus,
        "threads": spec.threads,
        "drain_s": cluster.drain_s,
        "health_timeout_s": cluster.health_timeout_s,
    }
    return plain


def read_arguments(arguments: dict[str, Any]) -> tuple[PoolSpec, ClusterOptions]:
    """The inverse of `pool_arguments`.

    Raises:
        ValueError: an argument is missing, unknown or wrong.
    """
    left = dict(arguments)
    cluster = ClusterOptions(drain_s=float(left.pop("drain_s")), health_timeout_s=float(left.pop("health_timeout_s")))
    scaling = left.pop("autoscaling")
    spec = PoolSpec(
        options=codec.from_plain(ServingOptions, left.pop("options")),
        model=left.pop("model"),
        replicas=int(left.pop("replicas")),
        autoscaling=None if scaling is None else codec.from_plain(Autoscaling, scaling),
        cpus=float(left.pop("cpus")),
        gpus=float(left.pop("gpus")),
        threads=int(left.pop("threads")),
    )
    if left:
        raise ValueError(f"unknown arguments of the application: {', '.join(sorted(left))}")
    return spec, cluster


def pool(arguments: dict[str, Any]) -> Any:
    """Build the application of one pool."""
    from serving.deployment import build

    return build(*read_arguments(arguments))
