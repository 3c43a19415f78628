"""How many records a second the monitor consumes on one core: read, decode, score, windows, flags, cases, commit.

`python -m benchmarks.ingest [--records 200000] [--quick] [--json FILE]`; about a minute. A real log is written by
`RecordLogWriter` (1x8x8 FP32 input, 10 logits, 64-d FP32 embedding, batches of 32, 5 % of the images turned), then
consumed by `run_cycle` into a fresh SQLite database by one process pinned to one core.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.machine import machine_facts
from benchmarks.stored import store_result
from monitoring.cycle import make_loop, run_cycle
from monitoring.store import Store
from tests.support import monitor_world as world

ROOT = Path(__file__).resolve().parents[1]


def write_log(root: Path, records: int, batch: int, rate: int) -> int:
    rng = np.random.default_rng(0)
    d = world.digits()
    pool = np.concatenate([d.images, world.turned(d.images)])
    replica = world.Replica(root, buffer_bytes=1 << 30)
    for start in range(0, records, batch):
        chosen = rng.integers(0, len(d.images), batch) + len(d.images) * (rng.random(batch) < 0.05)
        first = world.START_S * world.SECOND + start * world.SECOND // rate
        made = world.batch(pool[chosen], [f"r-{start + i}" for i in range(batch)], [first + i for i in range(batch)])
        replica.writer.slot("digits", "1").received(batch)
        replica.writer.offer(made)
        if start % (batch * 256) == 0:
            replica.writer.flush(30.0)
    replica.close()
    return sum(f.stat().st_size for f in root.rglob("*.seg"))


def measure(records: int, batch: int, rate: int, cycle_bytes: int, folder: Path, *, profile: bool) -> dict[str, Any]:
    options = world.options(folder, batch_bytes=cycle_bytes)
    size = write_log(options.records_root, records, batch, rate)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    store = Store(options.database_url)
    loop = make_loop(options, store, world.catalogue(folder / "reference"))
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    wall, cpu = time.perf_counter(), time.process_time()
    while run_cycle(loop):
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    profiler.disable()
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    assert loop.progress.records == records
    assert sum(w.rows for w in store.windows("digits")) == records
    store.close()
    os.sched_setaffinity(0, cores)
    return {
        "records": records,
        "rows_per_batch": batch,
        "cycle_bytes": cycle_bytes,
        "log_bytes": size,
        "seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "records_per_second": round(records / wall),
        "records_per_cpu_second": round(records / cpu),
        "cpu_us_per_record": round(cpu / records * 1e6, 2),
        "cycles": loop.progress.cycles,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument(
        "--rate", type=int, default=5_000, help="records a second of event time: how many share a window"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--quick", action="store_true", help="20,000 records, once: does it run?")
    parser.add_argument("--json", type=Path, help="where the result is written; --quick alone writes none")
    args = parser.parse_args()
    if args.quick:
        args.records, args.repeat = 20_000, 1
    runs = []
    # Large cycles are catching up; small ones are what a live stream of 10,000 records a second looks like.
    for cycle_bytes in [16 << 20] * args.repeat + [2 << 20] * args.repeat:
        with tempfile.TemporaryDirectory() as folder:
            runs.append(measure(args.records, args.batch, args.rate, cycle_bytes, Path(folder), profile=args.profile))
            print(json.dumps(runs[-1]), flush=True)
    result = {
        "benchmark": "ingest",
        "machine": machine_facts(ROOT),
        "target_records_per_second": 20_000,
        "best_records_per_second": max(r["records_per_second"] for r in runs),
        "worst_records_per_cpu_second": min(r["records_per_cpu_second"] for r in runs),
        "runs": runs,
    }
    print(json.dumps({k: result[k] for k in ("machine", "best_records_per_second")}))
    store_result(result, "ingest", asked=args.json, quick=args.quick)


if __name__ == "__main__":
    main()
