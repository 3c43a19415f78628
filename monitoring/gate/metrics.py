"""Metrics that people know, of a version on a set: for reading, beside the goodness that decides.

| task | metrics |
|---|---|
| classification | accuracy, balanced_accuracy, macro_f1, log_loss |
| multi-label | exact, micro_f1, precision, recall |
| detection | f1, precision, recall, map (boxes from the manifest's smallest score on, at its overlap), images_right |
| regression | within_tolerance, mae, rmse, r2 |
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.contracts.manifest import TaskKind

Facts = Sequence[dict[str, Any]]
LEAST = 1e-12  # a probability of zero costs so much in the log loss


def metrics_of(kind: TaskKind, goodness: Sequence[float], facts: Facts) -> dict[str, float]:
    """Metrics of a version by name; those that are not defined are left out.

    Args:
        kind: Of the task.
        goodness: Of each input.
        facts: Of each input, as `monitoring.gate.judge` makes them; empty where an answer was not finite.

    Example:
        >>> said = [{"truth": "a", "answer": "a", "p": 1.0}, {"truth": "b", "answer": "a", "p": 0.5}]
        >>> {k: round(v, 3) for k, v in metrics_of(TaskKind.CLASSIFICATION, [1.0, 0.0], said).items()}
        {'accuracy': 0.5, 'balanced_accuracy': 0.5, 'macro_f1': 0.333, 'log_loss': 0.347}
    """
    if not goodness:
        return {}
    mean = float(np.mean(goodness))
    if kind is TaskKind.CLASSIFICATION:
        return {"accuracy": mean} | _classes(facts)
    if kind is TaskKind.MULTI_LABEL:
        counts = _counts(facts)
        exact = sum(f.get("exact", 0) for f in facts) / len(facts)
        return {"exact": exact} | {("micro_f1" if k == "f1" else k): v for k, v in counts.items()}
    if kind is TaskKind.DETECTION:
        right = sum(f.get("exact", 0) for f in facts) / len(facts)
        return _counts(facts) | _average_precision(facts) | {"images_right": right}
    if kind is TaskKind.REGRESSION:
        return {"within_tolerance": mean} | _errors(facts)
    return {}


def _classes(facts: Facts) -> dict[str, float]:
    known = [f for f in facts if "truth" in f]
    if not known:
        return {}
    truth, given = Counter(f["truth"] for f in known), Counter(f["answer"] for f in known)
    right = Counter(f["truth"] for f in known if f["truth"] == f["answer"])
    recall = [right[c] / truth[c] for c in truth]
    f1 = [2 * right[c] / (truth[c] + given[c]) for c in sorted(set(truth) | set(given))]
    made = {"balanced_accuracy": float(np.mean(recall)), "macro_f1": float(np.mean(f1))}
    chances = [f["p"] for f in known]
    if all(p is not None for p in chances):
        made["log_loss"] = float(-np.mean(np.log(np.maximum(chances, LEAST))))
    return made


def _counts(facts: Facts) -> dict[str, float]:
    matched, missed, spurious = (sum(f.get(name, 0) for f in facts) for name in ("matched", "missed", "spurious"))
    made = {}
    if 2 * matched + missed + spurious:
        made["f1"] = 2 * matched / (2 * matched + missed + spurious)
    if matched + spurious:
        made["precision"] = matched / (matched + spurious)
    if matched + missed:
        made["recall"] = matched / (matched + missed)
    return made


def _average_precision(facts: Facts) -> dict[str, float]:
    """Mean over classes of the area under the precision envelope (Pascal VOC 2010 and later)."""
    boxes: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    true: Counter[str] = Counter()
    for f in facts:
        true.update(f.get("true", ()))
        for name, score, hit in f.get("boxes", ()):
            boxes[name].append((score, hit))
    areas = []
    for name, there in true.items():
        found = sorted(boxes[name], key=lambda b: -b[0])
        hits = np.cumsum([hit for _, hit in found]) if found else np.zeros(0)
        precision = hits / np.arange(1, len(hits) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        steps = np.diff(np.concatenate([[0.0], hits / there]))
        areas.append(float(np.sum(envelope * steps)))
    return {"map": float(np.mean(areas))} if areas else {}


def _errors(facts: Facts) -> dict[str, float]:
    known = [f for f in facts if "absolute" in f]
    if not known:
        return {}
    squared = float(np.mean([f["squared"] for f in known]))
    made = {"mae": float(np.mean([f["absolute"] for f in known])), "rmse": math.sqrt(squared)}
    spread = float(np.var([f["truth"] for f in known]))
    return made | ({"r2": 1 - squared / spread} if spread > 0 else {})
