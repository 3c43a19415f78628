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
from benchmarks.stored import store_result
from monitoring.alarms.bets import BINS, Bets, Table, better_bets, fastest, proxy_bins, worse_bets
from monitoring.alarms.draw import draw_chances
from monitoring.alarms.evidence import LifeEvidence, RunEvidence

TOLERANCE, ALPHA, RUN_LENGTH = 0.10, 0.01, 10_000
HEALTHY = 0.05
EXPECTED = (HEALTHY + TOLERANCE) / 2  # as `monitoring.alarms.limits` has it
RECOVERY_RUN_LENGTH = 200
PROXIES = (1.1, 1.5, 3.0)  # sharpness; they correlate with the truth at about 0.73, 0.8 and 0.92
PROBES = draw_chances(0.01, 0.20)  # an audit of 1 %, and probes up to 20 %
NEVER = 1 << 30
Array = npt.NDArray[Any]


class World:
    """Streams of audited labels whose error rate changes at a known label.

    Args:
        before, after: Error rates.
        change: Label at which it changes.
        runs: Independent streams.
        sharpness: Of the proxy; 0 makes none. Larger follows the truth better.
        draw: Chances of the proxy's bins to be drawn; None: uniform.
    """

    def __init__(
        self,
        seed: int,
        before: float,
        after: float,
        change: int,
        runs: int,
        sharpness: float = 0.0,
        draw: Array | None = None,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self.draw, self._drawn = draw, dict[float, tuple[Array, Array]]()
        self.before, self.after, self.change, self.runs, self.sharpness = before, after, change, runs, sharpness
        self.populations: dict[float, tuple[Array, Array]] = {}
        for rate in sorted({before, after}) if sharpness else ():
            wrong = self._random.random(400_000) < rate
            self.populations[rate] = (wrong, self._proxy_of(wrong))

    def population(self, t: int) -> Array | None:
        """How the proxies of everything that label `t` was drawn from lie in the bins; None without a proxy."""
        if not self.sharpness:
            return None
        return np.bincount(proxy_bins(self.populations[self.rate(t)][1]), minlength=BINS)

    def rate(self, t: int) -> float:
        """The error rate at label `t`."""
        return self.before if t < self.change else self.after

    def label(self, t: int) -> tuple[Array, Array | None]:
        """Label number `t` of each stream: wrong or not, and the bin of its proxy."""
        if self.draw is not None:
            return self._preferred(self.rate(t))
        wrong = self._random.random(self.runs) < self.rate(t)
        return wrong.astype(float), proxy_bins(self._proxy_of(wrong)) if self.sharpness else None

    def _preferred(self, rate: float) -> tuple[Array, Array]:
        """Labels of records drawn with the chances of their bins."""
        wrong, proxy = self.populations[rate]
        if rate not in self._drawn:
            assert self.draw is not None
            bins = proxy_bins(proxy)
            self._drawn[rate] = bins, np.cumsum(self.draw[bins])
        bins, upto = self._drawn[rate]
        chosen = np.searchsorted(upto, self._random.random(self.runs) * upto[-1], side="right")
        return wrong[chosen].astype(float), bins[chosen]

    def _proxy_of(self, wrong: Array) -> Array:
        s = self.sharpness or 1.0
        return np.where(
            wrong, self._random.beta(1.0 + s, 2.0, wrong.shape), self._random.beta(0.9, 3.0 + 3.0 * s, wrong.shape)
        )

    @property
    def correlation(self) -> float:
        """Of proxy and truth, after the change."""
        wrong, proxy = self.populations[self.after]
        return float(np.corrcoef(wrong, proxy)[0, 1])


def first_alarm(world: World, evidence: LifeEvidence | RunEvidence, bets: Bets, threshold: float, labels: int) -> Array:
    """(runs,) number of labels at the first alarm of each stream, NEVER without one."""
    evidence.stakes = np.zeros((world.runs, *evidence.weights.shape))
    first = np.full(world.runs, NEVER)
    tables: dict[float, Table] = {}
    for t in range(labels):
        if world.rate(t) not in tables:
            tables[world.rate(t)] = bets.table(world.population(t), world.draw)
        evidence.update(tables[world.rate(t)].factors(*world.label(t)))
        first = np.where((first == NEVER) & (evidence.value >= threshold), t + 1, first)
        if (first != NEVER).all():
            break
    return first


def knowing(world: World, labels: int) -> Array:
    """First alarm of the sequential test that knows both error rates: the likelihood ratio against 1/ALPHA."""
    q = world.after
    total, first = np.zeros(world.runs), np.full(world.runs, NEVER)
    for t in range(labels):
        wrong, _ = world.label(t)
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


def limit_of_proxy(world: World, bins: int = BINS) -> float:
    """Labels that the best possible bet with this proxy needs, over those of the best without it.

    The best bet knows the new error rate and how errors depend on the proxy; nothing that keeps the promise for every
    way in which they may depend on it grows faster (`monitoring.alarms.bets`).
    """
    wrong, proxy = world.populations[world.after]
    place = proxy_bins(proxy)
    records, errors = np.bincount(place, minlength=bins), np.bincount(place, wrong, minlength=bins)
    chance = np.clip(errors / np.maximum(records, 1), 1e-6, 1 - 1e-6)
    share = records / records.sum()
    table = fastest(chance[None], share, TOLERANCE, np.array([True]))
    growth = (1 - chance) * np.log(table.a[0]) + chance * np.log(table.a[0] + table.b[0])
    q = world.after
    alone = q * math.log(q / TOLERANCE) + (1 - q) * math.log((1 - q) / (1 - TOLERANCE))
    return float(alone / (share * growth).sum())


def simulate(runs: int, seed: int) -> dict[str, Any]:
    """All experiments; every one has a seed of its own."""
    plain = worse_bets(TOLERANCE)

    def alarms(world: World, labels: int, bets: Bets = plain, kind: Any = LifeEvidence, at: float = 1 / ALPHA) -> Array:
        return first_alarm(world, kind(bets.weights), bets, at, labels)

    result: dict[str, Any] = {
        "false_alarms": {
            "lifetime promise": share_of(alarms(World(seed, TOLERANCE, TOLERANCE, 0, runs), 4_000), 4_000),
            "lifetime promise, with proxy": share_of(
                alarms(World(seed + 1, TOLERANCE, TOLERANCE, 0, runs, PROXIES[-1]), 4_000), 4_000
            ),
            "lifetime promise, with proxy and probes": share_of(
                alarms(World(seed + 3, TOLERANCE, TOLERANCE, 0, runs, PROXIES[0], PROBES), 4_000), 4_000
            ),
            "window z-test, a look every 200": share_of(
                peeking(World(seed + 2, TOLERANCE, TOLERANCE, 0, runs), 4_000), 4_000
            ),
        },
        "delay": [],
        "proxy": [],
        "late": [],
    }
    for q in (0.15, 0.20, 0.30):
        known = int(np.median(knowing(World(seed + 7 + round(100 * q), q, q, 0, runs), 4_000)))
        ours = int(np.median(alarms(World(seed + round(100 * q), q, q, 0, runs), 3_000)))
        result["delay"].append({"error_rate": q, "knowing": known, "ours": ours, "ratio": round(ours / known, 3)})
        for sharpness in PROXIES:
            world = World(seed + round(100 * q), q, q, 0, runs, sharpness)
            helped = int(np.median(alarms(world, 3_000)))
            probed = int(np.median(alarms(World(seed + round(100 * q), q, q, 0, runs, sharpness, PROBES), 3_000)))
            result["proxy"].append(
                {
                    "error_rate": q,
                    "correlation": round(world.correlation, 3),
                    "labels": helped,
                    "of_those_without": round(helped / ours, 3),
                    "limit": round(limit_of_proxy(world), 3),
                    "with_probes": probed,
                    "with_probes_of_those_without": round(probed / ours, 3),
                }
            )
    for name, kind, bets, threshold in (
        ("lifetime promise", LifeEvidence, plain, 1 / ALPHA),
        ("run-length promise at the expected rate", RunEvidence, worse_bets(EXPECTED), RUN_LENGTH),
    ):
        first = alarms(World(seed + 50, HEALTHY, 0.20, 3_000, max(100, runs // 2)), 4_500, bets, kind, threshold)
        after = first[first > 3_000] - 3_000
        early = share_of(first, 3_000)
        result["late"].append({"name": name, "median_labels": int(np.median(after)), "alarmed_before": early})
    boundary = World(seed + 60, EXPECTED, EXPECTED, 0, runs)
    early = share_of(alarms(boundary, 1_000, worse_bets(EXPECTED), RunEvidence, RUN_LENGTH), 1_000)
    result["run_length"] = {"promised": RUN_LENGTH, "alarmed_within_a_tenth": early}
    back = RunEvidence(better_bets(TOLERANCE).weights)
    for name, rate in (("back_to_healthy", HEALTHY), ("still_at_the_tolerance", TOLERANCE)):
        world = World(seed + 70, rate, rate, 0, max(100, runs // 2))
        first = first_alarm(world, back, better_bets(TOLERANCE), RECOVERY_RUN_LENGTH, 4_000)
        result.setdefault("recovery", {})[name] = {"mean_labels": round(float(np.minimum(first, 4_000).mean()), 1)}
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print, keep."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alarms", description="what the alarms promise and reach"
    )
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=20_261_121)
    parser.add_argument("--quick", action="store_true", help="200 streams: does it run?")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    runs = 200 if options.quick else options.runs
    settings = {
        "runs": runs,
        "seed": options.seed,
        "tolerance": TOLERANCE,
        "alpha": ALPHA,
        "healthy": HEALTHY,
        "expected": EXPECTED,
    }
    result = {"machine": machine_facts(ROOT), "settings": settings, **simulate(runs, options.seed)}
    text = json.dumps(result, indent=1)
    print(text)
    store_result(result, "alarms", asked=options.output, quick=options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
