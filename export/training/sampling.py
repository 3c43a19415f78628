"""Which rows an epoch has and what each counts, and how the learning rate goes. Pure, and seeded from outside.

References:
    Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5 (cosine schedule); King and Zeng, Political Analysis 2001 (weights
    inverse to class frequency).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from export.contracts.dataset import Source
from export.dataset import Rows


def rate_of(steps: int, warmup: float, last_rate: float) -> Callable[[int], float]:
    """The schedule, a climb and then half a cosine: share of the learning rate at a step.

    Args:
        steps: Of the whole training.
        warmup: Share of them in which it climbs.
        last_rate: What is left at the end.

    Example:
        >>> rate = rate_of(100, warmup=0.1, last_rate=0.0)
        >>> [round(rate(step), 2) for step in (0, 9, 55, 99)]
        [0.1, 1.0, 0.5, 0.0]
    """
    climb = max(1, round(warmup * steps))

    def rate(step: int) -> float:
        if step < climb:
            return (step + 1) / climb
        done = min(1.0, (step - climb) / max(1, steps - climb))
        return last_rate + (1.0 - last_rate) * 0.5 * (1.0 + math.cos(math.pi * done))

    return rate


def row_weights(rows: Rows, *, balanced: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Weights (rows,) of mean 1: the rows' own, times the inverse frequency of their class where asked for."""
    weights = np.asarray(rows.weights, dtype=np.float64).copy()
    if balanced and isinstance(rows.labels, np.ndarray) and rows.labels.dtype == np.int64:
        counts = np.bincount(rows.labels, weights=weights)
        weights /= np.maximum(counts[rows.labels], 1e-12)
    mean = weights.mean()
    if not np.isfinite(mean) or mean <= 0:
        raise ValueError("the rows' weights must be positive numbers")
    made: np.ndarray[Any, np.dtype[np.float64]] = weights / mean
    return made


def order_of(sources: Sequence[str], new_share: float | None, generator: np.random.Generator) -> Sequence[int]:
    """The rows of an epoch, shuffled; as many as there are, of which `new_share` are no base rows."""
    new = np.array([i for i, source in enumerate(sources) if source != Source.BASE.value], dtype=np.int64)
    base = np.array([i for i, source in enumerate(sources) if source == Source.BASE.value], dtype=np.int64)
    total = len(sources)
    if new_share is None or not len(new) or not len(base):
        return [int(i) for i in generator.permutation(total)]
    wanted = min(total, max(1, round(new_share * total)))
    chosen = np.concatenate([_drawn(new, wanted, generator), _drawn(base, total - wanted, generator)])
    return [int(i) for i in generator.permutation(chosen)]


def _drawn(pool: np.ndarray[Any, np.dtype[np.int64]], count: int, generator: np.random.Generator) -> Any:
    """`count` of them: every one as often as any other, up to one."""
    rounds = [generator.permutation(pool) for _ in range(-(-count // len(pool)))] or [pool[:0]]
    return np.concatenate(rounds)[:count]
