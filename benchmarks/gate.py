"""Does the gate keep its promise? `python -m benchmarks.gate [--quick]`; simulated, seeded, about a minute.

Thousands of gates over candidates whose true effect is known: how often one that is equal or worse is promoted, how
often one that is two points better is, with a tenth more labels than the limit (z_alpha + z_power)^2 d / effect^2, and
what a gate that compares two point estimates would have done. Last, how long a gate on 50,000 inputs takes by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.machine import machine_facts
from monitoring.gate.contracts import EvaluatedSet, GatePolicy, Outcome, SetKind
from monitoring.gate.decide import decide

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/gate.json"
POLICY = GatePolicy()
SLICES = 5
SHARE = 1.1  # of the limit: labels that a gate has here
CANDIDATES = ((0.05, 0.0), (0.05, -0.005), (0.05, -0.02), (0.05, 0.02), (0.1, 0.0), (0.1, 0.02))  # changed, effect


def candidate(rng: np.random.Generator, n: int, changed: float, effect: float) -> EvaluatedSet:
    """An audited window of `n` inputs, five random slices, of a candidate that is better by `effect`."""
    draw = rng.random(n)
    gains = draw < (changed + effect) / 2
    losses = draw > 1 - (changed - effect) / 2
    where = rng.integers(0, SLICES, n)
    return EvaluatedSet(
        name="audited",
        kind=SetKind.AUDITED,
        ids=tuple(map(str, range(n))),
        champion=np.where(gains, 0.0, 1.0),
        candidate=np.where(losses, 0.0, 1.0),
        slices={f"s{k}": where == k for k in range(SLICES)},
    )


def promoted(runs: int, seed: int, n: int, changed: float, effect: float) -> dict[str, Any]:
    """How `runs` gates come out."""
    rng = np.random.default_rng(seed)
    passed = points = 0
    for _ in range(runs):
        x = candidate(rng, n, changed, effect)
        passed += decide([x], [], POLICY).outcome is Outcome.PASSED
        points += bool(x.candidate.mean() > x.champion.mean())
    return {
        "effect": effect,
        "changed": changed,
        "labels": n,
        "runs": runs,
        "promoted": round(passed / runs, 4),
        "promoted_by_point_estimates": round(points / runs, 4),
    }


def limit(changed: float) -> int:
    """Labels that any test at these error rates needs, for large numbers."""
    z = float(stats.norm.isf(POLICY.alpha) + stats.norm.isf(1 - POLICY.power))
    return round(z * z * changed / POLICY.effect**2)


def timed(seed: int) -> float:
    """Seconds of a gate on 50,000 inputs and 20 slices."""
    rng = np.random.default_rng(seed)
    n = 50_000
    base = candidate(rng, n, 0.05, 0.02)
    masks = {f"s{k}": rng.random(n) < 0.05 for k in range(20)}
    x = EvaluatedSet(
        name="audited", kind=base.kind, ids=base.ids, champion=base.champion, candidate=base.candidate, slices=masks
    )
    begun = time.perf_counter()
    decide([x], [], POLICY)
    return time.perf_counter() - begun


def simulate(runs: int, seed: int) -> dict[str, Any]:
    """All of it."""
    rows = [
        promoted(runs, seed + k, round(SHARE * limit(changed)), changed, effect)
        for k, (changed, effect) in enumerate(CANDIDATES)
    ]
    return {"rows": rows, "seconds_for_50000": round(timed(seed), 3)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description="what the gate promises and reaches")
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=20_261_121)
    parser.add_argument("--quick", action="store_true", help="100 gates a row: does it run?")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    runs = 100 if options.quick else options.runs
    settings = {"runs": runs, "seed": options.seed, "alpha": POLICY.alpha, "power": POLICY.power, "of_limit": SHARE}
    result = {"machine": machine_facts(ROOT), "settings": settings, **simulate(runs, options.seed)}
    text = json.dumps(result, indent=1)
    print(text)
    options.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
