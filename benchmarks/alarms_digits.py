"""Who pages for a change that costs nothing? `python -m benchmarks.alarms_digits [--quick]`; seeded, some two minutes.

Real digits, a real classifier with its compiled reference, real P(wrong). The digits become darker: the signals move,
the accuracy does not. Streams of audited labels go through the monitor's own watch; beside it a z-test that peeks every
200 labels, and Evidently's drift preset with its defaults over windows of 200 inputs. Then the digits are turned, and
the labels until the page are counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT
from benchmarks.stored import store_result
from monitoring.alarms.bets import BINS, proxy_bins
from monitoring.alarms.limits import limits_of
from monitoring.alarms.watch import AlarmState, Label, Promise, Watch, Watcher
from monitoring.batches import Batch
from monitoring.options import AlarmOptions, CaseOptions
from monitoring.records.record import Outcome
from monitoring.scores import score_batch
from tests.support import monitor_world as world

LABELS, EVERY = 1_500, 200
CHANGES: dict[str, Callable[[Any], Any]] = {
    "none": lambda images: images,
    "darker (x 0.8)": lambda images: images * np.float32(0.8),
    "brighter (x 1.2, clipped)": lambda images: np.clip(images * np.float32(1.2), 0, 1),
}
TURNS = (15.0, 20.0, 30.0)
Array = npt.NDArray[Any]


def judged(images: Array) -> tuple[Array, Array]:
    """Whether each image is answered wrong, and its P(wrong) as the monitor scores it."""
    digits, n = world.digits(), len(images)
    answer, numbers = digits.answer(images), np.zeros(n, dtype=np.int64)
    batch = Batch(
        model="digits",
        version="1",
        digest="",
        variant="champion",
        outcome=Outcome.OK,
        pieces=[],
        ids=[str(i) for i in range(n)],
        time_ns=numbers,
        rows=numbers + 1,
        queue_us=numbers,
        compute_us=numbers,
        total_us=numbers,
        probability=np.ones(n),
        row_record=np.arange(n),
        inputs={"x": images},
        outputs=answer,
    )
    scored = score_batch(world.baseline(), batch, CaseOptions())
    wrong = answer["logits"].argmax(axis=1) != digits.labels
    return wrong.astype(float), scored.p_wrong.astype(float)


def streams(images: Array, runs: int, labels: int, seed: int, stop: bool = False) -> dict[str, Any]:
    """Audited labels drawn from the images, through the monitor's watch and through a z-test that peeks."""
    wrong, proxy = judged(images)
    bins = proxy_bins(proxy)
    population = tuple(np.bincount(bins, minlength=BINS).tolist())
    options = AlarmOptions()
    limits = limits_of("digits", world.baseline(), options)
    assert limits is not None
    watcher, random = Watcher(options), np.random.default_rng(seed)
    first = {promise: np.full(runs, np.inf) for promise in Promise}
    peeked = {"the tolerance": 0, "the reference's error rate": 0}
    assert world.digits().profile.classes is not None
    bases = dict(zip(peeked, (limits.tolerance, 1 - world.digits().profile.classes.accuracy), strict=True))
    for run in range(runs):
        chosen = random.integers(0, len(wrong), labels)
        watch = watcher.begin(Watch(model="digits"), "1", limits)
        for position, i in enumerate(chosen.tolist()):
            label = Label(wrong=float(wrong[i]), proxy_bin=int(bins[i]), population=population)
            watch, changes = watcher.step(watch, label)
            for change in changes:
                if change.state is AlarmState.FIRING:
                    first[change.promise][run] = min(first[change.promise][run], position + 1)
            if stop and all(np.isfinite(first[p][run]) for p in Promise):
                break
        rates = wrong[chosen][: labels // EVERY * EVERY].reshape(-1, EVERY).mean(axis=1)
        for name, base in bases.items():
            z = (rates - base) / math.sqrt(base * (1 - base) / EVERY)
            peeked[name] += bool((z > 2.326).any())
    return {
        "error_rate": round(float(wrong.mean()), 4),
        "correlation_of_the_proxy": round(float(np.corrcoef(wrong, proxy)[0, 1]), 3),
        "tolerance": round(limits.tolerance, 4),
        "pages": {p.value: float(np.isfinite(first[p]).mean()) for p in Promise},
        "median_labels": {p.value: _median(first[p]) for p in Promise},
        "z_test_pages": {f"against {name}": n / runs for name, n in peeked.items()},
    }


def _median(values: Array) -> float | None:
    middle = float(np.median(values))
    return middle if math.isfinite(middle) else None


def evidently_pages(images: Array, windows: int, seed: int) -> dict[str, Any]:
    """Windows in which Evidently's preset, with its defaults, says that the data set drifted."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Evidently's telemetry
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    warnings.simplefilter("ignore")  # pixels that are always black
    digits, random = world.digits(), np.random.default_rng(seed)
    names = [f"p{i}" for i in range(64)]
    reference = pd.DataFrame(digits.images[random.permutation(len(digits.images))[:300]].reshape(-1, 64), columns=names)
    columns, drifted = 0, 0
    for _ in range(windows):
        chosen = random.integers(0, len(images), EVERY)
        current = pd.DataFrame(images[chosen].reshape(-1, 64), columns=names)
        snapshot = Report([DataDriftPreset()]).run(current, reference)
        count = next(
            m for m in json.loads(snapshot.json())["metrics"] if "DriftedColumnsCount" in str(m["metric_name"])
        )
        columns += int(count["value"]["count"])
        drifted += count["value"]["share"] >= 0.5
    return {"windows": windows, "data_set_drifted": drifted / windows, "columns_drifted": columns / windows / 64}


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alarms_digits", description="who pages for nothing?")
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=20_261_121)
    parser.add_argument("--quick", action="store_true", help="10 streams: does it run?")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    runs = 10 if options.quick else options.runs
    digits = world.digits()
    harmless = {}
    for name, change in CHANGES.items():
        images = np.asarray(change(digits.images), dtype=np.float32)
        harmless[name] = streams(images, runs, LABELS, options.seed)
        harmless[name]["evidently_preset"] = evidently_pages(images, 3 if options.quick else 20, options.seed)
        print(name, json.dumps(harmless[name]), flush=True)
    harmful = {
        f"turned by {turn:g} degrees": streams(world.turned(digits.images, turn), runs, LABELS, options.seed, stop=True)
        for turn in TURNS
    }
    settings = {"runs": runs, "labels": LABELS, "seed": options.seed, "window": EVERY}
    result = {"machine": machine_facts(ROOT), "settings": settings, "harmless": harmless, "harmful": harmful}
    text = json.dumps(result, indent=1)
    print(text)
    store_result(result, "alarms_digits", asked=options.output, quick=options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
