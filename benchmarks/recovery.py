"""How many labels bring the accuracy back? `python -m benchmarks.recovery [--quick]`; seeded, three minutes.

A camera is knocked askew: digits turned by 50 +- 8 degrees. From that stream so many rows are labelled, 2 % of them
wrongly, and a new version is trained; its accuracy on other turned digits, none of which was ever labelled, says how
much of the lost accuracy came back. Four ways are compared on the same streams and seeds:

- who chooses: at random, or the review queue (the monitor's own pools, groups and order, audit items among them);
- who trains: the plain trainer (base data and labels together, from scratch), or the demo's (`deploy.demo.learn`),
  which looks in the labels for what has happened to the pictures and changes the base data alike.

What the story asks: at least 90 % recovered with at most 200 labels, and with at most half of those that random
labelling and plain training need.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "recovery.json"
PLAIN = (25, 50, 100, 200, 400)
DEMO = (6, 12, 25, 50, 100)
MISTYPED = 0.02
WANTED = 0.9
DEGREES, SPREAD = 50.0, 8.0


class World:
    """A trained network, its reference, a stream that is turned throughout, and turned digits to judge by."""

    def __init__(self, seed: int) -> None:
        import torch

        from deploy.demo.digits import CLASS_NAMES, load_digits
        from deploy.demo.network import train_network
        from deploy.demo.shifts import rotate
        from export.contracts.manifest import Task, TaskKind
        from export.reference import compile_reference

        torch.set_num_threads(1)
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.digits = load_digits()
        live = self.digits.live
        order = self.rng.permutation(len(live.labels))
        stream, held = np.tile(order[:400], 3), order[400:]

        def turned(images: Any) -> Any:
            return np.clip(rotate(images, self.rng, DEGREES, SPREAD), 0.0, 1.0).astype(np.float32)

        self.stream, self.truth = turned(live.images[stream]), live.labels[stream]
        self.judged, self.upright, self.judged_truth = turned(live.images[held]), live.images[held], live.labels[held]
        self.network = train_network(self.digits.train, seed=seed)
        task = Task(kind=TaskKind.CLASSIFICATION, class_names=CLASS_NAMES)
        from benchmarks.queue import _signature

        images = self.digits.reference.images
        self.profile = compile_reference(
            _signature(), task, {"x": images}, self._outputs(images), self.digits.reference.labels
        )
        self.before = self.right(self.network, self.upright)
        self.under = self.right(self.network, self.judged)

    def _outputs(self, images: Any) -> dict[str, Any]:
        import torch

        with torch.no_grad():
            logits, embedding = self.network(torch.from_numpy(images))
        return {"logits": logits.numpy(), "embedding": embedding.numpy()}

    def right(self, network: Any, images: Any) -> float:
        """Accuracy on the judged digits."""
        import torch

        with torch.no_grad():
            said = network(torch.from_numpy(images))[0].argmax(1).numpy()
        return float((said == self.judged_truth).mean())

    def orders(self) -> dict[str, Any]:
        """Rows of the stream in the order in which each way would label them."""
        from benchmarks.queue import queue
        from monitoring.options import CaseOptions

        outputs = self._outputs(self.stream)
        scores = self.profile.scores(outputs["logits"], outputs["embedding"])
        windows = np.arange(len(self.truth)) // 300
        chosen = queue(scores, outputs["embedding"], windows, self.profile, CaseOptions(audit_rate=0.03), self.seed)
        return {"random": self.rng.permutation(len(self.truth)), "queue": chosen}

    def labelled(self, rows: Any) -> Any:
        """Those rows, as a reviewer who mistypes labelled them."""
        from deploy.demo.digits import Part

        labels = self.truth[rows].copy()
        wrong = self.rng.random(len(rows)) < MISTYPED
        labels[wrong] = (labels[wrong] + self.rng.integers(1, 10, int(wrong.sum()))) % 10
        return Part(images=self.stream[rows], labels=labels)

    def recovered(self, network: Any) -> float:
        """Of the lost accuracy, how much this network brings back."""
        return (self.right(network, self.judged) - self.under) / (self.before - self.under)


def one_seed(asked: tuple[int, Sequence[int], Sequence[int]]) -> dict[str, Any]:
    """Every way on one seed."""
    from deploy.demo.learn import find_changes, learn
    from deploy.demo.network import train_network

    seed, plain, demo = asked
    world = World(seed)
    cells: list[dict[str, Any]] = []
    for chooser, order in world.orders().items():
        for count in sorted({*plain, *demo}):
            fresh = world.labelled(order[:count])
            if count in plain:
                part = type(fresh)(
                    images=np.concatenate([world.digits.train.images, fresh.images]),
                    labels=np.concatenate([world.digits.train.labels, fresh.labels]),
                )
                made = train_network(part, seed=seed)
                cells.append(
                    {"chosen": chooser, "trainer": "plain", "labels": count, "recovered": world.recovered(made)}
                )
            if count in demo:
                changes = find_changes(world.digits.train, fresh)
                made = learn(world.digits.train, fresh, seed=seed, changes=changes)
                cell = {"chosen": chooser, "trainer": "demo", "labels": count, "recovered": world.recovered(made)}
                cells.append(cell | {"upright": world.right(made, world.upright), "changes": [str(c) for c in changes]})
    return {"seed": seed, "upright": world.before, "turned": world.under, "cells": cells}


def table(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and worst over the seeds for each way and number of labels."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for run in runs:
        for cell in run["cells"]:
            found.setdefault((cell["trainer"], cell["chosen"], cell["labels"]), []).append(cell["recovered"])
    return [
        {
            "trainer": trainer,
            "chosen": chosen,
            "labels": labels,
            "recovered": round(float(np.mean(values)), 4),
            "worst": round(min(values), 4),
        }
        for (trainer, chosen, labels), values in sorted(found.items())
    ]


def needed(rows: Sequence[dict[str, Any]]) -> dict[str, int | None]:
    """Fewest labels (of those tried) from which each way recovers the wanted share on average; None: not reached."""
    ways = sorted({(row["trainer"], row["chosen"]) for row in rows})
    out: dict[str, int | None] = {}
    for trainer, chosen in ways:
        own = [r for r in rows if (r["trainer"], r["chosen"]) == (trainer, chosen)]
        reached = [
            r["labels"]
            for r in own
            if all(other["recovered"] >= WANTED for other in own if other["labels"] >= r["labels"])
        ]
        out[f"{chosen}, {trainer} trainer"] = min(reached, default=None)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Choose, train, compare, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description="labels that recovery takes")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, few counts: does it run? nothing is written")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    if options.quick:
        runs = [one_seed((0, (100,), (12, 25)))]
    else:
        with ProcessPoolExecutor(2) as pool:
            runs = list(pool.map(one_seed, [(seed, PLAIN, DEMO) for seed in range(options.seeds)]))
    rows = table(runs)
    result = {
        "machine": machine_facts(ROOT),
        "settings": {
            "seeds": len(runs),
            "shift": f"turned {DEGREES:.0f} +- {SPREAD:.0f} degrees",
            "mistyped": MISTYPED,
            "wanted": WANTED,
        },
        "upright": round(float(np.mean([run["upright"] for run in runs])), 4),
        "turned": round(float(np.mean([run["turned"] for run in runs])), 4),
        "labels_needed": needed(rows),
        "table": rows,
        "seeds": runs,
        "took_s": round(time.monotonic() - started, 1),
    }
    print(json.dumps({k: v for k, v in result.items() if k not in ("machine", "seeds")}, indent=1))
    if not options.quick:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
