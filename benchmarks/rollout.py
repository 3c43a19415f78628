"""What roll-outs promise and reach: `python -m benchmarks.rollout [--quick]`; seeded, about three minutes.

Whole roll-outs by the default policy at 200 requests a second, a look every second (every five in the bake time),
simulated through the functions that the monitor calls: how often candidates that are as good as the champion are taken
back, how often bad ones pass, how long it takes from a bad version's first second to its withdrawal, and how many of
all requests it had answered by then.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT
from monitoring.rollout import betting
from monitoring.rollout.policy import Metric, RolloutPolicy, StepKind
from monitoring.rollout.readings import tests_of
from monitoring.rollout.standing import APART, PAIRED

RESULTS = ROOT / "benchmarks" / "results" / "rollout.json"
RATE = 200  # requests a second
EXPECTED = 0.05  # disagreement that the gate saw
POLICY = RolloutPolicy(disagreement=EXPECTED)
BAKE_LOOK_S = 5
LIMIT_S = 3600  # of a step, in the simulation
Array = npt.NDArray[Any]
Rates = dict[Metric, float]

USUAL: Rates = {
    Metric.ERRORS: 0.002,
    Metric.INVALID: 0.0,
    Metric.LATENCY: 0.01,
    Metric.FLAGGED: 0.02,
    Metric.DISAGREEMENT: EXPECTED,
}
MANY: Rates = USUAL | {Metric.ERRORS: 0.02, Metric.LATENCY: 0.1, Metric.FLAGGED: 0.2}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A champion and a candidate.

    Attributes:
        champion: Its rates.
        candidate: What differs, from the phase `since` on.
        since: Before it the candidate is as the champion.
        moves: Second of the roll-out → what is added to the rates of both: traffic that changes.
    """

    name: str
    champion: Rates = field(default_factory=lambda: dict(USUAL))
    candidate: Rates = field(default_factory=dict)
    since: StepKind = StepKind.SHADOW
    moves: Callable[[float], Rates] = lambda second: {}


def shifted(second: float) -> Rates:
    """After 100 s half of all requests look odd to both versions, and a tenth fail in both."""
    return {Metric.FLAGGED: 0.5, Metric.ERRORS: 0.1, Metric.LATENCY: 0.3} if second > 100 else {}


def run(scenario: Scenario, worlds: int, seed: int) -> dict[str, Any]:  # noqa: PLR0912  # one roll-out, top to bottom
    """Many roll-outs of one scenario side by side."""
    rng = np.random.default_rng(seed)
    enough, proof = math.log(tests_of(POLICY) / POLICY.alpha), math.log(1 / POLICY.beta)
    alive, back_at = np.ones(worlds, bool), np.full(worlds, np.nan)
    stuck = np.zeros(worlds, bool)
    answered, exposed = np.zeros(worlds), np.zeros(worlds)
    clock, bad_since = np.zeros(worlds), np.full(worlds, np.nan)
    pairs = {metric: np.zeros((worlds, 3)) for metric in PAIRED}
    disagreed = np.zeros((worlds, 2))
    phase: StepKind | None = None
    counts: dict[Metric, Array] = {}
    worse: dict[Metric, Array] = {}
    safe: dict[Metric, Array] = {}
    order = list(StepKind)
    for step in POLICY.steps:
        if step.kind is not phase:
            phase = step.kind
            counts = {metric: np.zeros((worlds, 4)) for metric in APART}
            worse = {metric: np.zeros((worlds, len(betting.RATES))) for metric in APART}
            safe = {metric: np.zeros((worlds, len(betting.GOOD))) for metric in APART}
        bad = bool(scenario.candidate) and order.index(phase) >= order.index(scenario.since)
        bad_since = np.where(alive & np.isnan(bad_since) & bad, clock, bad_since)
        open_ = alive & ~stuck
        reached = int(open_.sum())
        requests, served = np.zeros(worlds), 0
        look_s = BAKE_LOOK_S if phase is StepKind.CHAMPION else 1
        while open_.any() and served < LIMIT_S:
            served += look_s
            clock[open_] += look_s
            both = scenario.moves(float(clock[open_].max()))
            his = {m: min(1.0, scenario.champion.get(m, 0.0) + both.get(m, 0.0)) for m in Metric}
            mine = his | {m: min(1.0, r + both.get(m, 0.0)) for m, r in scenario.candidate.items()} if bad else his
            n = rng.poisson(RATE * look_s, worlds)
            answered[open_] += n[open_]
            against = np.zeros(worlds, bool)
            if phase is StepKind.SHADOW:
                requests += n
                for metric in PAIRED:
                    ours, theirs = rng.binomial(n, mine[metric]), rng.binomial(n, his[metric])
                    # drawn apart from each other: the hardest case, real pairs go together
                    more = rng.binomial(ours, 1 - his[metric])
                    less = rng.binomial(theirs, 1 - mine[metric])
                    pairs[metric] += np.stack([more, np.maximum(n - more - less, 0), less], axis=1)
                    found = betting.paired_worse(*pairs[metric].T, POLICY.limit(metric).tolerance)
                    against |= found >= enough
                unlike = rng.binomial(n, mine[Metric.DISAGREEMENT])
                disagreed += np.stack([unlike, n - unlike], axis=1)
                most = EXPECTED + POLICY.limit(Metric.DISAGREEMENT).tolerance
                against |= betting.rate_above(*disagreed.T, most) >= enough
            else:
                share = step.percent / 100 if phase is StepKind.CANARY else 1 - step.percent / 100
                ours_n = rng.binomial(n, share)
                requests += ours_n
                if phase is StepKind.CANARY:
                    exposed[open_] += ours_n[open_]
                for metric in APART:
                    if metric is Metric.WRONG:
                        continue
                    k = rng.binomial(ours_n, mine[metric])
                    block = np.stack([k, ours_n, rng.binomial(n - ours_n, his[metric]), n - ours_n], axis=1)
                    old = counts[metric]
                    before = (old[:, 2] + 0.5) / (old[:, 3] + 1)
                    if old[:, 3].any():
                        limit = POLICY.limit(metric)
                        worse[metric] += betting.two_worse(block.astype(float), before, limit.tolerance)
                        if metric in step.prove:
                            safe[metric] += betting.two_safe(block.astype(float), before, limit.margin)
                    counts[metric] = old + block
                    against |= betting.log_mean_exp(worse[metric]) >= enough
            gone = open_ & against
            back_at[gone], alive[gone], open_[gone] = clock[gone], False, False
            done = (requests >= step.requests) & (served >= step.dwell_s)
            for metric in step.prove if done.any() else ():
                limit = POLICY.limit(metric)
                if phase is not StepKind.SHADOW:
                    done &= betting.log_mean_exp(safe[metric]) >= proof
                elif metric is Metric.DISAGREEMENT:
                    done &= betting.rate_below(*disagreed.T, EXPECTED + limit.margin) >= proof
                else:
                    done &= betting.paired_safe(*pairs[metric].T, limit.margin) >= proof
            open_ &= ~done
        stuck |= open_
    seen_s = (back_at - bad_since)[~np.isnan(back_at)]
    share = exposed / np.maximum(answered, 1)
    return {
        "scenario": scenario.name,
        "roll-outs": worlds,
        "rolled back": int((~alive).sum()),
        "reached the last step": reached,
        "promoted": int((alive & ~stuck).sum()),
        "never proved": int(stuck.sum()),
        "seconds from the first bad second": _spread(seen_s) if scenario.candidate else None,
        "exposed share": _spread(share) if scenario.since is not StepKind.CHAMPION else None,
        "seconds of a roll-out": _spread(clock[alive & ~stuck]),
    }


def _spread(values: Array) -> dict[str, float] | None:
    if not len(values):
        return None
    return {
        "median": round(float(np.median(values)), 4),
        "95 %": round(float(np.quantile(values, 0.95)), 4),
        "largest": round(float(np.max(values)), 4),
    }


def scenarios() -> dict[str, list[Scenario]]:
    """By what they show."""
    margin = {metric: POLICY.limit(metric).margin for metric in Metric}
    steps = {Metric.LATENCY: StepKind.CANARY}
    return {
        "equal": [
            Scenario(name="equal, few errors"),
            Scenario(name="equal, many errors", champion=dict(MANY)),
            Scenario(name="equal, while the traffic changes", moves=shifted),
        ],
        "worse by the margin": [
            Scenario(name=f"{m.value}: worse by the margin", candidate={m: USUAL[m] + margin[m]}, since=since)
            for m in USUAL
            for since in (steps.get(m, StepKind.SHADOW),)
        ],
        "bad": [
            Scenario(name="NaN on everything", candidate={Metric.INVALID: 1.0}),
            Scenario(name="errors 20 %", candidate={Metric.ERRORS: 0.2}),
            Scenario(name="other answers on 40 %", candidate={Metric.DISAGREEMENT: 0.4}),
            Scenario(name="flagged 30 %", candidate={Metric.FLAGGED: 0.3}),
            Scenario(name="every answer slow, as canary", candidate={Metric.LATENCY: 1.0}, since=StepKind.CANARY),
            Scenario(name="half slow, as canary", candidate={Metric.LATENCY: 0.5}, since=StepKind.CANARY),
            Scenario(name="errors 50 %, as canary", candidate={Metric.ERRORS: 0.5}, since=StepKind.CANARY),
            Scenario(name="errors 20 %, as canary", candidate={Metric.ERRORS: 0.2}, since=StepKind.CANARY),
            Scenario(name="errors 10 %, as champion", candidate={Metric.ERRORS: 0.1}, since=StepKind.CHAMPION),
            Scenario(name="every answer slow, as champion", candidate={Metric.LATENCY: 1.0}, since=StepKind.CHAMPION),
            Scenario(name="errors 50 %, as champion", candidate={Metric.ERRORS: 0.5}, since=StepKind.CHAMPION),
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50 roll-outs a scenario, nothing is written")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    many = {"equal": 1000, "worse by the margin": 1000, "bad": 200}
    results: dict[str, list[dict[str, Any]]] = {}
    for group, members in scenarios().items():
        results[group] = []
        for number, scenario in enumerate(members):
            results[group].append(run(scenario, 50 if asked.quick else many[group], 1000 + number))
            print(json.dumps(results[group][-1]), flush=True)
    equal, marginal = results["equal"], results["worse by the margin"]
    verdict = {
        "equal candidates rolled back": sum(r["rolled back"] for r in equal) / sum(r["roll-outs"] for r in equal),
        "worst of the equal": max(r["rolled back"] / r["roll-outs"] for r in equal),
        "equal candidates promoted": sum(r["promoted"] for r in equal) / sum(r["roll-outs"] for r in equal),
        "worst of those worse by the margin, past the proof": max(
            r["reached the last step"] / r["roll-outs"] for r in marginal
        ),
        "worst of those worse by the margin, promoted": max(r["promoted"] / r["roll-outs"] for r in marginal),
        "bad ones promoted": sum(r["promoted"] for r in results["bad"]),
        "slowest 95 % of seconds until a bad one is back": max(
            r["seconds from the first bad second"]["95 %"] for r in results["bad"]
        ),
        "largest exposed share": max(
            r["exposed share"]["largest"] for r in [*marginal, *results["bad"]] if r["exposed share"]
        ),
    }
    print(json.dumps(verdict, indent=1))
    if not asked.quick:
        asked.out.write_text(
            json.dumps(
                {"machine": machine_facts(ROOT, ("numpy",)), "policy": _promises(), "verdict": verdict, **results},
                indent=1,
            )
            + "\n"
        )
    good = verdict["worst of the equal"] <= POLICY.alpha and verdict["bad ones promoted"] == 0
    good = good and verdict["worst of those worse by the margin, past the proof"] <= POLICY.beta
    return 0 if asked.quick or good else 1


def _promises() -> dict[str, Any]:
    return {
        "false roll-backs at most": POLICY.alpha,
        "wrong promotions at most": POLICY.beta,
        "tests": tests_of(POLICY),
        "requests a second": RATE,
        "limits": {limit.metric.value: [limit.tolerance, limit.margin] for limit in POLICY.limits},
    }


if __name__ == "__main__":
    sys.exit(main())
