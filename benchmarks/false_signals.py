"""How often drift signals are exceeded when nothing has changed: simulated healthy windows of real digits.

`python -m benchmarks.false_signals [--trials 250] [--quick] [--json FILE]`; two minutes. Every trial splits 1,097
held-out digits anew into a reference of 300, compiled as at export, and live traffic, from which one window of each
size is drawn without replacement. So reference and window are samples of one source and share no image, which is what
the thresholds promise to allow for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.machine import machine_facts
from benchmarks.stored import store_result
from export.reference import compile_reference
from monitoring.baseline import compile_baseline
from monitoring.drift import signals
from monitoring.options import DriftOptions
from tests.monitoring.test_drift import window
from tests.support import monitor_world as world

ROOT = Path(__file__).resolve().parents[1]
SIZES = (100, 300, 750)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=250)
    parser.add_argument("--quick", action="store_true", help="10 trials: does it run?")
    parser.add_argument("--json", type=Path, help="where the result is written; --quick alone writes none")
    args = parser.parse_args()
    args.trials = 10 if args.quick else args.trials
    data, model, manifest = load_digits(), world.digits(), world.manifest()
    order = np.random.default_rng(7).permutation(len(data.images))[700:]
    images, labels = (data.images[order] / 16.0).astype(np.float32)[:, None], data.target[order]
    options = DriftOptions()
    windows = dict.fromkeys(SIZES, 0)
    exceeded: dict[int, Counter[str]] = {n: Counter() for n in SIZES}
    checked: dict[int, Counter[str]] = {n: Counter() for n in SIZES}
    started = time.monotonic()
    for trial in range(args.trials):
        mixed = np.random.default_rng(trial).permutation(len(images))
        held, live = mixed[:300], mixed[300:]
        answer = model.answer(images[held])
        m = manifest
        profile = compile_reference(m.signature, m.task, {"x": images[held]}, answer, labels[held], seed=trial)
        baseline = compile_baseline(m, profile)
        for n in SIZES:
            found = signals(baseline, window(images[live[:n]], baseline), options)
            windows[n] += any(s.exceeded for s in found)
            for s in found:
                checked[n][s.method.value] += 1
                exceeded[n][s.method.value] += s.exceeded
        if trial % 25 == 24:
            print(f"{trial + 1} trials, {time.monotonic() - started:.0f} s", flush=True)
    result = {
        "benchmark": "false_signals",
        "machine": machine_facts(ROOT, ("numpy",)),
        "promise": options.false_signal_rate,
        "trials": args.trials,
        "reference_rows": 300,
        "sizes": {
            str(n): {
                "windows_with_a_signal": round(windows[n] / args.trials, 4),
                "signals": {k: f"{exceeded[n][k]}/{checked[n][k]}" for k in sorted(checked[n])},
                "rate": round(exceeded[n].total() / checked[n].total(), 5),
            }
            for n in SIZES
        },
    }
    print(json.dumps(result, indent=2))
    store_result(result, "false_signals", asked=args.json, quick=args.quick)


if __name__ == "__main__":
    main()
