"""How long a drift refresh takes on a wide table, and in how much memory; Evidently beside it on the same table.

`python -m benchmarks.drift [--rows 10000] [--columns 1000] [--evidently-s 60] [--quick] [--json FILE]`. Below 3
minutes; `--quick` below 1. One core, one BLAS thread, each side in a process of its own, memory measured above what the
process held after its imports.

Ours: count the window's rows in the reference's bins, then every signal and the whole ranking of what moved. The
reference is compiled beforehand, as at export; what is worked out once for a version (thresholds) is told apart.
Evidently: `DataDriftPreset` with a method and threshold named for each column (Wasserstein, 0.1), `run` only. It is
stopped after `--evidently-s` and then told how far it got on fewer columns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
REFERENCE_ROWS = 2000
SHIFTED = 0.05  # share of the columns that really move, by half a standard deviation
FEWER = (200, 50, 20)  # columns on which Evidently is tried when the whole is too much


def table(rows: int, columns: int, shifted: bool) -> Any:
    """Normal, skewed, discrete and nearly constant columns in turn, (rows, columns) float32."""
    rng = np.random.default_rng(2 if shifted else 1)
    out = np.empty((rows, columns), dtype=np.float32)
    for i in range(columns):
        kind = i % 4
        x = rng.normal(size=rows) if kind == 0 else rng.exponential(size=rows)
        x = rng.integers(0, 8, rows) if kind == 2 else np.where(rng.random(rows) < 0.9, 0.0, x) if kind == 3 else x
        out[:, i] = x + (0.5 if shifted and i < SHIFTED * columns else 0.0)
    return out


def ours(rows: int, columns: int) -> dict[str, Any]:
    """One process: compile, then refresh three times."""
    from dataclasses import replace

    from monitoring.drift import signals
    from monitoring.moves import moves
    from monitoring.options import DriftOptions
    from monitoring.sides import Side
    from monitoring.windows import WindowStats, count_values

    names = tuple(f"x.c{i}" for i in range(columns))
    baseline = compiled(table(REFERENCE_ROWS, columns, shifted=False), names)
    options = DriftOptions()
    before = Side.of_reference(baseline)
    live = table(rows, columns, shifted=True)
    held_mib = peak_mib()  # everything that is there before a refresh: imports, reference, the rows themselves
    times: list[dict[str, float]] = []
    found: tuple[Any, ...] = ()
    for _ in range(3):
        t0, cpu = time.perf_counter(), time.process_time()
        stats = replace(WindowStats.empty(baseline), **count_values(baseline, live))
        t1 = time.perf_counter()
        made = signals(baseline, stats, options)
        t2 = time.perf_counter()
        found = moves(baseline, before, Side.of_windows(stats), options)
        t3 = time.perf_counter()
        times.append({"count_s": t1 - t0, "signals_s": t2 - t1, "ranking_s": t3 - t2, "total_s": t3 - t0,
                      "cpu_s": time.process_time() - cpu})  # fmt: skip
    best = min(times[1:], key=lambda x: x["total_s"])
    moved = {int(m.subject.removeprefix("x.c")) for m in found if m.moved}
    truly = set(range(int(SHIFTED * columns)))
    return {
        "first_s": round(times[0]["total_s"], 3),
        **{name: round(value, 3) for name, value in best.items()},
        "signals": len(made),
        "moved": len(moved),
        "truly_moved": len(truly),
        "found_of_those": len(moved & truly),
        "refresh_mib": round(peak_mib() - held_mib, 1),
    }


def compiled(reference: Any, names: tuple[str, ...]) -> Any:
    """The baseline of a tabular input, as `compile_reference` would make its columns."""
    from export.contracts.datatypes import Datatype
    from export.contracts.manifest import Task, TaskKind
    from export.contracts.reference import ReferenceProfile
    from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputSpec, Signature
    from monitoring.baseline import compile_baseline
    from tests.support import monitor_world as world

    display = InputDisplay(kind=InputKind.TABULAR)
    x = InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, len(names)), display=display)
    y = OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 1))
    from dataclasses import replace

    manifest = replace(world.manifest(), signature=Signature(inputs=(x,), outputs=(y,)), task=Task(kind=TaskKind.OTHER))
    profile = ReferenceProfile(
        rows=len(reference),
        columns=names,
        sketches=tuple(b"" for _ in names),
        column_quantiles=np.quantile(reference, np.linspace(0, 1, 101), axis=0).T.astype(np.float32),
        column_mean=reference.mean(axis=0, dtype=np.float64),
        column_std=reference.std(axis=0, dtype=np.float64),
        frame=reference,
        score_quantiles={},
    )
    return compile_baseline(manifest, profile)


def theirs(rows: int, columns: int) -> dict[str, Any]:
    """One process: Evidently on the same table."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = [f"x.c{i}" for i in range(columns)]
    definition = DataDefinition(numerical_columns=names)
    reference = pd.DataFrame(table(REFERENCE_ROWS, columns, shifted=False), columns=names)
    live = pd.DataFrame(table(rows, columns, shifted=True), columns=names)
    held_mib = peak_mib()
    preset = DataDriftPreset(columns=names, num_method="wasserstein", num_threshold=0.1)
    started = time.perf_counter()
    Report([preset]).run(
        Dataset.from_pandas(live, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    return {"total_s": round(time.perf_counter() - started, 2), "refresh_mib": round(peak_mib() - held_mib, 1)}


def peak_mib() -> float:
    """Highest resident size of this process until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(which: str, rows: int, columns: int, limit_s: float) -> dict[str, Any]:
    """One side in a process of its own; says when it was stopped."""
    asked = f"--child {which} --rows {rows} --columns {columns}"
    command = [sys.executable, "-m", "benchmarks.drift", *asked.split()]
    started = time.monotonic()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"rows": rows, "columns": columns, "stopped_after_s": round(time.monotonic() - started, 1)}
    if done.returncode != 0:
        raise RuntimeError(f"{which} failed: {done.stderr[-2000:]}")
    return {"rows": rows, "columns": columns, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=1_000)
    parser.add_argument("--evidently-s", type=float, default=60.0, help="when Evidently is stopped")
    parser.add_argument("--quick", action="store_true", help="a quarter of the columns, Evidently for 20 s")
    parser.add_argument("--json", type=Path, help="where the result is written; --quick alone writes none")
    parser.add_argument("--child", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps((ours if args.child == "ours" else theirs)(args.rows, args.columns)))
        return
    from benchmarks.machine import machine_facts
    from benchmarks.stored import store_result

    columns, limit_s = (args.columns // 4, 20.0) if args.quick else (args.columns, args.evidently_s)
    facts = machine_facts(ROOT, ("numpy", "scipy", "evidently", "pandas"))
    mine = child("ours", args.rows, columns, 120)
    print(f"ours: {mine}", flush=True)
    other = [child("theirs", args.rows, columns, limit_s)]
    print(f"Evidently: {other[0]}", flush=True)
    if "stopped_after_s" in other[0]:
        for fewer in FEWER:
            other.append(child("theirs", args.rows, fewer, limit_s / 2))
            print(f"Evidently: {other[-1]}", flush=True)
            if "total_s" in other[-1]:
                break
    result = {
        "benchmark": "drift",
        "machine": facts,
        "targets": {"total_s": 1.0, "refresh_mib": 256, "rows": 10_000, "columns": 1_000},
        "quick": args.quick,
        "reference_rows": REFERENCE_ROWS,
        "ours": mine,
        "evidently": other,
    }
    store_result(result, "drift", asked=args.json, quick=args.quick)
    print(json.dumps({"ours": mine, "evidently": other}, indent=2))


if __name__ == "__main__":
    main()
