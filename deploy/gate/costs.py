"""What the two versions cost: time of a request of one row, memory, size. Measured in the same minute, in turns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from deploy.gate.child import VersionAtWork
from deploy.gate.inputs import LabelledSet
from export.package import Package
from monitoring.gate.contracts import Measured
from monitoring.gate.job import GateBudgets, GateRequest, GateSet

BLOCK = 10  # requests of one version before it is the other's turn
WARM_UP = 10
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """{cost: (champion, candidate)}: latency_p50_ms, latency_p95_ms, memory_mib, size_mib; those that were measured."""

    pairs: dict[str, tuple[float, float]] = field(default_factory=dict)

    def also(self, name: str, champion: float, candidate: float) -> Costs:
        """With another cost."""
        return Costs(pairs=self.pairs | {name: (round(champion, 4), round(candidate, 4))})

    def measured(self, budgets: GateBudgets) -> list[Measured]:
        """Those that have a budget, with it."""
        limits = {
            "latency_p50_ms": (budgets.latency, budgets.latency_ms),
            "latency_p95_ms": (budgets.latency, budgets.latency_ms),
            "memory_mib": (budgets.memory, budgets.memory_mib),
            "size_mib": (budgets.size, budgets.size_mib),
        }
        return [
            Measured(name=name, champion=old, candidate=new, limit=limits[name][0], allowance=limits[name][1])
            for name, (old, new) in self.pairs.items()
        ]


def measure(
    old: VersionAtWork, new: VersionAtWork, sets: Sequence[tuple[GateSet, LabelledSet]], request: GateRequest
) -> Costs:
    """Memory of both processes, and the latency of single rows, a block of one and a block of the other.

    A machine that is slow for a moment is slow for both, and both get the same rows.

    Raises:
        VersionFailed: one of them did not answer.
    """
    costs = Costs().also("memory_mib", old.memory_mib(), new.memory_mib())
    largest = max(sets, key=lambda pair: len(pair[1]), default=None)
    if largest is None or not len(largest[1]) or not request.budgets.timings:
        return costs
    given, labelled = largest
    lots = random.Random(0)  # which rows are timed
    took: tuple[list[float], list[float]] = ([], [])
    for process in (old, new):
        process.time(given.folder, [lots.randrange(len(labelled)) for _ in range(WARM_UP)])
    for turn in range(-(-request.budgets.timings // BLOCK)):
        rows = [lots.randrange(len(labelled)) for _ in range(BLOCK)]
        for side in ((0, 1), (1, 0))[turn % 2]:
            took[side].extend((old, new)[side].time(given.folder, rows))
    for name, share in (("latency_p50_ms", 0.5), ("latency_p95_ms", 0.95)):
        costs = costs.also(name, float(np.quantile(took[0], share)), float(np.quantile(took[1], share)))
    return costs


def size_mib(package: Package) -> float:
    """What the manifest's files take on disk."""
    return sum(f.size_bytes for f in package.manifest.files) / MIB
