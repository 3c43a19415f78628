"""What this process has done for reviewers since it started: for the metrics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Counts:
    """Counters; safe to use from several threads.

    Attributes:
        decisions: By verdict and kind of act.
        conflicts: Decisions that were refused because the case had moved on, or somebody else had it.
    """

    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)
    conflicts: int = 0
    undone: int = 0
    leases: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def decided(self, kind: str, verdicts: Mapping[str, int], conflicts: int = 0) -> None:
        """Count decisions of one act."""
        with self._lock:
            for verdict, n in verdicts.items():
                self.decisions[verdict, kind] += n
            self.conflicts += conflicts

    def leased(self, cases: int) -> None:
        """Count cases that somebody took."""
        with self._lock:
            self.leases += cases

    def took_back(self, cases: int) -> None:
        """Count cases whose change was undone."""
        with self._lock:
            self.undone += cases
