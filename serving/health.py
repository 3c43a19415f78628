"""Whether a replica can still do its work. Ray asks on the replica's loop, so no answer at all means: the loop stands.

Three ways to fail are looked for here: a device that broke for good, a batch that never ends, and (by asking on the
loop, which Ray does) a loop that is blocked or a thread that holds Python's lock. A model that is merely slow, or a
version that could not be loaded, is not ill health: a new process would do no better.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

PATIENCE_S = 10.0  # a batch may at least take so long ...
PATIENCE_FACTOR = 50.0  # ... and at least so many times what it took when it was warmed up


class _Queue(Protocol):
    @property
    def busy_since_ns(self) -> int: ...

    @property
    def waiting_rows(self) -> int: ...


class _Runtime(Protocol):
    @property
    def healthy(self) -> bool: ...


class Examined(Protocol):
    """What health asks of a loaded version."""

    @property
    def model(self) -> str:
        """Its model."""
        ...

    @property
    def version(self) -> str:
        """Its name."""
        ...

    @property
    def batch_us(self) -> float:
        """Time of a warm batch, microseconds."""
        ...

    @property
    def batcher(self) -> _Queue:
        """Its queue."""
        ...

    @property
    def runtime(self) -> _Runtime:
        """What executes it."""
        ...


def patience_s(batch_us: float, timeout_s: float) -> float:
    """How long a batch may run before it counts as stuck, while requests wait behind it.

    Never longer than the server's own time limit: after that nobody waits for the batch any more.

    Example:
        >>> patience_s(batch_us=300, timeout_s=60), patience_s(batch_us=400_000, timeout_s=60)
        (10.0, 20.0)
        >>> patience_s(batch_us=300, timeout_s=2), patience_s(batch_us=60_000_000, timeout_s=60)
        (2.0, 60.0)
    """
    return min(timeout_s, max(PATIENCE_S, PATIENCE_FACTOR * batch_us / 1e6))


def broken_device(versions: Iterable[Examined]) -> str | None:
    """A version whose device failed in a way that only a new process can repair; None when there is none."""
    return next((f"{v.model}/{v.version}" for v in versions if not v.runtime.healthy), None)


def trouble(versions: Iterable[Examined], timeout_s: float, now_ns: int) -> str | None:
    """Why only a new process can help; None when nothing is wrong.

    Args:
        versions: Every loaded version.
        timeout_s: The server's time limit of a request.
        now_ns: `perf_counter_ns()`.
    """
    for version in versions:
        if not version.runtime.healthy:
            return f"the device of {version.model}/{version.version} failed for good in this process"
        since = version.batcher.busy_since_ns
        if not since:
            continue
        running_s = (now_ns - since) / 1e9
        limit_s = patience_s(version.batch_us, timeout_s) if version.batcher.waiting_rows else timeout_s
        if running_s > limit_s:
            return f"a batch of {version.model}/{version.version} has been running for {running_s:.0f} s"
    return None
