"""When a challenger fails too often to go on: a sequential test on one replica, with a stated rate of false alarms."""

from __future__ import annotations


class Breaker:
    """Trips when a challenger's failures cannot be explained by a failure rate of `bound` any more.

    A betting CUSUM over single requests. With x = 1 for a failure and q the challenger's failure rate as estimated from
    the requests *before* this one, never below the bound p, each request multiplies the evidence by

        q / p  for a failure,   (1 - q) / (1 - p)  for a success,

    and evidence below 1 is reset to 1, so that a long good time does not hide a bad one that follows. As long as the
    true rate is at most p, each factor is at most 1 in expectation: the mean number of requests before a false alarm is
    at least `patience`, whatever the number of looks. A challenger that always fails trips it within four requests.

    Args:
        bound: Failure rate that is still tolerated, above 0 and below 1.
        patience: Mean requests between false alarms, at least.

    Attributes:
        requests: Requests seen.
        failures: Those that failed.
        tripped: Set for good when the evidence is enough.

    References:
        Shin, Ramdas, Rinaldo (2023), E-detectors: a nonparametric framework for sequential change detection, eq. 3 and
        theorem 2.4 (average run length of the e-CUSUM). Krichevsky, Trofimov (1981) for the estimate of q.

    Example:
        >>> breaker = Breaker(bound=0.02, patience=1e6)
        >>> [breaker.note(failed=True) for _ in range(4)]
        [False, False, False, True]
        >>> healthy = Breaker(bound=0.02, patience=1e6)
        >>> any(healthy.note(failed=i % 100 == 0) for i in range(100_000))
        False
    """

    __slots__ = ("_bound", "_evidence", "_failed", "_patience", "_seen", "failures", "requests", "tripped")

    def __init__(self, *, bound: float = 0.02, patience: float = 1e6) -> None:
        if not 0.0 < bound < 1.0:
            raise ValueError(f"the tolerated failure rate is {bound}: it must lie between 0 and 1")
        self._bound = bound
        self._patience = patience
        self._evidence = 1.0
        self._seen = 0.0  # since the evidence was last 1: what the estimate of q rests on
        self._failed = 0.0
        self.requests = 0
        self.failures = 0
        self.tripped = False

    def note(self, *, failed: bool) -> bool:
        """Count one request; True when this one trips the breaker, once."""
        self.requests += 1
        self.failures += failed
        if self.tripped:
            return False
        q = max(self._bound, (self._failed + 0.5) / (self._seen + 1.0))
        self._evidence *= q / self._bound if failed else (1.0 - q) / (1.0 - self._bound)
        self._seen += 1.0
        self._failed += failed
        if self._evidence < 1.0:
            self._evidence, self._seen, self._failed = 1.0, 0.0, 0.0
        self.tripped = self._evidence >= self._patience
        return self.tripped
