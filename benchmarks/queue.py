"""Is the review queue worth a reviewer's time? `python -m benchmarks.queue [--quick]`; seeded, about four minutes.

Two questions, on scikit-learn's real digits under real shifts, with the monitor's own functions (pools, groups, queue):

- *Density*: a day of mostly healthy traffic with a tenth of it shifted. How much denser are failures in the first
  hundredth of the queue than in the traffic?
- *Labels*: 200 labels from a shifted stream, chosen at random, least confident first, or from the top of our queue
  (audit cases included); a small convolutional network is trained again with them. Accuracy on other shifted digits.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT
from benchmarks.stored import store_result
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Task, TaskKind
from export.contracts.reference import ReferenceProfile
from export.contracts.scores import ScoreName
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature
from monitoring.case_order import queue_values, suppress
from monitoring.case_pools import AUDIT_BIT, SCORE_BITS, Standing, survivors
from monitoring.options import CaseOptions
from monitoring.vectors import cosines, to_cells, to_units, to_vectors

LABELS = 200
EPOCHS = 25


def queue(scores: Any, hidden: Any, windows: Any, profile: ReferenceProfile, options: CaseOptions, seed: int) -> Any:
    """Indices of records in the order of the queue that the monitor would make of them."""
    rng = np.random.default_rng(seed)
    p_wrong = np.asarray(scores[ScoreName.P_WRONG.value], dtype=np.float64)
    lots = rng.random(len(p_wrong))
    assert profile.embedding is not None
    vectors, known = to_vectors(hidden), to_vectors(profile.embedding.sample)
    alike = cosines(known, known)
    typical = float(np.median(1.0 - alike[~np.eye(len(alike), dtype=bool)]))
    np.fill_diagonal(alike, -1.0)
    likeness = float(np.clip(np.quantile(alike.max(axis=1), 0.99), 0.98, 0.9995))
    cells = to_cells(to_units(vectors), to_units(known).mean(axis=0))
    unsure = profile.score_at(ScoreName.P_WRONG, 1.0 - options.flag_rate)
    far = profile.score_at(ScoreName.RMDS, options.novelty_level)
    assert unsure is not None
    assert far is not None
    flagged = (p_wrong > unsure) | (scores[ScoreName.RMDS.value] > far)
    flags = np.where(flagged, SCORE_BITS, 0) | np.where(lots < options.audit_rate, AUDIT_BIT, 0)
    order: list[tuple[float, int]] = []
    for window in np.unique(windows).tolist():
        members = np.flatnonzero((windows == window) & (flags != 0))
        standings = [
            Standing(
                id=f"{i:016x}",
                flags=int(flags[i]),
                rank=float(p_wrong[i]),
                audit_rank=float(lots[i]),
                content=None,
                cell=int(cells[i]),
            )
            for i in members.tolist()
        ]
        kept = [int(identity, 16) for identity in survivors(standings, options)]
        kept.sort(key=lambda i: (-p_wrong[i], lots[i]))
        folds = suppress(vectors[kept], [None] * len(kept), likeness, vectors[:0], [])
        audits = (flags[kept] & AUDIT_BIT) != 0
        folded = np.array([fold is not None for fold in folds], dtype=bool)
        values = queue_values(p_wrong[kept], vectors[kept], typical, audits, folded, options.audit_floor)
        order += list(zip((-values).tolist(), kept, strict=True))
    return np.array([i for _, i in sorted(order)], dtype=np.int64)


def _signature() -> Signature:
    display = InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 1.0))
    x = InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1, 8, 8), display=display)
    logits = OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, 10), role=OutputRole.LOGITS)
    hidden = OutputSpec(name="embedding", datatype=Datatype.FP32, shape=(-1, 64), role=OutputRole.EMBEDDING)
    return Signature(inputs=(x,), outputs=(logits, hidden))


class Trials:
    """The digits, a network, and its retraining."""

    def __init__(self, seed: int) -> None:
        from sklearn.datasets import load_digits

        data = load_digits()
        self.rng = np.random.default_rng(seed)
        order = self.rng.permutation(len(data.target))
        self.images = (data.images / 16.0).astype(np.float32)[order][:, None]
        self.labels = data.target[order]
        self.seed = seed
        self.model = self.train(self.images[:600], self.labels[:600])

        from export.reference import compile_reference

        held = self.images[1200:1500]
        logits, hidden = self.outputs(held)
        signature, task = _signature(), Task(kind=TaskKind.CLASSIFICATION, class_names=tuple("0123456789"))
        outputs = {"logits": logits, "embedding": hidden}
        self.profile = compile_reference(signature, task, {"x": held}, outputs, self.labels[1200:1500])

    def train(self, images: Any, labels: Any) -> Any:
        """A small network from scratch."""
        import torch
        from torch import nn

        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip
        optimiser = torch.optim.Adam(model.parameters(), 2e-3)
        generator = torch.Generator().manual_seed(self.seed)
        x, y = torch.tensor(images), torch.tensor(labels)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(x), generator=generator).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
                optimiser.step()
        return model.eval()

    def outputs(self, images: Any, model: Any = None) -> tuple[Any, Any]:
        """(logits, embedding)."""
        import torch

        model = model or self.model
        with torch.no_grad():
            hidden = model[:-1](torch.tensor(images))
            return model[-1](hidden).numpy(), hidden.numpy()

    def right(self, images: Any, truth: Any, model: Any = None) -> float:
        """Accuracy."""
        return float((self.outputs(images, model)[0].argmax(axis=1) == truth).mean())

    def turned(self, images: Any, degrees: float) -> Any:
        """Rotated by about so much."""
        from scipy import ndimage

        angles = degrees + self.rng.normal(0.0, 8.0, len(images))
        made = [ndimage.rotate(x[0], a, reshape=False, order=1)[None] for x, a in zip(images, angles, strict=True)]
        return np.clip(np.stack(made), 0.0, 1.0).astype(np.float32)


def density(trials: Trials) -> dict[str, float]:
    """Failures in the top hundredth of the queue against failures in the traffic."""
    places = trials.rng.integers(600, 1200, 6000)
    images = trials.images[places]
    shifted = trials.rng.random(len(places)) < 0.1
    images = np.where(shifted[:, None, None, None], trials.turned(images, 50.0), images)
    logits, hidden = trials.outputs(images)
    wrong = logits.argmax(axis=1) != trials.labels[places]
    scores = trials.profile.scores(logits, hidden)
    order = queue(scores, hidden, np.arange(6000) // 600, trials.profile, CaseOptions(), trials.seed)
    top = order[: len(places) // 100]
    return {"traffic": float(wrong.mean()), "top": float(wrong[top].mean()), "queue": len(order)}


def labels(trials: Trials, mixed: bool) -> dict[str, float]:
    """Accuracy on shifted digits after 200 labels of each kind."""
    places = np.concatenate([np.arange(600, 1200)] * (4 if mixed else 2))
    images = trials.images[places]
    shifted = np.ones(len(places), bool) if not mixed else trials.rng.random(len(places)) < 0.25
    images = np.where(shifted[:, None, None, None], trials.turned(images, 50.0), images)
    logits, hidden = trials.outputs(images)
    scores = trials.profile.scores(logits, hidden)
    windows, options = np.arange(len(places)) // 300, CaseOptions(audit_rate=0.03)
    ours = queue(scores, hidden, windows, trials.profile, options, trials.seed)[:LABELS]
    test, truth = trials.turned(trials.images[1500:], 50.0), trials.labels[1500:]
    chosen = {
        "random": trials.rng.permutation(len(places))[:LABELS],
        "least_confident": np.argsort(scores[ScoreName.MSP.value], kind="stable")[:LABELS],
        "queue": ours,
    }
    made = {"before": trials.right(test, truth)}
    for name, picked in chosen.items():
        x = np.concatenate([trials.images[:600], images[picked]])
        y = np.concatenate([trials.labels[:600], trials.labels[places[picked]]])
        made[name] = trials.right(test, truth, trials.train(x, y))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Choose, train, compare, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description="is the queue worth the time?")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed: does it run?")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    dense, shifted, mixed = [], [], []
    for seed in range(1 if options.quick else options.seeds):
        trials = Trials(seed)
        dense.append(density(trials))
        shifted.append(labels(trials, mixed=False))
        mixed.append(labels(trials, mixed=True))
        print(f"seed {seed}: {dense[-1]} {shifted[-1]} {mixed[-1]}", file=sys.stderr, flush=True)

    def mean(rows: list[dict[str, float]]) -> dict[str, float]:
        return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}

    result = {
        "machine": machine_facts(ROOT),
        "settings": {"seeds": len(dense), "labels": LABELS, "shift": "turned 50 +- 8 degrees"},
        "density": mean(dense) | {"times": round(mean(dense)["top"] / mean(dense)["traffic"], 2)},
        "accuracy_after_labels_from_a_shifted_stream": mean(shifted),
        "accuracy_after_labels_from_mixed_traffic": mean(mixed),
        "seeds": {"density": dense, "shifted": shifted, "mixed": mixed},
        "took_s": round(time.monotonic() - started, 1),
    }
    print(json.dumps({k: v for k, v in result.items() if k not in ("machine", "seeds")}, indent=1))
    store_result(result, "queue", asked=options.output, quick=options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
