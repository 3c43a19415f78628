"""The data plane's settings as frozen records. `deploy.settings` builds them; nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from export.contracts.privacy import PrivacyPolicy
from monitoring.records.record import CaptureOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one request may cost. Each is answered with 413, 400, 503 or 504 and a text that names it."""

    body_bytes: int = 64 << 20  # also holds for the inflated size
    json_header_bytes: int = 1 << 20  # the JSON part of a binary request
    head_bytes: int = 64 << 10  # request line and headers
    rows: int = 4096  # batch rows of one request
    elements: int = 1 << 28  # elements of one tensor
    chunks: int = 65_536  # chunks of a chunked body
    receive_s: float = 10.0  # absolute: from the first byte of a request to its last
    idle_s: float = 75.0  # a kept-alive connection without a request
    timeout_s: float = 60.0  # default and largest time from the last byte to the answer


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """How requests become batches.

    Attributes:
        max_rows: Rows of a batch at most; 0 takes the package's tuned number, or else its `max_batch_rows`.
        queue_rows: Rows that may wait per version; past it the answer is 503.
        queue_bytes: Bytes of input tensors that may wait per version.
        inline_below_us: A version whose warm batch is faster than this runs on the event loop; others on a thread.
        decode_threads: Threads of a version that decode its encoded images; 0 takes the processors, at most four.
    """

    max_rows: int = 0
    queue_rows: int = 4096
    queue_bytes: int = 1 << 30
    inline_below_us: float = 1000.0
    decode_threads: int = 0


class Precision(StrEnum):
    """What a model computes in. Inputs and outputs keep the signature's datatypes."""

    AS_EXPORTED = "as_exported"  # what the file says
    FP16 = "fp16"  # weights and activations in IEEE half precision
    BF16 = "bf16"  # the range of FP32 with 8 bits of significand


@dataclass(frozen=True, kw_only=True, slots=True)
class ChallengerOptions:
    """What a challenger may do to the replica that tries it.

    Attributes:
        failure_rate: Share of its requests that a canary may fail (errors, NaN, missed time limits). When more fail
            than chance explains, it is taken out on this replica at once, and the champion answers everybody.
        shadow_delay_ms: How long requests wait for the shadow's next pass. Longer: fewer, larger passes.
        shadow_time_share: Share of the interpreter's time that the shadow may take: gathering, comparing, recording.
            The model's own computing runs beside and is not in it. What would take more is not compared. Below 1 %
            the champion's p99 stays what it is.
        shadow_queue_rows: Rows that may wait for the shadow; what comes on top is not compared.
        shadow_queue_bytes: Bytes that may.
    """

    failure_rate: float = 0.02
    shadow_delay_ms: float = 50.0
    shadow_time_share: float = 0.005
    shadow_queue_rows: int = 1024
    shadow_queue_bytes: int = 64 << 20


class TimeoutAction(StrEnum):
    """What becomes of a request that has waited past its time limit."""

    REJECT = "reject"  # 504 at once
    DELAY = "delay"  # it goes behind the others of its priority, and runs when nothing else of it waits


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelOptions:
    """The queue policy of one priority level, where it differs from the model's; Triton's `priority_queue_policy`.

    Attributes:
        level: 1 is the highest.
        timeout_action: As in `QueueOptions`.
        default_timeout_us: As in `QueueOptions`.
        allow_timeout_override: As in `QueueOptions`.
        max_queue_rows: Rows of this level that may wait; 0 for no bound besides `batch.queue_rows`.
    """

    level: int
    timeout_action: TimeoutAction = TimeoutAction.REJECT
    default_timeout_us: int = 0
    allow_timeout_override: bool = True
    max_queue_rows: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueOptions:
    """Which request goes first, how long one may wait, and when one is turned away; in Triton's words.

    Attributes:
        priority_levels: Priorities that a request may name, 1 (highest) up to this.
        default_priority_level: Priority of a request that names none, or one that does not exist.
        timeout_action: What becomes of a request that waits past its time limit.
        default_timeout_us: Time limit of a request that names none; 0 takes `limits.timeout_s`.
        allow_timeout_override: A request may name a shorter limit (parameter `timeout`).
        levels: Levels with a policy of their own.
        target_queue_ms: A request that would wait longer than this, or than four largest batches, is answered with 503
            at once; 0 lets it wait.
        interval_ms: When requests have waited half as long again for this long, the oldest are shed.
    """

    priority_levels: int = 3
    default_priority_level: int = 2
    timeout_action: TimeoutAction = TimeoutAction.REJECT
    default_timeout_us: int = 0
    allow_timeout_override: bool = True
    levels: tuple[LevelOptions, ...] = ()
    target_queue_ms: float = 2000.0
    interval_ms: float = 500.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelQueueOptions:
    """What differs for one model; None is as in `ServingOptions.queue`.

    Attributes:
        model: Its name. The others: see `QueueOptions`.
    """

    model: str
    priority_levels: int | None = None
    default_priority_level: int | None = None
    timeout_action: TimeoutAction | None = None
    default_timeout_us: int | None = None
    allow_timeout_override: bool | None = None
    levels: tuple[LevelOptions, ...] | None = None
    target_queue_ms: float | None = None
    interval_ms: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeOptions:
    """How weights are loaded.

    Attributes:
        prefer: Runtime kinds in order of preference ("onnx", "torchscript"); empty follows the manifest.
        device: "cpu", "cuda", "cuda:N", "auto" (CUDA when there is one), or the test device "double[:MSms[+USus]]",
            which computes on the CPU with the timing of an accelerator.
        allow_cpu_fallback: When the asked device cannot be had, run on the CPU and say so, instead of failing the load.
        intra_op_threads: Threads of one execution; 0 lets the runtime choose, None takes the package's tuned number, or
            else one.
        load_timeout_s: A load that takes longer makes the version UNAVAILABLE.
        load_attempts: How often a failing load is tried.
        providers: Execution providers of ONNX Runtime to use before CUDA's: "tensorrt". One that cannot be had fails
            the load.
        engine_cache: Folder that TensorRT keeps its engines in; empty: none are kept, and every load builds them.
        precision: What models compute in; the golden cases and their tolerance decide whether that is good enough.
        lanes: Batches that are under way at once on an accelerator.
        cuda_graphs: Record TorchScript on CUDA as graphs, at batch sizes that are powers of two.
        onnx_cuda_graphs: The same for ONNX Runtime, which then runs one batch at a time.
        graph_memory_bytes: Device memory that the graphs of one version may take.
        memory_bytes: Memory that the versions in this process may take together, on the device or, on the CPU, of the
            process; 0: as much as there is.
        memory_fraction: A load is refused when it would leave less than the rest of the device's, or the machine's,
            memory free.
    """

    prefer: tuple[str, ...] = ()
    device: str = "auto"
    allow_cpu_fallback: bool = False
    intra_op_threads: int | None = None
    load_timeout_s: float = 60.0
    load_attempts: int = 3
    providers: tuple[str, ...] = ()
    engine_cache: str = ""
    precision: Precision = Precision.AS_EXPORTED
    lanes: int = 2
    cuda_graphs: bool = True
    onnx_cuda_graphs: bool = False
    graph_memory_bytes: int = 2 << 30
    memory_bytes: int = 0
    memory_fraction: float = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A bearer token's SHA-256 (hex), the name that logs and records show for it, and its share of a busy model."""

    name: str
    sha256: str
    weight: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthOptions:
    """Who may call. No keys = no authentication, which only a loopback bind may have."""

    keys: tuple[ApiKey, ...] = ()

    @property
    def enabled(self) -> bool:
        """Whether a credential is asked for."""
        return bool(self.keys)


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheOptions:
    """The response cache: earlier outputs for inputs that come again.

    Attributes:
        bytes: What the outputs of each version may take; 0 caches nothing.
        models: Models that are cached; empty means all.
    """

    bytes: int = 0
    models: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessLogOptions:
    """The access log: a JSON line for every inference request.

    Attributes:
        folder: Where each replica writes its files.
        rotate_bytes: A file that grows past this becomes an older one.
        keep: Older files kept.
    """

    folder: str
    rotate_bytes: int = 64 << 20
    keep: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class TracingOptions:
    """OpenTelemetry traces.

    Attributes:
        endpoint: URL that takes OTLP over HTTP; empty traces nothing.
        sample: Share of requests without a `traceparent` that are traced; those with one follow its flag.
        service_name: How the traces call this service.
    """

    endpoint: str = ""
    sample: float = 0.01
    service_name: str = "hardcase"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingOptions:
    """Everything a replica needs to know.

    Attributes:
        registry: Folder of the registry.
        records: Folder of the record logs; each replica makes its own folder in it.
        models: Models that this pool hosts; empty hosts all.
        elsewhere: Models that pools of their own host: this one does not.
        plan_poll_s: How often the registry is looked at; less often where a look takes more than 2 % of that.
        keep_previous_s: How long the champion before stays loaded, so that a roll-back finds it; 0 lets it go at once.
        fast_lane: Answer inference requests in the HTTP protocol class, without ASGI.
        sticky_header: Request header (gRPC: metadata key); equal values stay on one variant of a canary. Empty: none.
        non_finite: What NaN and infinity become in a JSON answer: "error", "null" or "string".
        queue: Priorities, time limits and overload.
        queues: Models whose queue differs.
        capture: None records nothing.
        access_log: None writes none.
        privacy: What may be recorded, by model.
    """

    registry: str
    records: str
    models: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    plan_poll_s: float = 0.1
    keep_previous_s: float = 600.0
    fast_lane: bool = True
    sticky_header: str = "hardcase-session"
    non_finite: str = "error"
    limits: Limits = field(default_factory=Limits)
    batch: BatchOptions = field(default_factory=BatchOptions)
    challenger: ChallengerOptions = field(default_factory=ChallengerOptions)
    queue: QueueOptions = field(default_factory=QueueOptions)
    queues: tuple[ModelQueueOptions, ...] = ()
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    auth: AuthOptions = field(default_factory=AuthOptions)
    capture: CaptureOptions | None = field(default_factory=CaptureOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)
    tracing: TracingOptions = field(default_factory=TracingOptions)
    access_log: AccessLogOptions | None = None
    privacy: tuple[PrivacyPolicy, ...] = ()

    def hosts(self, model: str) -> bool:
        """Whether a model is this pool's."""
        return (not self.models or model in self.models) and model not in self.elsewhere
