"""What a second replica brings when the device is the limit: `python -m benchmarks.replicas [--quick]`, three minutes.

The runtime is the test device that takes 5 ms for a batch of at most four rows, one batch at a time, as a GPU would:
the processor only carries requests to it. One and two replicas behind HAProxy are measured in turn, three rounds each
on fresh clusters; the figure is the ratio of the medians, and two replicas must reach 1.8 times one. Before each round
the answer is compared with onnxruntime's own. Results go to `benchmarks/results/replicas.json`.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.load import LoadResult, run_wrk
from benchmarks.machine import machine_facts
from benchmarks.model import make_registry
from benchmarks.payloads import Wire, write_scripts
from benchmarks.serving import Control
from benchmarks.starts import OIP_PATH, ROOT
from serving.options import BatchOptions, RuntimeOptions, ServingOptions
from tests.support.ray_cluster import ray_serving

RESULTS = ROOT / "benchmarks" / "results" / "replicas.json"
BATCH_MS, BATCH_ROWS, CONNECTIONS = 5.0, 4, 64
TARGET = 1.8


def options() -> ServingOptions:
    """A replica on the device that waits."""
    return ServingOptions(
        registry="",
        records="",
        runtime=RuntimeOptions(device=f"double:{BATCH_MS:g}ms", lanes=1),
        batch=BatchOptions(max_rows=BATCH_ROWS, inline_below_us=0.0),
        capture=None,
    )


def measure(replicas: int, seconds: float, scratch: Path) -> LoadResult:
    """One round on a fresh cluster.

    Raises:
        LoadFailed: a request failed.
        RuntimeError: the server answers wrongly.
    """
    folder = scratch / f"{replicas}-{len(list(scratch.iterdir()))}"
    folder.mkdir()
    registry, model = make_registry(folder)
    script = write_scripts(folder, model.image)[Wire.OIP_BINARY]
    with ray_serving(
        folder / "ray", registry, replicas=replicas, options=options(), extra=("--no-capture",)
    ) as cluster:
        url = f"http://127.0.0.1:{cluster.port}{OIP_PATH}"
        if not Control(model).right(url, Wire.OIP_BINARY):
            raise RuntimeError("the answer is not onnxruntime's own")
        run_wrk(url, script, connections=CONNECTIONS, duration_s=2)
        return run_wrk(url, script, connections=CONNECTIONS, duration_s=seconds)


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit status 1 when two replicas bring less than the target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replicas", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of 3 s; writes nothing unless --out is given")
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the cluster must not outlive us
    rounds, seconds = (1, 3.0) if arguments.quick else (3, 8.0)
    facts = machine_facts(ROOT)
    found: dict[int, list[LoadResult]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="hcp-") as name:
        for _ in range(rounds):
            for replicas, results in found.items():
                results.append(measure(replicas, seconds, Path(name)))
                last = results[-1]
                print(f"{replicas} replicas: {last.requests_per_s:,.0f} req/s, p99 {last.latency_us[99] / 1e3:.1f} ms")
    speed = {n: statistics.median(r.requests_per_s for r in results) for n, results in found.items()}
    result: dict[str, Any] = {
        "machine": facts,
        "batch_ms": BATCH_MS,
        "batch_rows": BATCH_ROWS,
        "connections": CONNECTIONS,
        "most_that_one_replica_can_do_per_s": round(1000 / BATCH_MS * BATCH_ROWS),
        "requests_per_s": {str(n): [round(r.requests_per_s) for r in results] for n, results in found.items()},
        "p99_ms": {str(n): [round(r.latency_us[99] / 1e3, 2) for r in results] for n, results in found.items()},
        "ratio": round(speed[2] / speed[1], 3),
        "target": TARGET,
    }
    out = arguments.out or (None if arguments.quick else RESULTS)
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "machine"}, indent=2))
    return 0 if result["ratio"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
