"""What the parent tells a worker, and what a worker tells back: one JSON document a line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from deploy.loadtest.arrivals import Arrivals


class Protocol(StrEnum):
    """How requests travel."""

    HTTP = "http"  # REST over HTTP/1.1
    GRPC = "grpc"  # GRPCInferenceService over HTTP/2


class Mode(StrEnum):
    """What is held constant at a level of load."""

    CONCURRENCY = "concurrency"  # closed loop: callers
    RATE = "rate"  # open loop: requests a second


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """Said once, when a worker starts.

    Attributes:
        hosts: Where requests go; several when instances of one server share the load.
        requests: Prepared requests in base64: whole HTTP requests, or gRPC messages.
        metadata: gRPC metadata, name and value.
    """

    protocol: Protocol
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    tls: bool
    requests: tuple[str, ...]
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Load the server until told to stop.

    Attributes:
        value: This worker's part: callers, or requests a second.
        begin_ns: Start of window 0 (`time.monotonic_ns`, which all processes of a machine share).
        now_ns: When to begin with the warm-up.
        lanes: Connections at most, of this worker.
        offset: Number of this worker, so that they begin with different requests.
        phase: Share of a gap by which a constant schedule is late.
    """

    mode: Mode
    value: float
    now_ns: int
    begin_ns: int
    window_ns: int
    timeout_ns: int
    lanes: int
    arrivals: Arrivals = Arrivals.POISSON
    seed: int = 0
    offset: int = 0
    phase: float = 0.0


STOP = b'"stop"'
