"""Plain counters of the hot path: integers and lists, no locks, no labels, nothing allocated per request.

The event loop is the only writer. Readers (the `/metrics` collector, the statistics extension) run on the same loop, or
accept a value that is one batch old. `serving.metrics` turns these counters into Prometheus families.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from enum import StrEnum

from export.contracts.traffic import Variant
from monitoring.records.record import Outcome
from serving.latency_bounds import LATENCY_BOUNDS_NS


class ReleaseReason(StrEnum):
    """Why a batch left the queue. Values are the labels of `hardcase_batch_release_total`."""

    IDLE = "idle"  # nothing was running: what had arrived went at once
    FREE = "free"  # the batch before it ended: what had gathered meanwhile went
    FULL = "full"  # the largest batch was reached; more waits behind it
    SHADOW = "shadow"  # a pass over what the champion had answered


class LatencyHistogram:
    """Counts per bucket and a sum, over fixed upper bounds in nanoseconds.

    A value equal to a bound belongs to that bound's bucket, as Prometheus defines `le`.

    Example:
        >>> histogram = LatencyHistogram((1_000, 10_000))
        >>> histogram.observe_many([500, 1_000, 1_001, 99_999])
        >>> histogram.counts, histogram.sum_ns, histogram.count
        ([2, 1, 1], 102500, 4)
    """

    __slots__ = ("bounds_ns", "counts", "sum_ns")

    def __init__(self, bounds_ns: Sequence[int] = LATENCY_BOUNDS_NS) -> None:
        self.bounds_ns = tuple(bounds_ns)
        if not self.bounds_ns or list(self.bounds_ns) != sorted(set(self.bounds_ns)):
            raise ValueError("histogram bounds must be given, and rise strictly")
        self.counts = [0] * (len(self.bounds_ns) + 1)  # the last one is +Inf
        self.sum_ns = 0

    def observe(self, ns: int) -> None:
        """Count one duration in nanoseconds."""
        self.counts[bisect_left(self.bounds_ns, ns)] += 1
        self.sum_ns += ns

    def observe_many(self, values_ns: Iterable[int]) -> None:
        """Count the durations of a batch, in nanoseconds."""
        counts, bounds, total = self.counts, self.bounds_ns, 0
        for ns in values_ns:
            counts[bisect_left(bounds, ns)] += 1
            total += ns
        self.sum_ns += total

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)


class BatchCost:
    """What all executions of one batch size cost together, in nanoseconds."""

    __slots__ = ("count", "infer_ns", "input_ns", "output_ns")

    def __init__(self) -> None:
        self.count = 0
        self.input_ns = 0
        self.infer_ns = 0
        self.output_ns = 0


class VersionStats:
    """Counters of one loaded version, from its load on.

    Attributes:
        requests: Requests by (variant, outcome). Only these two enums ever are keys, so the dict is bounded.
        queue, compute, total: Histograms per *successful request*: waiting, the batch it was in, and last byte in to
            answer handed over.
        success_ns, fail_ns: Sums over requests of the total time, for the statistics extension.
        queue_ns: Sum over successful requests of the waiting time.
        compute_input_ns, compute_infer_ns, compute_output_ns: Sums over *requests* of the time their batch spent
            gathering inputs, in the runtime, and splitting answers (Triton counts per request, too).
        last_inference_ms: Wall clock of the last success, milliseconds since the epoch; 0 before the first.
        inference_count: Rows answered. `execution_count`: batches run.
        batch_sizes: Cost by rows of a batch; bounded by the largest batch.
        release: Batches by the reason of their release.
    """

    __slots__ = (
        "batch_sizes",
        "compute",
        "compute_infer_ns",
        "compute_input_ns",
        "compute_output_ns",
        "execution_count",
        "fail_count",
        "fail_ns",
        "inference_count",
        "last_inference_ms",
        "queue",
        "queue_ns",
        "release",
        "requests",
        "success_count",
        "success_ns",
        "total",
    )

    def __init__(self) -> None:
        self.requests: dict[tuple[Variant, Outcome], int] = {}
        self.queue = LatencyHistogram()
        self.compute = LatencyHistogram()
        self.total = LatencyHistogram()
        self.success_count = 0
        self.success_ns = 0
        self.fail_count = 0
        self.fail_ns = 0
        self.queue_ns = 0
        self.compute_input_ns = 0
        self.compute_infer_ns = 0
        self.compute_output_ns = 0
        self.last_inference_ms = 0
        self.inference_count = 0
        self.execution_count = 0
        self.batch_sizes: dict[int, BatchCost] = {}
        self.release: dict[ReleaseReason, int] = dict.fromkeys(ReleaseReason, 0)

    def executed(
        self, rows: int, reason: ReleaseReason, input_ns: int = 0, infer_ns: int = 0, output_ns: int = 0
    ) -> None:
        """Count one batch of `rows` rows that the runtime ran, successful or not."""
        self.execution_count += 1
        self.release[reason] += 1
        cost = self.batch_sizes.get(rows)
        if cost is None:
            cost = self.batch_sizes[rows] = BatchCost()
        cost.count += 1
        cost.input_ns += input_ns
        cost.infer_ns += infer_ns
        cost.output_ns += output_ns

    def succeeded(
        self,
        variant: Variant,
        rows: int,
        queue_ns: Sequence[int],
        total_ns: Sequence[int],
        *,
        input_ns: int,
        infer_ns: int,
        output_ns: int,
        now_ms: int,
    ) -> None:
        """Count the answered requests of one batch.

        Args:
            variant: In which part the version took them.
            rows: Rows of all of them together.
            queue_ns: Waiting time of each request.
            total_ns: Last byte in to answer handed over, of each request.
            input_ns: Time the batch took to gather its inputs.
            infer_ns: Time the batch spent in the runtime.
            output_ns: Time the batch took to split its answers.
            now_ms: Wall clock, milliseconds since the epoch.
        """
        count = len(total_ns)
        key = (variant, Outcome.OK)
        self.requests[key] = self.requests.get(key, 0) + count
        self.success_count += count
        queued, total = self.queue.sum_ns, self.total.sum_ns
        self.queue.observe_many(queue_ns)
        self.total.observe_many(total_ns)
        self.queue_ns += self.queue.sum_ns - queued
        self.success_ns += self.total.sum_ns - total
        compute_ns = input_ns + infer_ns + output_ns
        self.compute.counts[bisect_left(self.compute.bounds_ns, compute_ns)] += count
        self.compute.sum_ns += compute_ns * count
        self.compute_input_ns += input_ns * count
        self.compute_infer_ns += infer_ns * count
        self.compute_output_ns += output_ns * count
        self.inference_count += rows
        self.last_inference_ms = now_ms

    def refused(self, variant: Variant, outcome: Outcome, total_ns: int = 0, count: int = 1) -> None:
        """Count requests that were not answered by the model; `total_ns` is the sum of their times."""
        key = (variant, outcome)
        self.requests[key] = self.requests.get(key, 0) + count
        self.fail_count += count
        self.fail_ns += total_ns


class ServerStats:
    """Counters of the process that belong to no version.

    Attributes:
        lane: "fast", "asgi", or "none" before the server starts. Set by whoever starts it.
        grpc_lane: "fast" for our own gRPC server, "grpcio" for that library's, "none" without gRPC. Set when it starts.
        in_flight: Inference requests whose answer is not handed over yet, in both lanes.
        connections: Open connections of the fast lane's protocol class.
        unrouted: Requests that named no model we host, by outcome.
        unauthenticated: Requests refused for their credential, in both lanes.
        cpu_fallbacks: Loads that wanted an accelerator and were allowed to run on the CPU.
    """

    __slots__ = ("connections", "cpu_fallbacks", "grpc_lane", "in_flight", "lane", "unauthenticated", "unrouted")

    def __init__(self) -> None:
        self.lane = "none"
        self.grpc_lane = "none"
        self.in_flight = 0
        self.connections = 0
        self.unrouted: dict[Outcome, int] = {}
        self.unauthenticated = 0
        self.cpu_fallbacks = 0
