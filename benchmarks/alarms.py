"""What the alarms promise and reach: `python -m benchmarks.alarms [--quick]`; seeded, about four minutes.

False alarms over a life of 4,000 audited labels at the boundary (the error rate is exactly the tolerance, the hardest
case); labels until a real change is seen, beside the test that knows the new error rate; changes after a long healthy
history; the gain of a proxy; and what a window z-test that looks every 200 labels would have done.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT
from monitoring.alarms.bets import Bets, label_bets, proxy_bets
from monitoring.alarms.evidence import LifeEvidence, RunEvidence

RESULTS = ROOT / "benchmarks" / "results" / "alarms.json"
TOLERANCE, ALPHA, RUN_LENGTH = 0.10, 0.01, 10_000
HEALTHY = 0.05
NEVER = 1 << 30
Array = npt.NDArray[Any]


class World:
    """Streams of audited labels whose error rate changes at a known label.

    Args:
        before, after: Error rates.
        change: Label at which it changes.
        runs: Independent streams.
        sharpness: Of the proxy; 0 makes none. Larger follows the truth better.
    """

    def __init__(self, seed: int, before: float, after: float, change: int, runs: int, sharpness: float = 0.0) -> None:
        self._random = np.random.default_rng(seed)
        self.before, self.after, self.change, self.runs, self.sharpness = before, after, change, runs, sharpness
        self.kept: list[tuple[Array, Array]] = []
        self._means = {q: self._proxy_of(self._random.random(400_000) < q).mean() for q in {before, after}}

    def label(self, t: int) -> tuple[Array, Array | None, float | None]:
        """Label number `t` of each stream: wrong or not, proxy, and the proxy's mean over all that was recorded."""
        rate = self.before if t < self.change else self.after
        wrong = self._random.random(self.runs) < rate
        if not self.sharpness:
            return wrong.astype(float), None, None
        proxy = self._proxy_of(wrong)
        self.kept.append((wrong, proxy))
        return wrong.astype(float), proxy, float(self._means[rate])

    def _proxy_of(self, wrong: Array) -> Array:
        s = self.sharpness or 1.0
        return np.where(
            wrong, self._random.beta(1.0 + s, 2.0, wrong.shape), self._random.beta(0.9, 3.0 + 3.0 * s, wrong.shape)
        )

    @property
    def correlation(self) -> float:
        """Of proxy and truth, over everything drawn so far."""
        wrong, proxy = (np.concatenate(part) for part in zip(*self.kept, strict=True))
        return float(np.corrcoef(wrong, proxy)[0, 1])


def first_alarm(world: World, evidence: LifeEvidence | RunEvidence, threshold: float, labels: int) -> Array:
    """(runs,) number of labels at the first alarm of each stream, NEVER without one."""
    evidence.stakes = np.zeros((world.runs, *evidence.bets.weights.shape))
    first = np.full(world.runs, NEVER)
    for t in range(labels):
        evidence.update(*world.label(t))
        first = np.where((first == NEVER) & (evidence.value >= threshold), t + 1, first)
        if (first != NEVER).all():
            break
    return first


def knowing(world: World, labels: int) -> Array:
    """First alarm of the sequential test that knows both error rates: the likelihood ratio against 1/ALPHA."""
    q = world.after
    total, first = np.zeros(world.runs), np.full(world.runs, NEVER)
    for t in range(labels):
        wrong, _, _ = world.label(t)
        total += np.where(wrong > 0, math.log(q / TOLERANCE), math.log((1 - q) / (1 - TOLERANCE)))
        first = np.where((first == NEVER) & (total >= math.log(1 / ALPHA)), t + 1, first)
        if (first != NEVER).all():
            break
    return first


def peeking(world: World, labels: int, every: int = 200) -> Array:
    """First alarm of a one-sided z-test at ALPHA over the last `every` labels, looked at after each `every`."""
    first, errors = np.full(world.runs, NEVER), np.zeros(world.runs)
    for t in range(labels):
        errors += world.label(t)[0]
        if (t + 1) % every == 0:
            z = (errors / every - TOLERANCE) / math.sqrt(TOLERANCE * (1 - TOLERANCE) / every)
            first = np.where((first == NEVER) & (z > 2.326), t + 1, first)
            errors[:] = 0
    return first


def share_of(first: Array, labels: int) -> float:
    """Streams with an alarm within so many labels."""
    return float((first <= labels).mean())


def simulate(runs: int, seed: int) -> dict[str, Any]:
    """All experiments; every one has a seed of its own."""
    life, run = LifeEvidence, RunEvidence
    plain = label_bets(TOLERANCE)

    def delays(make: Any, bets: Bets, threshold: float, q: float, sharpness: float = 0.0) -> tuple[int, World]:
        world = World(seed + round(100 * q), q, q, 0, runs, sharpness)
        return int(np.median(first_alarm(world, make(bets), threshold, 3_000))), world

    boundary = World(seed, TOLERANCE, TOLERANCE, 0, runs)
    result: dict[str, Any] = {
        "false_alarms": {
            "lifetime promise": share_of(first_alarm(boundary, life(plain), 1 / ALPHA, 4_000), 4_000),
            "lifetime promise, with proxy": share_of(
                first_alarm(World(seed + 1, 0.1, 0.1, 0, runs, 3.0), life(proxy_bets(TOLERANCE)), 1 / ALPHA, 4_000),
                4_000,
            ),
            "window z-test, a look every 200": share_of(peeking(World(seed + 2, 0.1, 0.1, 0, runs), 4_000), 4_000),
        },
        "delay": [],
        "late": [],
    }
    for q in (0.15, 0.20, 0.30):
        known = int(np.median(knowing(World(seed + 7 + round(100 * q), q, q, 0, runs), 4_000)))
        ours, _ = delays(life, plain, 1 / ALPHA, q)
        helped, world = delays(life, proxy_bets(TOLERANCE), 1 / ALPHA, q, 3.0)
        row = {"error_rate": q, "knowing": known, "ours": ours, "ratio": round(ours / known, 3)}
        row |= {
            "with_proxy": helped,
            "proxy_ratio": round(helped / ours, 3),
            "correlation": round(world.correlation, 3),
        }
        result["delay"].append(row)
    for name, make, bets, threshold in (
        ("lifetime promise", life, plain, 1 / ALPHA),
        ("run-length promise at the healthy rate", run, label_bets(HEALTHY), RUN_LENGTH),
    ):
        world = World(seed + 50, HEALTHY, 0.20, 3_000, max(100, runs // 2))
        first = first_alarm(world, make(bets), threshold, 4_500)
        after = first[first > 3_000] - 3_000
        early = share_of(first, 3_000)
        result["late"].append({"name": name, "median_labels": int(np.median(after)), "alarmed_before": early})
    result["run_length"] = {
        "promised": RUN_LENGTH,
        "alarmed_within_a_tenth": share_of(
            first_alarm(World(seed + 60, HEALTHY, HEALTHY, 0, runs), run(label_bets(HEALTHY)), RUN_LENGTH, 1_000), 1_000
        ),
    }
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print, keep."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alarms", description="what the alarms promise and reach"
    )
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=20_261_121)
    parser.add_argument("--quick", action="store_true", help="200 streams: does it run?")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    runs = 200 if options.quick else options.runs
    settings = {"runs": runs, "seed": options.seed, "tolerance": TOLERANCE, "alpha": ALPHA, "healthy": HEALTHY}
    result = {"machine": machine_facts(ROOT), "settings": settings, **simulate(runs, options.seed)}
    text = json.dumps(result, indent=1)
    print(text)
    options.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
