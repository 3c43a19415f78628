"""Which thresholds of drift signals are better calibrated: closed forms, or resamples of the reference.

`python -m benchmarks.thresholds [--trials 400] [--quick] [--json FILE]`, below 2 minutes, `--quick` below 30 s. Every
trial draws a fresh reference and a fresh healthy window of one source, bins both as the monitor does and asks each kind
of threshold at a chance of 1 %. "Resamples" draws pairs of samples of both sizes from the reference's counts, as a
threshold compiled at export would. Sources: normal, exponential, eight values, nine tenths zeros, Student's t with two
degrees of freedom.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.machine import machine_facts
from benchmarks.stored import store_result
from monitoring.baseline import BINS, bin_column
from monitoring.distance_tables import group_table, ks_table, psi_table, wasserstein_table
from monitoring.distances import ks_chance, psi_chance, wasserstein_chance

ROOT = Path(__file__).resolve().parents[1]
ALPHA = 0.01
RESAMPLES = 400
SIZES = ((300, 100), (300, 1000), (2000, 1000))  # (reference, window)
Array = np.ndarray[Any, Any]


def draw(source: str, rng: np.random.Generator, n: int) -> Array:
    """Rows of a source."""
    x = {
        "normal": lambda: rng.normal(size=n),
        "exponential": lambda: rng.exponential(size=n),
        "eight values": lambda: rng.integers(0, 8, n).astype(float),
        "mostly zeros": lambda: np.where(rng.random(n) < 0.9, 0.0, rng.exponential(size=n)),
        "heavy tails": lambda: rng.standard_t(2, size=n),
    }[source]()
    return x.astype(np.float32)


def edges_of(reference: Array) -> Array:
    """As `monitoring.baseline` makes them."""
    edges = np.empty(BINS - 1, dtype=np.float32)
    edges[:-1] = np.maximum.accumulate(np.quantile(reference, np.linspace(0, 1, BINS - 2)).astype(np.float32))
    edges[-1] = np.nextafter(edges[-2], np.float32(np.inf))
    return edges


def counted(edges: Array, x: Array) -> Array:
    return np.bincount(bin_column(edges, x), minlength=BINS)[None].astype(np.int64)


def distances(live: Array, past: Array, edges: Array, scale: float, excess: Array) -> dict[str, Array]:
    """PSI, KS and Wasserstein of many pairs in the bins of one reference."""
    n = len(live)
    groups, bins = group_table(past[:1])
    groups, bins = np.repeat(groups, n, axis=0), np.repeat(bins, n)
    e, s = np.repeat(edges[None], n, axis=0), np.full(n, scale)
    return {
        "psi": psi_table(live, past, groups, bins),
        "ks": ks_table(live, past),
        "wasserstein": wasserstein_table(live, past, e, s, excess),
    }


def trial(source: str, known: int, rows: int, seed: int) -> dict[str, tuple[bool, bool]]:
    """Whether a healthy window exceeds the closed form, and whether it exceeds the resampled threshold."""
    rng = np.random.default_rng(seed)
    reference, live = draw(source, rng, known), draw(source, rng, rows)
    edges, scale = edges_of(reference), max(float(reference.std()), 1e-6)
    past, now = counted(edges, reference), counted(edges, live)
    out = np.clip(edges[0] - live, 0, None).mean() + np.clip(live - edges[-2], 0, None).mean()
    found = distances(now, past, edges, scale, np.array([out / scale]))
    bins = int(group_table(past)[1][0])
    closed = {
        "psi": psi_chance(bins, rows, known, ALPHA),
        "ks": ks_chance(rows, known, ALPHA),
        "wasserstein": wasserstein_chance(past[0], edges, scale, rows, ALPHA),
    }
    shares = past[0] / past[0].sum()
    a, b = rng.multinomial(rows, shares, RESAMPLES), rng.multinomial(known, shares, RESAMPLES)
    null = distances(a, b, edges, scale, np.zeros(RESAMPLES))
    return {
        name: (float(value[0]) > closed[name], float(value[0]) > float(np.quantile(null[name], 1 - ALPHA)))
        for name, value in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="a quarter of the trials")
    parser.add_argument("--json", type=Path, help="where the result is written; --quick alone writes none")
    args = parser.parse_args()
    trials = args.trials // 4 if args.quick else args.trials
    rows = []
    for known, n in SIZES:
        for source in ("normal", "exponential", "eight values", "mostly zeros", "heavy tails"):
            results = [trial(source, known, n, seed) for seed in range(trials)]
            for name in ("psi", "ks", "wasserstein"):
                closed, resampled = (sum(r[name][i] for r in results) / trials for i in (0, 1))
                rows.append({"source": source, "reference": known, "window": n, "method": name,
                             "closed_form": round(closed, 4), "resamples": round(resampled, 4)})  # fmt: skip
        print(f"reference {known}, window {n}: done", flush=True)
    result = {
        "benchmark": "thresholds",
        "machine": machine_facts(ROOT, ("numpy", "scipy")),
        "promise": ALPHA,
        "trials": trials,
        "rows": rows,
        "mean": {
            name: {
                kind: round(float(np.mean([r[kind] for r in rows if r["method"] == name])), 4)
                for kind in ("closed_form", "resamples")
            }
            for name in ("psi", "ks", "wasserstein")
        },
        "worst": {
            name: {kind: max(r[kind] for r in rows if r["method"] == name) for kind in ("closed_form", "resamples")}
            for name in ("psi", "ks", "wasserstein")
        },
    }
    store_result(result, "thresholds", asked=args.json, quick=args.quick)
    print(json.dumps({k: result[k] for k in ("trials", "mean", "worst")}, indent=2))


if __name__ == "__main__":
    main()
