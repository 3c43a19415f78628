"""A version's reference in the form in which windows are counted and compared.

Every watched quantity (input columns, then scores) is counted in the same bins for the reference and for live traffic:
edges at the reference's percentiles, one bin below the smallest and one above the largest value. Counts are integers,
so windows merge exactly and in any order. Without a reference the scores are still counted, on fixed edges.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.accuracy import AccuracyReference
from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from monitoring.tasks.kinds import task_of
from monitoring.tasks.protocol import MonitoredTask, Watched

EDGES = 102  # the percentiles 0..100 %, and the smallest number above the largest value
BINS = EDGES + 1
Array: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = npt.NDArray[np.int64]


class QuantityKind(StrEnum):
    """What a watched quantity is."""

    FEATURE = "feature"  # one element of an input
    DESCRIPTOR = "descriptor"  # one number about a whole input
    SCORE = "score"  # how sure the model is
    ANSWER = "answer"  # what the model answers: a value, a number of boxes


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """A watched quantity. `group` is the input that a feature or descriptor belongs to."""

    name: str
    kind: QuantityKind
    group: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """What a version is compared with. Made once by `compile_baseline`; compared by identity.

    Attributes:
        task: What its kind of task means; asked for everything that depends on it.
        quantities: Q of them, the input columns first.
        edges: (Q, 102) float32, ascending.
        scale: (Q,) float64, unit of excesses and of Wasserstein: the reference's standard deviation, or the size of its
            mean where it does not vary.
        counts: Reference counts (Q, 103), zeros where there is no reference.
        counted: Reference rows behind each row of `counts`, (Q,).
        classes: Classes that are counted, 0 for tasks without.
        embedding_size: Length of the random Fourier features, 0 without an embedding in the reference.
    """

    manifest: Manifest | None
    profile: ReferenceProfile | None
    task: MonitoredTask
    quantities: tuple[Quantity, ...]
    edges: Array
    scale: Array
    counts: Ints
    counted: Ints
    classes: int
    class_names: tuple[str, ...]
    embedding_size: int
    problem: str = ""
    input_columns: int = field(default=0)

    @cached_property
    def layout(self) -> str:
        """Fingerprint of how windows are counted: only windows of one layout merge."""
        digest = hashlib.sha256("\0".join(q.name for q in self.quantities).encode())
        digest.update(np.ascontiguousarray(self.edges, dtype="<f4").tobytes())
        digest.update(f"{self.classes}/{self.embedding_size}".encode())
        if self.accuracy is not None:
            digest.update(np.array([*self.accuracy.atc, self.accuracy.size], dtype="<f8").tobytes())
        return digest.hexdigest()[:16]

    @property
    def accuracy(self) -> AccuracyReference | None:
        """What accuracy is estimated with; None without a reference that has it."""
        return None if self.profile is None else self.profile.accuracy

    @property
    def sureness_size(self) -> int:
        """Length of a window's `sureness`."""
        return 0 if self.accuracy is None else self.accuracy.size

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each quantity by name."""
        return {quantity.name: i for i, quantity in enumerate(self.quantities)}


def compile_baseline(manifest: Manifest | None, profile: ReferenceProfile | None, problem: str = "") -> Baseline:
    """Build the baseline of a version from what is known of it; either part may be missing.

    Args:
        manifest: Without it, requests are counted and nothing else.
        profile: Without it, scores are counted on fixed edges and nothing is compared.
        problem: Why a part is missing, in words, for people.
    """
    task = task_of(manifest, profile)
    parts = [] if profile is None else _columns(profile)
    columns = len(parts)
    parts += _answers(profile, task.watched())
    width = len(parts)
    counts = np.zeros((width, BINS), dtype=np.int64)
    for row, (_, edges, sample, _, _) in enumerate(parts):
        if sample is not None:
            counts[row] = np.bincount(bin_column(edges, sample)[np.isfinite(sample)], minlength=BINS)
    embedding = None if profile is None else profile.embedding
    return Baseline(
        manifest=manifest,
        profile=profile,
        task=task,
        quantities=tuple(part[0] for part in parts),
        edges=np.stack([part[1] for part in parts]) if parts else np.zeros((0, EDGES), dtype=np.float32),
        scale=np.array([part[3] for part in parts], dtype=np.float64),
        counts=counts,
        counted=np.array([part[4] for part in parts], dtype=np.int64),
        classes=task.classes,
        class_names=() if manifest is None else manifest.task.class_names,
        embedding_size=0 if embedding is None else len(embedding.feature_mean),
        problem=problem,
        input_columns=columns,
    )


def bin_column(edges: Array, values: Array) -> Ints:
    """Bin of each value, (rows,): how many edges are at most the value. NaN must be masked by the caller."""
    return np.asarray(np.searchsorted(edges, values.astype(np.float32, copy=False), side="right"), dtype=np.int64)


_Part: TypeAlias = tuple[Quantity, Array, Array | None, float, int]


def _columns(profile: ReferenceProfile) -> list[_Part]:
    parts: list[_Part] = []
    for i, name in enumerate(profile.columns):
        descriptor = ":" in name and "[" not in name.rsplit(":", 1)[1]
        group = name.rsplit(":", 1)[0] if descriptor else name.split("[", 1)[0].split(".", 1)[0]
        kind = QuantityKind.DESCRIPTOR if descriptor else QuantityKind.FEATURE
        sample = profile.frame[:, i]
        sample = sample[np.isfinite(sample)]
        edges = _edges(profile.column_quantiles[i])
        mean, std = float(profile.column_mean[i]), float(profile.column_std[i])
        parts.append((Quantity(name=name, kind=kind, group=group), edges, sample, _scale(mean, std), len(sample)))
    return parts


def _answers(profile: ReferenceProfile | None, watched: tuple[Watched, ...]) -> list[_Part]:
    parts: list[_Part] = []
    for one in watched:
        kind = QuantityKind.ANSWER if one.about_answer else QuantityKind.SCORE
        quantity = Quantity(name=one.name, kind=kind, group="")
        grid = None if profile is None else profile.score_quantiles.get(one.name)
        if grid is not None and profile is not None:
            edges = _edges(np.asarray(grid)[np.linspace(0, len(grid) - 1, EDGES - 1).astype(np.int64)])
            # Every point of the quantile grid stands for an equal share of the reference.
            scale = _scale(float(np.mean(grid)), float(np.std(grid)))
            parts.append((quantity, edges, np.asarray(grid, dtype=np.float32), scale, profile.rows))
        elif one.ceiling is not None:
            parts.append((quantity, _edges(np.linspace(0.0, one.ceiling, EDGES - 1)), None, 1.0, 0))
    return parts


def _edges(quantiles: Array) -> Array:
    edges = np.empty(EDGES, dtype=np.float32)
    edges[:-1] = np.maximum.accumulate(np.nan_to_num(quantiles.astype(np.float32), nan=0.0))
    edges[-1] = np.nextafter(edges[-2], np.float32(np.inf))
    return edges


def _scale(mean: float, std: float) -> float:
    size = max(abs(mean), 1.0) if math.isfinite(mean) else 1.0
    return std if math.isfinite(std) and std > 1e-6 * size else size
