"""Does the regret rule train seldom, and when it matters? `python -m benchmarks.triggers [--quick]`; seeded, minutes.

Streams that change: river's SEA, Agrawal, Sine and STAGGER concepts (jumps), its hyperplane (a steady turn), and
scikit-learn's digits turned from time to time. A fifth of the requests gets its label. A model is trained on a schedule
or when the policy says so; the policy sees nothing but labelled answers. It knows since when the traffic is what it is,
so it trains on all labels since then; a schedule does not, and trains on the newest ones, with a short memory and with
one as long. How many trainings does a schedule, the better memory for it, need for the same mean accuracy?
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine_facts
from monitoring.triggers.contracts import (
    AnyOf,
    Decision,
    Evidence,
    GrowthCondition,
    Regret,
    RegretCondition,
    TriggerPolicy,
)
from monitoring.triggers.decide import decide

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/triggers.json"

LABELLED = 0.2  # share of the requests whose truth becomes known
NEWEST = 300  # labels that a training on a schedule uses, and the first of all
MOST = 1_000  # ... that one of the policy uses, since the change; and the longer memory of a schedule
ENOUGH = 50  # labels of the new kind without which a training waits
LOOK = 50  # requests between two looks
FRESH = 60  # labels after a training by which the attainable error is judged
SPANS = (40, 80, 160, 320)  # labels over which the present error is looked at
DOUBT = 2.6  # standard errors that the excess must exceed: one-sided 0.5 %, four spans
COST = 250.0  # errors that a training is worth
RULE = AnyOf(conditions=(RegretCondition(cost=COST), GrowthCondition()))
SCHEDULES = (100, 200, 400, 600, 800, 1_200, 1_600, 2_400, 3_200, 4_800, 6_400, 9_600, 20_000)
LONG_SCHEDULES = (400, 800, 1_600, 3_200)  # with the longer memory

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """Requests with their truth: x [n, d], y [n]; and a model to train."""

    name: str
    x: Floats
    y: Ints
    model: Callable[[], Any]


def river_stream(name: str, parts: Sequence[Any], each: int, model: Callable[[], Any]) -> Stream:
    """`each` items of every generator, one after the other."""
    rows, truth = [], []
    for part in parts:
        for x, y in itertools.islice(part, each):
            rows.append([float(v) for v in x.values()])
            truth.append(int(y))
    return Stream(name, np.asarray(rows), np.asarray(truth), model)


def streams(n: int, seed: int) -> list[Stream]:
    """Six of them, of about `n` requests."""
    from river.datasets import synth
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    def linear() -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))

    def tree() -> Any:
        return DecisionTreeClassifier(max_depth=5, random_state=0)

    rng = np.random.default_rng(seed)
    sea = [synth.SEA(variant=v, seed=seed + k, noise=0.05) for k, v in enumerate((0, 3, 1, 2, 0))]
    agrawal = [synth.Agrawal(classification_function=f, seed=seed + f) for f in (0, 2, 4, 6)]
    sine = [synth.Sine(classification_function=f, seed=seed + f) for f in (0, 1, 2, 3)]
    stagger = [synth.STAGGER(classification_function=f, seed=seed + f) for f in (0, 1, 2, 0)]
    turning = synth.Hyperplane(seed=seed, n_features=6, n_drift_features=3, mag_change=0.0004, noise_percentage=0.03)
    return [
        river_stream("SEA, four jumps", sea, n // 5, linear),
        river_stream("Agrawal, three jumps", agrawal, n // 4, tree),
        river_stream("Sine, three jumps", sine, n // 4, tree),
        river_stream("STAGGER, three jumps", stagger, n // 4, tree),
        river_stream("hyperplane, a steady turn", [turning], n, linear),
        digits(n, rng, GaussianNB),
    ]


def digits(n: int, rng: np.random.Generator, model: Callable[[], Any]) -> Stream:
    """Real digits: upright, turned by 90 degrees, upright again, mirrored, and so on in six parts."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images, parts = data.images / 16.0, []
    views = (0, 1, 0, 3, 2, 0)
    chosen = rng.integers(0, len(images), n)
    for k, rows in enumerate(np.array_split(chosen, len(views))):
        turned = np.rot90(images[rows], views[k], axes=(1, 2))
        parts.append(turned.reshape(len(rows), -1) + rng.normal(0, 0.05, (len(rows), 64)))
    return Stream("digits, five turns", np.concatenate(parts), data.target[chosen].astype(np.int64), model)


class Run:
    """One pass over a stream: answers, labels, trainings."""

    def __init__(self, stream: Stream, seed: int) -> None:
        self.stream = stream
        self.labelled = np.random.default_rng(seed).random(len(stream.y)) < LABELLED
        self.wrong = np.zeros(len(stream.y), bool)
        self.at = int(np.searchsorted(np.cumsum(self.labelled), NEWEST)) + 1
        self.begun = self.at
        self.trainings: list[int] = []
        self.train()
        self.trainings.clear()

    def train(self, since: int = 0, most: int = NEWEST) -> None:
        """Train on the newest labels that are known by now, at most so many, of requests from `since` on."""
        known = since + np.flatnonzero(self.labelled[since : self.at])[-most:]
        self.model = self.stream.model().fit(self.stream.x[known], self.stream.y[known])
        self.trainings.append(self.at)

    def answer(self, count: int) -> None:
        """Answer the next requests."""
        part = slice(self.at, self.at + count)
        self.wrong[part] = self.model.predict(self.stream.x[part]) != self.stream.y[part]
        self.at = min(self.at + count, len(self.stream.y))

    @property
    def over(self) -> bool:
        """Whether everything is answered."""
        return self.at >= len(self.stream.y)

    @property
    def accuracy(self) -> float:
        """Share of right answers since the first training."""
        return 1.0 - float(self.wrong[self.begun :].mean())

    def labels_since(self, start: int) -> npt.NDArray[np.bool_]:
        """Of the labelled answers since `start`, which were wrong."""
        return self.wrong[start : self.at][self.labelled[start : self.at]]


def on_schedule(stream: Stream, seed: int, every: int, memory: int = NEWEST) -> Run:
    """Train every so many requests, on so many labels."""
    run = Run(stream, seed)
    while not run.over:
        run.answer(every)
        if not run.over:
            run.train(most=memory)
    return run


def by_regret(stream: Stream, seed: int) -> Run:
    """Train when the policy says so."""
    run, policy = Run(stream, seed), TriggerPolicy(condition=RULE, cool_down_s=0, budget=10**6)
    started, best, changed, trained = run.at, 1.0, 0, 0
    while not run.over:
        run.answer(LOOK)
        wrong = run.labels_since(started)
        if len(wrong) < FRESH:
            continue
        # What a training reaches: the best start of any training so far would be too bold, the last one's too slow
        # to see that it began in the middle of a change; so the better of the last one's and half way to the best.
        fresh = float(wrong[:FRESH].mean())
        best = min(best, fresh)
        attainable = (fresh + best) / 2 if len(run.trainings) else fresh
        evidence = Evidence(
            now_s=float(run.at),
            labels=len(wrong),
            present=int(np.count_nonzero(run.labelled[changed : run.at])),
            trained_present=trained,
            starts_s=tuple(map(float, run.trainings[-1:])),
            regret=Regret(
                answered=float(run.at - started),
                excess=max(0.0, float(np.sum(wrong[FRESH:] - attainable)) / LABELLED),
                rate=rate_of(wrong[FRESH:], attainable),
            ),
        )
        verdict = decide(policy, evidence)
        if verdict.decision is Decision.RETRAIN:
            if any(reason.name == "regret" and reason.holds for reason in verdict.reasons):
                changed = changed_at(run, started)
            present = int(np.count_nonzero(run.labelled[changed : run.at]))
            if present >= ENOUGH:
                run.train(changed, MOST)
                started, trained = run.at, present
    return run


def changed_at(run: Run, started: int) -> int:
    """The request from which on errors were most clearly more: the split with the largest likelihood ratio."""
    where = started + np.flatnonzero(run.labelled[started : run.at])
    wrong = run.wrong[where]
    errors, n = np.cumsum(wrong), len(wrong)
    before = np.arange(1, n)
    left, right = errors[:-1] / before, (errors[-1] - errors[:-1]) / (n - before)

    def loss(rate: Floats, count: npt.NDArray[Any]) -> Floats:
        safe = np.clip(rate, 1e-6, 1 - 1e-6)
        return np.asarray(-count * (rate * np.log(safe) + (1 - rate) * np.log(1 - safe)))

    both = np.where(right > left, loss(left, before) + loss(right, n - before), np.inf)
    return int(where[int(np.argmin(both)) + 1]) if np.isfinite(both).any() else started


def rate_of(wrong: npt.NDArray[np.bool_], attainable: float) -> float:
    """Errors a request beyond what is attainable, where that is certain: the largest over several spans."""
    found = 0.0
    for span in SPANS:
        if len(wrong) < span:
            break
        now = float(wrong[-span:].mean())
        error = math.sqrt(max(attainable * (1 - attainable), 0.02) / span)
        if now - attainable > DOUBT * error:
            found = max(found, now - attainable)
    return found


def compare(stream: Stream, seeds: Sequence[int]) -> dict[str, Any]:
    """Our rule beside every schedule on one stream."""
    ours = [by_regret(stream, seed) for seed in seeds]
    accuracy = float(np.mean([run.accuracy for run in ours]))
    trainings = float(np.mean([len(run.trainings) for run in ours]))
    schedules = []
    for every, memory in [*((e, NEWEST) for e in SCHEDULES), *((e, MOST) for e in LONG_SCHEDULES)]:
        runs = [on_schedule(stream, seed, every, memory) for seed in seeds]
        mean = float(np.mean([run.accuracy for run in runs]))
        count = len(runs[0].trainings)
        schedules.append({"every": every, "memory": memory, "trainings": count, "accuracy": round(mean, 4)})
    enough = [s["trainings"] for s in schedules if s["accuracy"] >= accuracy - 0.0005]
    return {
        "stream": stream.name,
        "requests": len(stream.y),
        "accuracy": round(accuracy, 4),
        "trainings": round(trainings, 1),
        "never": round(float(np.mean([on_schedule(stream, s, 10**9).accuracy for s in seeds])), 4),
        "schedule_for_the_same": min(enough) if enough else None,
        "best_schedule": max(schedules, key=lambda s: (s["accuracy"], -s["trainings"])),
        "schedules": schedules,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triggers", description="how seldom a policy trains")
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=20, help="nothing was chosen on seeds from here on")
    parser.add_argument("--quick", action="store_true", help="10,000 requests, one seed: does it run?")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    requests, seeds = (10_000, 1) if options.quick else (options.requests, options.seeds)
    settings: dict[str, Any] = {
        "requests": requests,
        "seeds": seeds,
        "labelled": LABELLED,
        "cost": COST,
        "newest": NEWEST,
        "most": MOST,
    }
    first = options.first_seed
    settings["first_seed"] = first
    rows = []
    for stream in streams(requests, first):
        rows.append(compare(stream, range(first, first + seeds)))
        print(json.dumps({k: v for k, v in rows[-1].items() if k != "schedules"}), flush=True)
    result = {"machine": machine_facts(ROOT), "settings": settings, "rows": rows}
    text = json.dumps(result, indent=1)
    print(text)
    options.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
