"""Would the proxy P(wrong) let labels decide a roll-out sooner? `python -m benchmarks.rollout_labels [--quick]`.

In the shadow both versions answer the same requests. Where they agree, neither gains; where they disagree, a label says
which of them was wrong. Compared, at the same chance of a false roll-back:

- *pairs*: what a roll-out does: bets on the difference over all labelled pairs (`monitoring.rollout.betting`);
- *disagreements*: bets on who was wrong, over labelled disagreements only, given the share of disagreements;
- *with the proxy*: the same, helped by sigmoid(logit P_candidate(wrong) - logit P_champion(wrong)), whose distribution
  over all disagreements is known without labels (`monitoring.alarms.bets`, decision 0107).

Seeded; under a minute. Labels are those of requests drawn at random, whether or not the versions disagreed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT
from monitoring.alarms.bets import BINS, proxy_bins, worse_bets
from monitoring.rollout import betting
from monitoring.rollout.policy import Metric, RolloutPolicy
from monitoring.rollout.readings import tests_of

RESULTS = ROOT / "benchmarks" / "results" / "rollout_labels.json"
POLICY = RolloutPolicy(disagreement=0.05)
ENOUGH = math.log(tests_of(POLICY) / POLICY.alpha)
TOLERANCE = POLICY.limit(Metric.WRONG).tolerance
SEEN = 1000  # disagreements whose proxies are known when the first label comes
TOGETHER = 20  # streams that share one draw of such proxies
BOTH = 0.1  # of the disagreements, both are wrong
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class World:
    """What is simulated.

    Attributes:
        disagreement: Share of requests that the two answer otherwise.
        worse: By how much the candidate is wrong more often, as a share of all requests.
        strength: Of the proxy: distance of its log-odds' means, in standard deviations; 0 says nothing.
        biased: The proxy believes the candidate, whatever is true: what a candidate sure of its errors looks like.
    """

    disagreement: float
    worse: float
    strength: float = 0.0
    biased: bool = False

    def draw(self, size: tuple[int, ...], rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Who was wrong in disagreements (1 the candidate, 0 the champion, 1/2 both), and the proxy."""
        lost = (1 - BOTH + self.worse / self.disagreement) / 2
        pick = rng.random(size)
        who = np.where(pick < lost, 1.0, np.where(pick < 1 - BOTH, 0.0, 0.5))
        signal = rng.normal(size=size) + self.strength * (who - 0.5)
        return who, 1 / (1 + np.exp(-(self.strength * signal - (2.0 if self.biased else 0.0))))


def labels_needed(world: World, streams: int, most: int, seed: int) -> dict[str, Any]:
    """How many labels each way needs, over many streams."""
    rng = np.random.default_rng(seed)
    differ = rng.random((streams, most)) < world.disagreement
    who, proxy = world.draw((streams, most), rng)
    gained = np.where(differ, np.sign(who - 0.5), 0.0)
    counts = [np.cumsum(gained == g, axis=1) for g in (1.0, 0.0, -1.0)]
    pairs = betting.paired_worse(*counts, TOLERANCE)
    boundary = min(0.95, 0.5 + TOLERANCE / (2 * world.disagreement))
    bets = worse_bets(boundary)
    found = {"pairs": _first(pairs)}
    stake = np.log(bets.weights)
    for name, helped in (("disagreements", False), ("with the proxy", True)):
        grown = np.empty((streams, most))
        for first in range(0, streams, TOGETHER):
            some = slice(first, first + TOGETHER)
            population = np.bincount(proxy_bins(world.draw((SEEN,), rng)[1]), minlength=BINS)
            table = bets.table(population if helped else None)
            factors = table.factors(who[some], proxy_bins(proxy[some]) if helped else None)
            logs = np.where(differ[some][..., None], np.log(np.maximum(factors, 1e-300)), 0.0)
            grown[some] = np.logaddexp.reduce(np.cumsum(logs, axis=1) + stake, axis=2)
        found[name] = _first(grown)
    return {**asdict(world), **{name: _told(first) for name, first in found.items()}}


def _first(evidence: Floats) -> Floats:
    """The look at which the evidence was enough; infinite where it never was."""
    over = evidence >= ENOUGH
    return np.where(over.any(axis=1), over.argmax(axis=1) + 1.0, np.inf)


def _told(first: Floats) -> dict[str, Any]:
    def number(q: float) -> int | None:
        at = float(np.quantile(first, q, method="higher"))
        return int(at) if math.isfinite(at) else None

    return {"back": int(np.isfinite(first).sum()), "median": number(0.5), "95 %": number(0.95)}


def worlds() -> list[World]:
    """Bad ones with proxies of growing strength, and equal ones."""
    bad = [
        World(disagreement=d, worse=w, strength=s)
        for d, w in ((0.08, 0.03), (0.08, 0.06), (0.2, 0.1), (0.4, 0.3))
        for s in (0.0, 1.0, 2.0)
    ]
    lying = [World(disagreement=0.2, worse=0.1, strength=2.0, biased=True)]
    equal = [World(disagreement=d, worse=TOLERANCE, strength=s, biased=b) for d in (0.08, 0.4) for s, b in
             ((0.0, False), (2.0, False), (2.0, True))]  # fmt: skip
    return [*bad, *lying, *equal]


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 streams a world, nothing is written")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    streams = 40 if given.quick else 200
    rows = []
    for number, world in enumerate(worlds()):
        rows.append(labels_needed(world, streams, 2500, 7000 + number))
        print(json.dumps(rows[-1]), flush=True)
    if not given.quick:
        result = {"machine": machine_facts(ROOT, ("numpy",)), "streams": streams, "worlds": rows}
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    equal = [row for row in rows if row["worse"] == TOLERANCE]
    wrong = max(row[way]["back"] / streams for row in equal for way in ("pairs", "disagreements", "with the proxy"))
    return 0 if given.quick or wrong <= POLICY.alpha else 1


if __name__ == "__main__":
    sys.exit(main())
