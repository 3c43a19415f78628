"""What one worker counts: per measurement window, by end for stability, by intended start for the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploy.loadtest.histogram import Histogram, merged

# Requests that got no answer in time. They count as errors, and their waiting counts as latency all the same: a server
# that never answers its slowest requests must not look faster for it.
TIMED_OUT = "timeout"
NOT_SENT = "not sent"


@dataclass(kw_only=True, slots=True)
class Window:
    """Counts of one window in one worker, or of several added up.

    Attributes:
        answered: Requests with a success.
        errors: Requests without one, by reason ("http 503", "timeout", "connection lost", "grpc UNAVAILABLE").
        latency: Of the requests that were answered, and the waiting of those that timed out.
        lag: How late the generator itself sent, with a free connection at hand.
        cpu_share: Share of one core that the generator process used; of several, the largest.
        starved_share: Share of the time in which it could have run and had no core; of several, the largest.
        waiting: Requests without an answer at the window's end.
    """

    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    lag: Histogram = field(default_factory=Histogram)
    cpu_share: float = 0.0
    starved_share: float = 0.0
    waiting: int = 0
    received_bytes: int = 0

    @property
    def ended(self) -> int:
        """Requests that ended, well or not."""
        return self.answered + self.errors.total()

    def to_plain(self) -> dict[str, Any]:
        """For the pipe between worker and parent."""
        return {
            "answered": self.answered,
            "errors": dict(self.errors),
            "latency": self.latency.to_plain(),
            "lag": self.lag.to_plain(),
            "cpu_share": self.cpu_share,
            "starved_share": self.starved_share,
            "waiting": self.waiting,
            "received_bytes": self.received_bytes,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Window:
        """The inverse of `to_plain`."""
        return cls(
            answered=int(plain["answered"]),
            errors=Counter(plain["errors"]),
            latency=Histogram.from_plain(plain["latency"]),
            lag=Histogram.from_plain(plain["lag"]),
            cpu_share=float(plain["cpu_share"]),
            starved_share=float(plain["starved_share"]),
            waiting=int(plain["waiting"]),
            received_bytes=int(plain["received_bytes"]),
        )


def together(parts: Iterable[Window]) -> Window:
    """Windows added up: of several workers, or of several stretches of time."""
    listed = list(parts)
    return Window(
        answered=sum(p.answered for p in listed),
        errors=sum((p.errors for p in listed), Counter()),
        latency=merged(p.latency for p in listed),
        lag=merged(p.lag for p in listed),
        cpu_share=max((p.cpu_share for p in listed), default=0.0),
        starved_share=max((p.starved_share for p in listed), default=0.0),
        waiting=sum(p.waiting for p in listed),
        received_bytes=sum(p.received_bytes for p in listed),
    )


class Recorder:
    """Collects what ends; two list appends a request. Times are `time.monotonic_ns`.

    Args:
        begin_ns: Start of window 0; what starts or ends before is warm-up and is not counted.
        window_ns: Length of a window.
    """

    __slots__ = (
        "_begin_ns",
        "_by_start",
        "_ends",
        "_errors",
        "_lags",
        "_starts",
        "_window_ns",
        "answered_in_all",
        "failed_in_all",
        "received_bytes",
    )

    def __init__(self, begin_ns: int, window_ns: int) -> None:
        self._begin_ns = begin_ns
        self._window_ns = window_ns
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._lags: list[int] = []
        self._errors: list[tuple[int, int, str]] = []
        self._by_start: dict[int, Window] = {}
        self.received_bytes = 0
        self.answered_in_all = 0  # warm-up included, as of the last `close`
        self.failed_in_all = 0

    def answered(self, start_ns: int, end_ns: int) -> None:
        """A request was answered with success."""
        self._starts.append(start_ns)
        self._ends.append(end_ns)

    def failed(self, start_ns: int, end_ns: int, reason: str) -> None:
        """A request ended without success."""
        self._errors.append((start_ns, end_ns, reason))

    def sent_late(self, lag_ns: int) -> None:
        """A request left this much after its time, for which only the generator is to blame."""
        self._lags.append(lag_ns)

    def close(self, number: int) -> Window:
        """What ended since the last call, as window `number`; also filed by intended start."""
        starts, ends = np.asarray(self._starts, np.int64), np.asarray(self._ends, np.int64)
        self.answered_in_all += len(starts)
        self.failed_in_all += len(self._errors)
        window = Window(answered=0, received_bytes=self.received_bytes)
        counted = ends >= self._begin_ns
        window.answered = int(counted.sum())
        latency = ends - starts
        window.latency.add(latency[counted])
        window.lag.add(np.asarray(self._lags, np.int64))
        for start, end, reason in self._errors:
            if end >= self._begin_ns:
                window.errors[reason] += 1
                if reason in (TIMED_OUT, NOT_SENT):
                    window.latency.add([end - start])
        self._file(starts, latency)
        self._starts, self._ends, self._lags, self._errors, self.received_bytes = [], [], [], [], 0
        if number < 0:
            return Window()
        started = self._by_start.setdefault(number, Window())
        started.lag.merge(window.lag)
        return window

    def _file(self, starts: np.ndarray[Any, np.dtype[np.int64]], latency: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        numbers = (starts - self._begin_ns) // self._window_ns
        for number in np.unique(numbers[numbers >= 0]).tolist():
            chosen = latency[numbers == number]
            window = self._by_start.setdefault(number, Window())
            window.answered += len(chosen)
            window.latency.add(chosen)
        for start, end, reason in self._errors:
            number = (start - self._begin_ns) // self._window_ns
            if number >= 0:
                window = self._by_start.setdefault(number, Window())
                window.errors[reason] += 1
                if reason in (TIMED_OUT, NOT_SENT):
                    window.latency.add([end - start])

    def by_start(self, number: int) -> Window:
        """Requests whose intended start lies in a window, as far as they have ended."""
        return self._by_start.get(number, Window())
