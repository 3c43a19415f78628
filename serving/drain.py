"""Whether a client takes in its answers, or lets them pile up."""

from __future__ import annotations

MIN_DRAINED_BYTES = 65_536  # what a client must take in of its answers in every span of patience


class Drain:
    """Watches the unsent bytes of one connection."""

    __slots__ = ("_since", "_size")

    def __init__(self) -> None:
        self._since = 0.0  # 0 while nothing waits to be sent
        self._size = 0

    def is_stuck(self, now: float, unsent: int, patience_s: float) -> bool:
        """Whether the client has taken in less than `MIN_DRAINED_BYTES` for `patience_s`; call it regularly.

        Args:
            now: Monotonic time in seconds.
            unsent: Bytes in the connection's write buffer.
            patience_s: How long is long enough.
        """
        if unsent == 0:
            self._since = 0.0
            return False
        if self._since == 0.0 or self._size - unsent >= MIN_DRAINED_BYTES:
            self._since, self._size = now, unsent
        self._size = max(self._size, unsent)  # another answer was added: the clock goes on
        return now - self._since > patience_s
