"""How many records are scored a second, on one core? `python -m benchmarks.scores [--quick]`; about a minute.

What is timed is what the monitor does with every batch of records: class probabilities, all scores, P(wrong), predicted
class, and with an embedding its distances, neighbours and random features. One thread, so a second of processor time is
a second of one core, whoever else is busy; the best of several rounds.

- 10 logits: the digits' shape (promised: 50,000 records/s), and with a 64-d embedding.
- 1,000 logits (20,000).
- 1,000 logits with a 2,048-d embedding, and 10 with one (4,000).

Beside it: the bank of neighbours by one matrix product, and by a usearch index.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT
from benchmarks.stored import store_result
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Task, TaskKind
from export.contracts.reference import ReferenceProfile, answered
from export.contracts.signature import InputSpec, OutputRole, OutputSpec, Signature
from export.reference import compile_reference

CASES = (
    {"classes": 10, "embedding": 0, "promised": 50_000},
    {"classes": 10, "embedding": 64, "promised": None},
    {"classes": 1000, "embedding": 0, "promised": 20_000},
    {"classes": 10, "embedding": 2048, "promised": 4_000},
    {"classes": 1000, "embedding": 2048, "promised": 4_000},
)


def answers(rng: np.random.Generator, rows: int, classes: int, width: int) -> tuple[dict[str, Any], Any]:
    """Outputs of a made-up classifier that is right most of the time, and the truth."""
    truth = rng.integers(0, classes, rows)
    logits = rng.normal(0, 1.5, (rows, classes)).astype(np.float32)
    logits[np.arange(rows), truth] += 5.0
    outputs = {"logits": logits}
    if width:
        centres = np.random.default_rng(1).normal(size=(classes, width))
        outputs["embedding"] = (centres[truth] + 1.5 * rng.normal(size=(rows, width))).astype(np.float32)
    return outputs, truth


def profile_of(classes: int, width: int, rows: int) -> ReferenceProfile:
    """A reference as an export makes it."""
    outputs = [OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, classes), role=OutputRole.LOGITS)]
    if width:
        outputs.append(
            OutputSpec(name="embedding", datatype=Datatype.FP32, shape=(-1, width), role=OutputRole.EMBEDDING)
        )
    signature = Signature(inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1)),), outputs=tuple(outputs))
    task = Task(kind=TaskKind.CLASSIFICATION, class_names=tuple(f"c{i}" for i in range(classes)))
    made, truth = answers(np.random.default_rng(0), rows, classes, width)
    return compile_reference(signature, task, {"x": np.zeros((rows, 1), np.float32)}, made, truth)


def best_rate(work: Callable[[], object], rows: int, rounds: int) -> float:
    """Rows a second of processor time in the best round."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return rows / min(times)


def score_once(profile: ReferenceProfile, made: dict[str, Any]) -> object:
    """Everything that scoring a batch of a classifier takes."""
    assert profile.classes is not None
    embedding = made.get("embedding")
    p = profile.classes.probabilities(made["logits"])
    scores = profile.scores(made["logits"], embedding, p)
    features = None if embedding is None or profile.embedding is None else profile.embedding.features(embedding)
    return scores, features, answered(made["logits"])


def neighbours(rounds: int) -> dict[str, float]:
    """Nearest of 1,000 bank rows of 257 numbers: queries a second, exactly and by an index."""
    from usearch.index import Index

    rng = np.random.default_rng(0)
    bank, queries = (rng.normal(size=(n, 257)).astype(np.float32) for n in (1000, 4000))
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    index = Index(ndim=257, metric="ip", dtype="f32")
    index.add(np.arange(1000), bank, threads=1)
    wide = bank.astype(np.float64)
    return {
        "product_float64": round(best_rate(lambda: (queries.astype(np.float64) @ wide.T).max(axis=1), 4000, rounds)),
        "product_float32": round(best_rate(lambda: (queries @ bank.T).max(axis=1), 4000, rounds)),
        "usearch": round(best_rate(lambda: index.search(queries, 1, threads=1), 4000, rounds)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, score, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scores", description="records scored a second")
    parser.add_argument("--quick", action="store_true", help="two rounds on small batches: does it run?")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    rounds, found = 2 if options.quick else 6, []
    with threadpool_limits(limits=1):
        for case in CASES:
            classes, width = int(case["classes"] or 0), int(case["embedding"] or 0)
            rows = 500 if options.quick else 16_000 if classes == 10 and width < 1000 else 4_000
            profile = profile_of(classes, width, 1500 if classes < 1000 else 3000)
            made, _ = answers(np.random.default_rng(2), rows, classes, width)
            score_once(profile, made)
            rate = best_rate(lambda made=made, profile=profile: score_once(profile, made), rows, rounds)  # type: ignore[misc]
            found.append({**case, "batch": rows, "records_per_s": round(rate)})
            print(found[-1], file=sys.stderr)
        result = {"machine": machine_facts(ROOT), "rates": found, "neighbours_per_s": neighbours(rounds)}
    print(json.dumps({k: v for k, v in result.items() if k != "machine"}, indent=1))
    store_result(result, "scores", asked=options.output, quick=options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
