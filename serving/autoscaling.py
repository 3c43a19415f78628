"""How many replicas a pool should have, from what its replicas measure themselves.

Ray Serve counts requests under way. It does not see the fast lane's, and the count says little where requests are
batched: sixty that wait for one batch are no reason for a second replica. Replicas report how busy they are and how
long requests waited (`LoadMeter`); `desired_replicas` is a pure function of that; `policy` is what Ray calls.

References:
    Kubernetes, Horizontal Pod Autoscaling, "Algorithm details": desired = ceil(current * measured / target), and a
    tolerance of 10 % around the target in which nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns, thread_time_ns
from typing import Any, Protocol

UTILISATION = "utilisation"
QUEUE_MS = "queue_ms"
TOLERANCE = 0.1  # of the target: within it the number stays
MOST_TARGET = 0.9  # always busy must still be more than the tolerance above the target
MOST_GROWTH = 2.0  # per decision, when only waiting asks for more: waiting times say "too few", not how many too few


@dataclass(frozen=True, kw_only=True, slots=True)
class Autoscaling:
    """Bounds and targets of one pool.

    Attributes:
        min_replicas: Never fewer; at least one, because a request must not wait for a process to start.
        max_replicas: Never more.
        target_utilisation: Share of the time in which a replica should be busy, above 0 and at most 0.9.
        target_queue_ms: Mean waiting time of requests, in milliseconds, above which there are too few replicas.
        upscale_s: More replicas must be wanted for so long before they come.
        downscale_s: Fewer replicas must be wanted for so long before they go.
    """

    min_replicas: int
    max_replicas: int
    target_utilisation: float = 0.7
    target_queue_ms: float = 100.0
    upscale_s: float = 5.0
    downscale_s: float = 300.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ValueError("autoscaling needs 1 <= min_replicas <= max_replicas")
        if not 0 < self.target_utilisation <= MOST_TARGET or self.target_queue_ms <= 0:
            raise ValueError(f"autoscaling needs 0 < target_utilisation <= {MOST_TARGET} and target_queue_ms > 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaLoad:
    """What one replica measured over the last seconds.

    Attributes:
        utilisation: Share of the time in which it was busy, 0 to 1.
        queue_ms: Mean waiting time of the requests that it answered, milliseconds.
    """

    utilisation: float
    queue_ms: float


def desired_replicas(current: int, loads: Sequence[ReplicaLoad], options: Autoscaling) -> int:
    """How many replicas the measured load asks for.

    Args:
        current: Replicas that run now.
        loads: Of those that have reported; an empty one asks for no change, because "not measured" is not "idle".
        options: Bounds and targets.

    Example:
        >>> options = Autoscaling(min_replicas=1, max_replicas=8, target_utilisation=0.5, target_queue_ms=20)
        >>> desired_replicas(2, [ReplicaLoad(utilisation=1.0, queue_ms=3)] * 2, options)
        4
        >>> desired_replicas(4, [ReplicaLoad(utilisation=0.1, queue_ms=0)] * 4, options)
        1
        >>> desired_replicas(4, [], options)
        4
    """

    def bounded(count: int) -> int:
        return max(options.min_replicas, min(options.max_replicas, count))

    if not loads or current < 1:
        return bounded(current)
    busy = sum(min(1.0, max(0.0, load.utilisation)) for load in loads) / len(loads)
    waiting = sum(max(0.0, load.queue_ms) for load in loads) / len(loads)
    by_work = busy / options.target_utilisation
    by_waiting = min(MOST_GROWTH, waiting / options.target_queue_ms)
    if by_waiting > 1 + TOLERANCE:
        return bounded(math.ceil(current * max(by_work, by_waiting)))
    if abs(by_work - 1) <= TOLERANCE:
        return bounded(current)
    return bounded(math.ceil(current * by_work - 1e-9))


class _Batches(Protocol):
    """What the meter asks of a loaded version's batcher."""

    @property
    def busy_since_ns(self) -> int: ...


class _Counters(Protocol):
    queue_ns: int
    success_count: int


class _Version(Protocol):
    @property
    def batcher(self) -> _Batches: ...

    @property
    def stats(self) -> _Counters: ...


class LoadMeter:
    """Measures how busy a replica is, between one reading and the next. Read it on the event loop.

    A replica is busy when its loop computes (thread time: parsing, inline batches, answers) or when a batch runs on an
    executor thread or a device (wall time of the batches); the larger share of the two counts, because either alone
    limits what the replica can answer.
    """

    def __init__(self) -> None:
        self._wall_ns = perf_counter_ns()
        self._loop_ns = thread_time_ns()
        self._seen: dict[int, tuple[int, int, int]] = {}

    def read(self, versions: Sequence[tuple[_Version, int]]) -> ReplicaLoad:
        """The load since the last reading.

        Args:
            versions: Every loaded version, with the time in nanoseconds that its batches have taken so far.
        """
        wall_ns, loop_ns = perf_counter_ns(), thread_time_ns()
        spent = max(1, wall_ns - self._wall_ns)
        busy_ns = queue_ns = answered = 0
        seen: dict[int, tuple[int, int, int]] = {}
        for version, batches_ns in versions:
            since = version.batcher.busy_since_ns
            so_far = batches_ns + (max(0, wall_ns - since) if since else 0)
            now = (so_far, version.stats.queue_ns, version.stats.success_count)
            before = self._seen.get(id(version), (so_far, now[1], now[2]))
            seen[id(version)] = (max(so_far, before[0]), now[1], now[2])
            busy_ns += max(0, so_far - before[0])
            queue_ns += now[1] - before[1]
            answered += now[2] - before[2]
        loop_share = (loop_ns - self._loop_ns) / spent
        self._wall_ns, self._loop_ns, self._seen = wall_ns, loop_ns, seen
        return ReplicaLoad(
            utilisation=min(1.0, max(loop_share, busy_ns / spent)),
            queue_ms=queue_ns / answered / 1e6 if answered else 0.0,
        )


class ScalingContext(Protocol):
    """What we use of `ray.serve.config.AutoscalingContext`."""

    @property
    def current_num_replicas(self) -> int:
        """Replicas that run."""
        ...

    @property
    def target_num_replicas(self) -> int:
        """Replicas that should run, as decided before."""
        ...

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None:
        """Means of what replicas reported, by metric and replica."""
        ...


class Policy:
    """What Ray Serve's controller calls ten times a second; delays and bounds it applies itself.

    Args:
        options: The fields of `Autoscaling`; Ray hands them over as keywords.
    """

    def __init__(self, **options: Any) -> None:
        self._options = Autoscaling(**options)

    def __call__(self, ctx: ScalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas that is wanted now."""
        metrics = ctx.aggregated_metrics or {}
        queues = metrics.get(QUEUE_MS, {})
        loads = [
            ReplicaLoad(utilisation=value, queue_ms=queues.get(replica, 0.0))
            for replica, value in metrics.get(UTILISATION, {}).items()
        ]
        if not loads or ctx.current_num_replicas < 1:
            return ctx.target_num_replicas, {}
        return desired_replicas(ctx.current_num_replicas, loads, self._options), {}
