"""All settings as frozen models: what `hardcase.yaml` may contain, with defaults, bounds and the text of the docs.

The string under a field is its documentation: it goes into `docs/settings.md` and `hardcase.schema.json`
(`python -m deploy.settings_docs`). Reading files and the environment is `deploy.settings_file`'s business; turning
settings into the options of serving and monitoring is `deploy.wiring`'s.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deploy.settings_base import Port, Seconds, Section, Share, Size
from deploy.settings_experiments import ExperimentSettings
from deploy.settings_gate import GateSettings
from deploy.settings_integrations import IntegrationSettings
from deploy.settings_monitor import MonitorSettings
from deploy.settings_notify import ChannelSettings
from deploy.settings_observability import ObservabilitySettings
from deploy.settings_queue import ModelQueueSettings, QueueSettings
from deploy.settings_ray import AutoscalingSettings, PoolSettings, RaySettings
from deploy.settings_records import CaptureSettings, PrivacySettings
from deploy.settings_retrain import RetrainSettings
from deploy.settings_rollout import RolloutSettings
from deploy.settings_storage import StorageSettings


class LimitSettings(Section):
    """What one request may cost. Past a limit the answer is 413, 400, 503 or 504 and names the limit."""

    body_bytes: Size = 64 << 20
    """Largest request body; holds for the inflated size of a compressed body too."""
    json_header_bytes: Size = 1 << 20
    """Largest JSON part of a request with binary tensors."""
    head_bytes: Size = 64 << 10
    """Largest request line plus headers."""
    rows: int = Field(default=4096, ge=1)
    """Batch rows of one request."""
    elements: int = Field(default=1 << 28, ge=1)
    """Elements of one tensor."""
    chunks: int = Field(default=65_536, ge=1)
    """Chunks of a chunked request body."""
    receive_s: Seconds = 10.0
    """Absolute time from a request's first byte to its last; a slow sender is cut off after it."""
    idle_s: Seconds = 75.0
    """How long a kept-alive connection may sit without a request."""
    timeout_s: Seconds = 60.0
    """Default and largest time from a request's last byte to its answer."""


class BatchSettings(Section):
    """How requests become batches. There is no timer: what arrives while a batch runs forms the next one."""

    max_rows: int = Field(default=0, ge=0)
    """Rows of a batch at most; 0 takes what `hardcase tune` wrote into the package, or else its `max_batch_rows`."""
    queue_rows: int = Field(default=4096, ge=1)
    """Rows that may wait per version; past it the answer is 503 with Retry-After."""
    queue_bytes: Size = 1 << 30
    """Bytes of input tensors that may wait per version; where a row's size is fixed, it lowers `queue_rows`."""
    inline_below_us: float = Field(default=1000.0, ge=0, allow_inf_nan=False)
    """A version whose warm batch is faster than this (microseconds) runs on the event loop; others on a thread."""
    decode_threads: int = Field(default=0, ge=0, le=256)
    """Threads of a version that decode its encoded images, where its package declares any; 0 takes the processors that
    the replica may use, at most four. Each may hold one whole image: see `max_pixels` of the declaration."""


class RuntimeSettings(Section):
    """How weights are loaded and executed."""

    prefer: tuple[Literal["onnx", "torchscript"], ...] = ()
    """Runtimes in order of preference; empty follows the package's manifest."""
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]+)?|double(:[0-9.]+ms(\+[0-9.]+us)?)?(,[a-z_]+=[0-9]+)*)$",
    )
    """`cpu`, `cuda`, `cuda:N`, or `auto` (CUDA when there is one). `double[:MSms[+USus]]` is a test device: results of
    the CPU with the timing of an accelerator."""
    allow_cpu_fallback: bool = False
    """When the asked device cannot be had, run on the CPU and say so, instead of failing the load."""
    intra_op_threads: int | None = Field(default=None, ge=0)
    """Threads of one execution; 0 lets the runtime choose; empty takes what `hardcase tune` wrote into the package, or
    else 1."""
    load_timeout_s: Seconds = 60.0
    """A load that takes longer makes the version UNAVAILABLE; the champion keeps answering."""
    load_attempts: int = Field(default=3, ge=1)
    """How often a failing load is tried before the version is UNAVAILABLE."""
    providers: tuple[Literal["tensorrt"], ...] = ()
    """Execution providers of ONNX Runtime to use before CUDA's. One that cannot be had fails the load."""
    engine_cache: str = ""
    """Folder in which TensorRT keeps its engines; empty: `engines` in the state folder."""
    precision: Literal["as_exported", "fp16", "bf16"] = "as_exported"
    """What models compute in; inputs and outputs keep their datatypes. A version whose golden cases are no longer
    reproduced within the package's tolerance is UNAVAILABLE."""
    lanes: int = Field(default=2, ge=1, le=16)
    """Batches under way at once on an accelerator: the copies of one overlap with the computation of another."""
    cuda_graphs: bool = True
    """Record TorchScript on CUDA as graphs, at batch sizes that are powers of two."""
    onnx_cuda_graphs: bool = False
    """The same for ONNX Runtime, which then runs one batch at a time: for small models."""
    graph_memory_bytes: int = Field(default=2 << 30, ge=0)
    """Device memory that the graphs of one version may take; the largest batches are recorded first."""
    memory_bytes: int = Field(default=0, ge=0)
    """Memory that the versions in one replica may take together; a load that would pass it is refused. 0: no budget."""
    memory_fraction: float = Field(default=0.95, gt=0, le=1)
    """A load is refused when more than this part of the device's (or machine's) memory would then be in use."""


class ChallengerSettings(Section):
    """What a challenger (canary or shadow) may do to the replica that tries it."""

    failure_rate: float = Field(default=0.02, gt=0, lt=1)
    """Share of its requests that a canary may fail: errors, NaN, missed time limits. When more fail than chance
    explains, the replica takes it out at once, and the champion answers everybody."""
    shadow_delay_ms: float = Field(default=50.0, ge=0, le=10_000, allow_inf_nan=False)
    """How long requests wait for the shadow's next pass. Longer means fewer and larger passes, which disturb less."""
    shadow_time_share: float = Field(default=0.005, gt=0, le=1)
    """Share of the interpreter's time that the shadow may take for gathering, comparing and recording; the model's own
    computing is not in it. What would take more is not compared, and counted. Below 0.01 the champion's p99 stays."""
    shadow_queue_rows: int = Field(default=1024, ge=1)
    """Rows that may wait for the shadow; what comes on top is not compared, and counted."""
    shadow_queue_bytes: Size = 64 << 20
    """Bytes that may."""


class KeySettings(Section):
    """One API key. Only the token's SHA-256 is kept: `printf %s "$TOKEN" | sha256sum`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Name that logs and records show for callers with this key."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the bearer token, 64 lower-case hexadecimal digits."""
    weight: int = Field(default=1, ge=1, le=1000)
    """Share of a busy model in comparison with other keys."""


class AuthSettings(Section):
    """Who may call inference. No keys means no authentication, which only a loopback host may have."""

    keys: tuple[KeySettings, ...] = ()
    """Accepted keys; clients send `Authorization: Bearer TOKEN`."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> AuthSettings:
        names = [key.name for key in self.keys]
        if len(set(names)) != len(names):
            raise ValueError("two keys have the same name; logs could not tell them apart")
        return self


class ResponseCacheSettings(Section):
    """Answers from memory when the same inputs come again; right for models that depend on nothing else."""

    bytes: Size | Literal[0] = 0
    """What the cached outputs of each version may take; 0 caches nothing."""
    models: tuple[str, ...] = ()
    """Models that are cached; empty means all."""


class AccessLogSettings(Section):
    """A JSON line for every inference request, in `logs/access/` of the state folder. Written off the hot path."""

    enabled: bool = False
    """Write it."""
    rotate_bytes: Size = 64 << 20
    """A file that grows past this becomes an older one."""
    keep: int = Field(default=4, ge=0, le=1000)
    """Older files kept, for each replica."""


class TracingSettings(Section):
    """OpenTelemetry traces (`pip install hardcase[tracing]`): a span a request, with queue, compute and answer."""

    endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """URL that takes OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; empty traces nothing."""
    sample: Share = 0.01
    """Share of requests without a `traceparent` header that are traced; those with one follow its sampled flag."""
    service_name: str = Field(default="hardcase", min_length=1)
    """How the traces call this service."""


class ServingSettings(Section):
    """The data plane: where it listens and how it answers."""

    host: str = "127.0.0.1"
    """Address that HAProxy listens on. Anything beyond loopback needs `serving.auth.keys`."""
    port: Port = 8000
    """HTTP port of the Open Inference Protocol."""
    grpc_port: Port | Literal[0] = 9000
    """gRPC port of the Open Inference Protocol; 0 serves HTTP only. `limits.body_bytes` holds for messages too."""
    replicas: int = Field(default=0, ge=0, le=512)
    """Identical replicas behind HAProxy; each hosts every model of the pool. 0 takes the largest number that
    `hardcase tune` wrote into a champion's package, or else 1."""
    standalone: bool = False
    """Serve from one process without Ray and HAProxy; `replicas` and `ray` do not matter then."""
    models: tuple[str, ...] = ()
    """Models that this pool hosts; empty hosts all that the registry has."""
    plan_poll_s: Seconds = 0.1
    """How often a replica looks at the registry for new traffic plans; less often where looking would take more than
    2 % of its time (thousands of folders)."""
    keep_previous_s: float = Field(default=600.0, ge=0, le=604800, allow_inf_nan=False)
    """How long the champion before the present one stays in memory, so that a roll-back moves a pointer and loads
    nothing. It goes earlier when a third version of the model is loaded, or a load finds no room. 0 keeps none."""
    fast_lane: bool = True
    """Answer inference in the HTTP protocol class, without ASGI. Off is slower and otherwise the same."""
    sticky_header: str = Field(default="hardcase-session", pattern=r"^[A-Za-z0-9-]*$", max_length=64)
    """Request header (in gRPC: metadata key) whose equal values stay on one variant during a canary; empty: none."""
    non_finite: Literal["error", "null", "string"] = "error"
    """What NaN and infinity become in a JSON answer; binary answers carry them as they are."""
    limits: LimitSettings = LimitSettings()
    batch: BatchSettings = BatchSettings()
    challenger: ChallengerSettings = ChallengerSettings()
    queue: QueueSettings = QueueSettings()
    queues: tuple[ModelQueueSettings, ...] = ()
    """Models whose queue differs."""
    runtime: RuntimeSettings = RuntimeSettings()
    auth: AuthSettings = AuthSettings()
    cache: ResponseCacheSettings = ResponseCacheSettings()
    access_log: AccessLogSettings = AccessLogSettings()
    tracing: TracingSettings = TracingSettings()
    autoscaling: AutoscalingSettings = AutoscalingSettings()
    pools: tuple[PoolSettings, ...] = ()
    """Models with pools of their own. Everything else is the default pool's."""

    @model_validator(mode="after")
    def _pools_are_apart(self) -> ServingSettings:
        names = [pool.model for pool in self.pools]
        if len(set(names)) != len(names):
            raise ValueError("two pools are for the same model")
        return self


class LogSettings(Section):
    """What the processes write to `logs/` in the state folder."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe message that is written."""


class Settings(Section):
    """Everything that can be set. Every key has a default; an empty file is a valid one."""

    state_dir: str = Field(default=".hardcase", min_length=1)
    """Folder of all state: registry, records, monitor database, logs. Relative to the settings file's folder."""
    serving: ServingSettings = ServingSettings()
    capture: CaptureSettings = CaptureSettings()
    monitor: MonitorSettings = MonitorSettings()
    privacy: tuple[PrivacySettings, ...] = ()
    """What is kept of each model's requests. Everything, where nothing is said."""
    integrations: IntegrationSettings = IntegrationSettings()
    notify: tuple[ChannelSettings, ...] = ()
    """Who is told what happened. Nobody, where nothing is said."""
    retrain: RetrainSettings = RetrainSettings()
    gate: GateSettings = GateSettings()
    rollout: RolloutSettings = RolloutSettings()
    experiments: ExperimentSettings = ExperimentSettings()
    ray: RaySettings = RaySettings()
    storage: StorageSettings = StorageSettings()
    observability: ObservabilitySettings = ObservabilitySettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _ports_differ(self) -> Settings:
        names = [channel.name for channel in self.notify]
        if len(set(names)) != len(names):
            raise ValueError("two channels of notify have the same name")
        if self.serving.port == self.monitor.port and self.serving.host == self.monitor.host:
            raise ValueError(f"serving.port and monitor.port are both {self.serving.port}")
        if self.serving.grpc_port == self.serving.port:
            raise ValueError(f"serving.port and serving.grpc_port are both {self.serving.port}")
        if self.serving.grpc_port == self.monitor.port and self.serving.host == self.monitor.host:
            raise ValueError(f"serving.grpc_port and monitor.port are both {self.monitor.port}")
        return self
