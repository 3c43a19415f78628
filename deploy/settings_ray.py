"""Settings of what runs on Ray: pools, how many replicas they have, and the cluster underneath."""

from __future__ import annotations

from pydantic import Field, model_validator

from deploy.settings_base import Seconds, Section, Size


class AutoscalingSettings(Section):
    """How many replicas there are, decided by what the replicas measure: how busy they are, how long requests wait."""

    min_replicas: int = Field(default=1, ge=1, le=512)
    """Never fewer than this."""
    max_replicas: int = Field(default=0, ge=0, le=512)
    """Never more than this; 0 switches autoscaling off, and `replicas` holds."""
    target_utilisation: float = Field(default=0.7, gt=0, le=0.9, allow_inf_nan=False)
    """Share of the time in which a replica should be busy; above it there are too few, below it too many."""
    target_queue_ms: float = Field(default=100.0, gt=0, allow_inf_nan=False)
    """Mean waiting time of requests, in milliseconds, above which there are too few replicas."""
    upscale_s: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """More replicas come when they have been wanted for so long."""
    downscale_s: float = Field(default=300.0, ge=0, allow_inf_nan=False)
    """Replicas go when fewer have been wanted for so long."""

    @model_validator(mode="after")
    def _bounds_fit(self) -> AutoscalingSettings:
        if 0 < self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas is less than min_replicas")
        return self


class PoolSettings(Section):
    """A pool of its own for one heavy model: other replicas, other resources, the same address and protocol."""

    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """The model; requests to `/v2/models/MODEL` go to this pool, and the default pool does not load it."""
    replicas: int = Field(default=0, ge=0, le=512)
    """Identical replicas of this pool; 0 takes what `hardcase tune` wrote into the champion's package, or else 1."""
    cpus: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Logical CPUs that Ray reserves for each replica."""
    gpus: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """GPUs that Ray reserves for each replica; a share such as 0.5 lets two replicas use one."""
    cpu_threads: int = Field(default=0, ge=0)
    """Threads with which each replica computes on CPUs; 0 takes `serving.runtime.intra_op_threads`."""
    autoscaling: AutoscalingSettings = AutoscalingSettings()


class RaySettings(Section):
    """The Ray cluster underneath serving."""

    address: str | None = None
    """Address of an existing cluster; empty starts one on this machine and stops it again."""
    token_auth: bool = True
    """Ask everybody who talks to the cluster's control plane for a token. The data plane has `serving.auth.keys`."""
    auth_token_file: str | None = None
    """File with the token of an existing cluster; empty makes one in the state folder, readable by its owner only."""
    replica_cpus: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Logical CPUs that Ray reserves for each replica."""
    replica_gpus: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """GPUs that Ray reserves for each replica; a share such as 0.5 lets two replicas use one."""
    drain_s: float = Field(default=1.0, ge=0, le=600)
    """How long a stopping replica is held while HAProxy forgets it; a cluster of several machines needs about 30."""
    health_timeout_s: Seconds = 2.0
    """A replica that leaves three health checks in a row unanswered for this long each is replaced by a new process."""
    haproxy_threads: int = Field(default=4, ge=1, le=64)
    """Threads of HAProxy."""
    haproxy_buffer_bytes: Size = 16_384
    """HAProxy's buffers. A request that fits into one is asked of another replica when the first dies with it."""
    haproxy_stats_port: int = Field(default=0, ge=0, le=65535)
    """Port of HAProxy's statistics page; 0 takes a free one."""
    haproxy_metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of HAProxy's own Prometheus metrics; 0 takes a free one."""
    first_replica_port: int = Field(default=0, ge=0, le=64000)
    """First of the thousand ports from which replicas take theirs; 0 looks for a free range."""
    start_timeout_s: Seconds = 120.0
    """Time in which the cluster and all replicas must be ready."""
    temp_root: str = Field(default="/tmp", max_length=60)
    """Folder in which a local cluster makes its own temporary folder. Short, because of the limit on socket paths."""
