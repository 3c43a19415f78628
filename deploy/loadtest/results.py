"""What a load test found, as records that go to JSON and come back. Times in microseconds, rates per second."""

from __future__ import annotations

from dataclasses import dataclass, field

from deploy.loadtest.orders import Mode, Protocol

SCHEMA_VERSION = 1
# Percentiles of the curve in the report: from the body to five nines, evenly in the number of nines.
CURVE_PERCENTS = (
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 68.0, 75.0, 80.0, 84.0, 87.0, 90.0, 92.0, 93.7, 95.0, 96.0, 96.8, 97.5,
    98.0, 98.4, 98.7, 99.0, 99.2, 99.37, 99.5, 99.6, 99.68, 99.75, 99.8, 99.84, 99.87, 99.9, 99.92, 99.937, 99.95,
    99.96, 99.975, 99.984, 99.99, 99.992, 99.995, 99.9975, 99.999,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Latency of the counted requests, microseconds. None where there were none to tell it from."""

    count: int
    mean_us: float | None = None
    min_us: float | None = None
    p50_us: float | None = None
    p90_us: float | None = None
    p95_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    max_us: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSplit:
    """Where the server says the time of its requests went, from the statistics extension: means per request.

    Attributes:
        requests: Requests that the server counted as successful while we measured; fewer than ours when it is one of
            several replicas behind a balancer, and more when others call it, too.
        mean_batch_rows: Rows of a batch.
        cache_hits: Requests that were answered from a cache.
    """

    requests: int
    failed: int
    queue_us: float
    input_us: float
    infer_us: float
    output_us: float
    total_us: float
    mean_batch_rows: float | None
    cache_hits: int = 0
    cache_misses: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowResult:
    """One measurement window: requests that ended in it. `at_us` is the watched percentile."""

    throughput: float
    errors: int
    at_us: float | None
    max_us: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """What one level of load did to the server.

    Attributes:
        value: Callers, or requests a second.
        stable: The last three windows agreed. When not, the figures are those of all windows together.
        interrupted: Ctrl-C came before it was done.
        seconds: Length of the windows that count.
        throughput: Requests answered a second.
        rows_per_s: The same in batch rows.
        errors: Requests that failed, by reason.
        answered_in_all: Requests that were answered, those of the warm-up and after the last window included: what the
            server should have counted.
        failed_in_all: Requests that failed, likewise.
        lag_p99_us: How late the generator itself sent; open loop only.
        generator_cpu: Largest share of a core that a generator process used.
        generator_starved: Largest share of the time that one was ready to run and had no core.
        curve: (percentile, microseconds).
        notes: What one must know to read the figures.
    """

    mode: Mode
    value: float
    stable: bool
    interrupted: bool = False
    seconds: float
    throughput: float
    rows_per_s: float
    errors: dict[str, int] = field(default_factory=dict)
    answered_in_all: int = 0
    failed_in_all: int = 0
    latency: Latency
    lag_p99_us: float | None = None
    generator_cpu: float = 0.0
    generator_starved: float = 0.0
    received_bytes_per_s: float = 0.0
    server: ServerSplit | None = None
    windows: tuple[WindowResult, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(self.errors.values())

    @property
    def error_share(self) -> float:
        """Failed requests among all that ended, 0 to 1."""
        answered = self.throughput * self.seconds
        return self.failed / (self.failed + answered) if self.failed else 0.0

    @property
    def label(self) -> str:
        """For people."""
        return level_label(self.mode, self.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A latency that must not be passed.

    Attributes:
        percentile: Of the requests, in percent.
        limit_us: Microseconds.
    """

    percentile: float
    limit_us: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One server with one model, and what was found.

    Attributes:
        name: What the reports call it.
        address: What was loaded, such as `http://127.0.0.1:8000`.
        server: What the server calls itself.
        best: Index of the level with the most throughput, within the goal where there is one; None: no level was.
    """

    name: str
    address: str
    protocol: Protocol
    server: str
    model: str
    version: str
    encoding: str
    levels: tuple[Level, ...] = ()
    best: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A whole run, or several merged.

    Attributes:
        settings: How it was measured, for people, by name.
        environment: Facts about the machine of the generator.
    """

    schema_version: int = SCHEMA_VERSION
    created_at: str
    settings: dict[str, str]
    environment: dict[str, str]
    goal: Goal | None = None
    subjects: tuple[Subject, ...] = ()


def gathered_notes(levels: tuple[Level, ...]) -> list[tuple[str, str]]:
    """Notes of all levels, equal ones together: (levels, note)."""
    found: dict[str, list[str]] = {}
    for level in levels:
        for note in level.notes:
            found.setdefault(note, []).append(level.label)
    return [(", ".join(labels), note) for note, labels in found.items()]


def level_label(mode: Mode, value: float) -> str:
    """A level of load for people.

    Example:
        >>> level_label(Mode.CONCURRENCY, 16), level_label(Mode.RATE, 1500)
        ('16 callers', '1,500 /s')
    """
    if mode is Mode.CONCURRENCY:
        return f"{value:.0f} caller{'s' if value != 1 else ''}"
    return f"{value:,.10g} /s"
