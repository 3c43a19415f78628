"""A CPU-heavy model through HTTP against the bare ONNX Runtime loop at the same batch sizes.

    python -m benchmarks.heavy_model            about 100 seconds
    python -m benchmarks.heavy_model --quick    about 20 seconds

Batches of at least 5 ms on one thread. The bare loop has one core to itself; through HTTP the same thread computes and
the rest of the service, the load generator included, has the other cores. Bare and HTTP alternate within each round, so
that drift of the machine falls on both; the ratio is taken within the round, and the median of the rounds counts.
"Same batch sizes": the server's largest batch is the bare loop's, and what it really ran is read from its statistics.
Figure: http / bare >= 0.95.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import bare
from benchmarks.alone import NAME, make_registry, stand_alone, write_request
from benchmarks.machine import OUR_PACKAGES, machine_facts
from benchmarks.pressure import Plan, drive_from
from benchmarks.stored import store_result
from export.contracts.datatypes import Datatype
from export.contracts.manifest import RuntimeKind
from export.contracts.signature import InputSpec, OutputSpec, Signature
from monitoring.records.record import CaptureOptions
from serving.options import BatchOptions, RuntimeOptions, ServingOptions

ROOT = Path(__file__).resolve().parents[1]
WIDTH, LAYERS, FEATURES = 2048, 6, 256
FIGURE = 0.95
SIGNATURE = Signature(
    inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, FEATURES)),),
    outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, FEATURES)),),
)


def write_model(path: Path) -> None:
    """A chain of matrix products with ReLUs between: 48 MFLOP a row, some 10 ms for a few rows on one core."""
    rng = np.random.default_rng(5)
    sizes = [FEATURES, *[WIDTH] * LAYERS, FEATURES]
    nodes, weights, last = [], [], "x"
    for i, (rows, columns) in enumerate(pairwise(sizes)):
        values = (rng.normal(size=(rows, columns)) * np.sqrt(2 / rows)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{i}"))
        end = i == len(sizes) - 2
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], ["y" if end else f"m{i}"]))
        if not end:
            nodes.append(helper.make_node("Relu", [f"m{i}"], [f"h{i}"]))
        last = f"h{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", FEATURES]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "heavy", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the results; 1 when the figure is not reached."""
    options = _options(arguments)
    rounds = 1 if options.quick else 5
    seconds = 2.0 if options.quick else 4.0
    facts = machine_facts(ROOT, OUR_PACKAGES)
    results = []
    with tempfile.TemporaryDirectory(prefix="hv") as name:
        folder = Path(name)
        write_model(folder / "model.onnx")
        for capture in (False, True):
            for batch in options.batches:
                results.append(_measure(folder, batch, rounds, seconds, capture))
                print(_line(results[-1]), flush=True)
    document = {
        "schema_version": 1,
        "machine": facts,
        "settings": {"rounds": rounds, "seconds": seconds, "quick": options.quick, "figure": FIGURE},
        "results": results,
    }
    store_result(document, "heavy_model", asked=options.output, quick=options.quick)
    return 0 if all(r["of_bare"] >= FIGURE for r in results) else 1


def _measure(folder: Path, batch: int, rounds: int, seconds: float, capture: bool) -> dict[str, Any]:
    place = folder / f"{batch}-{capture}"
    place.mkdir()
    registry = make_registry(place, folder / "model.onnx", RuntimeKind.ONNX, SIGNATURE, batch)
    rows = np.random.default_rng(batch).standard_normal((batch, FEATURES), dtype=np.float32)
    # One row a request: the batches are the server's own doing. Twice as many clients as rows fill the next batch.
    request = write_request(place / "request", SIGNATURE, rows[:1])
    options = ServingOptions(
        registry=str(registry),
        records=str(place / "records"),
        capture=CaptureOptions() if capture else None,
        batch=BatchOptions(max_rows=batch),
        runtime=RuntimeOptions(device="cpu", intra_op_threads=1, load_timeout_s=120.0),
    )
    plan = Plan(port=0, request=str(request), connections=2 * batch, seconds=seconds, warm_up_s=0.5)
    loops, served, failures = [], [], 0
    with stand_alone(place / "server", options) as port:
        plan = Plan(**{**asdict(plan), "port": port})
        before = _executions(port)
        for _ in range(rounds):
            loops.append(bare.bare_onnx(folder / "model.onnx", rows, "cpu", seconds))
            outcome = drive_from(1, plan)
            failures += sum(outcome.failures.values())
            served.append(outcome)
        after = _executions(port)
    ratios = [s.per_s / b.rows_per_s for s, b in zip(served, loops, strict=True)]
    return {
        "batch": batch,
        "capture": capture,
        "bare": asdict(sorted(loops, key=lambda loop: loop.rows_per_s)[len(loops) // 2]),
        "http_rows_per_s": statistics.median(s.per_s for s in served),
        "of_bare": statistics.median(ratios),
        "of_bare_rounds": [round(r, 4) for r in ratios],
        "mean_batch": (after[0] - before[0]) / max(1, after[1] - before[1]),
        "latency_ms": {str(p): statistics.median(s.percentile(p) for s in served) for p in (50, 99)},
        "failures": failures,
    }


def _executions(port: int) -> tuple[int, int]:
    """Rows and batches that the server has run, by its statistics extension."""
    with urlopen(f"http://127.0.0.1:{port}/v2/models/{NAME}/stats", timeout=10) as answer:
        stats = json.load(answer)["model_stats"][0]
    return stats["inference_count"], stats["execution_count"]


def _line(result: dict[str, Any]) -> str:
    plain: dict[str, Any] = result["bare"]
    return (
        f"batch {result['batch']:>3}  capture {'on ' if result['capture'] else 'off'}  "
        f"bare {plain['rows_per_s']:,.0f} rows/s ({plain['batch_ms']:.1f} ms a batch)  "
        f"http {result['http_rows_per_s']:,.0f}  ratio {result['of_bare']:.3f}  mean batch {result['mean_batch']:.1f}  "
        f"p99 {result['latency_ms']['99']:.0f} ms  failures {result['failures']}"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heavy_model")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 32], help="rows of the largest batch")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
