"""A load generator of its own process: threads with one keep-alive connection each. Standard library only.

    python -m benchmarks.pressure < plan.json > result.json

Closed loop: each thread sends its next request when it has its answer. Open loop: requests are due at Poisson times;
whichever thread is free takes the next, and latency counts from when the request was due, also when it left late.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one process does.

    Attributes:
        port: On the loopback interface.
        request: File with the bytes of one whole HTTP request.
        connections: Threads.
        seconds: Measured time.
        warm_up_s: Time before it, whose answers do not count.
        rate: Requests a second, of this process; 0: closed loop.
        seed: Of the arrival times.
    """

    port: int
    request: str
    connections: int
    seconds: float
    warm_up_s: float = 1.0
    rate: float = 0.0
    seed: int = 0


@dataclass(kw_only=True)
class Outcome:
    """What came back in the measured time.

    Attributes:
        latencies_ms: Of answered requests, unordered.
        failures: Status or exception to how often.
    """

    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """Answered requests a second."""
        return len(self.latencies_ms) / self.seconds if self.seconds else 0.0

    def percentile(self, percent: float) -> float:
        """A latency in milliseconds, by the nearest rank; not a number without answers."""
        ranked = sorted(self.latencies_ms)
        return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] if ranked else float("nan")


class _Schedule:
    """Hands out when requests are due; None when the time is over."""

    def __init__(self, plan: Plan, begin: float) -> None:
        self._random = random.Random(plan.seed)
        self._rate = plan.rate
        self._end = begin + plan.warm_up_s + plan.seconds
        self._next = begin
        self._lock = threading.Lock()

    def take(self) -> float | None:
        """The next time, on the monotonic clock."""
        if not self._rate:
            now = time.monotonic()
            return now if now < self._end else None
        with self._lock:
            due = self._next
            self._next += self._random.expovariate(self._rate)
        return due if due < self._end else None


def drive(plan: Plan) -> Outcome:
    """Carry a plan out in this process."""
    request = Path(plan.request).read_bytes()
    begin = time.monotonic() + 0.05
    schedule, measured_from = _Schedule(plan, begin), begin + plan.warm_up_s
    latencies: list[float] = []
    failures: Counter[str] = Counter()

    def work() -> None:
        connection: socket.socket | None = None
        while (due := schedule.take()) is not None:
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            try:
                if connection is None:
                    connection = socket.create_connection(("127.0.0.1", plan.port), 30)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(request)
                status = _answer(connection)
            except (OSError, ValueError) as error:
                status = type(error).__name__
                with contextlib.suppress(OSError):
                    if connection is not None:
                        connection.close()
                connection = None
            if due < measured_from:
                continue
            if status == "200":
                latencies.append((time.monotonic() - due) * 1e3)
            else:
                failures[status] += 1
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(plan.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = max(plan.seconds, time.monotonic() - measured_from)
    return Outcome(seconds=spent, latencies_ms=latencies, failures=dict(failures))


def drive_from(processes: int, plan: Plan) -> Outcome:
    """Carry a plan out from several processes, which share its connections and its rate."""
    share = max(1, plan.connections // processes)
    children = []
    for number in range(processes):
        mine = Plan(**{**asdict(plan), "connections": share, "rate": plan.rate / processes, "seed": number})
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pressure"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdin is not None  # it is piped
        child.stdin.write(json.dumps(asdict(mine)))
        child.stdin.close()
        child.stdin = None
        children.append(child)
    total = Outcome()
    for child in children:
        answered = Outcome(**json.loads(child.communicate(timeout=plan.seconds + plan.warm_up_s + 60)[0]))
        total.latencies_ms += answered.latencies_ms
        total.seconds = max(total.seconds, answered.seconds)
        for name, count in answered.failures.items():
            total.failures[name] = total.failures.get(name, 0) + count
    return total


def _answer(connection: socket.socket) -> str:
    """Read one answer whole; its status."""
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _some(connection)
    head = bytes(data[:end]).lower()
    at = head.find(b"content-length:")
    if at < 0:
        raise ValueError("an answer without content-length")
    left = int(head[at + 15 :].split(b"\r\n", 1)[0]) - (len(data) - end - 4)
    while left > 0:
        left -= len(_some(connection))
    return head.split(b" ", 2)[1].decode()


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def main(arguments: Sequence[str] = ()) -> int:
    """The child's side of `drive_from`."""
    json.dump(asdict(drive(Plan(**json.load(sys.stdin)))), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
