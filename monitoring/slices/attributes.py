"""Slices that can be said in words: conjunctions of attribute values with more failures than their size explains.

SliceLine (Sagadeeva & Boehm, SIGMOD 2021): a slice S of n records scores
    alpha * (mean failure in S / mean failure overall - 1) - (1 - alpha) * (n / |S| - 1),
so it must be both bad and large. Conjunctions are enumerated level by level as products of sparse indicator matrices. A
candidate is dropped when it is too small, when an upper bound of its descendants' score is no better than what the
search has already, or when one of its parents was dropped: a child is never larger, nor loses more failures, than any
parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import scipy

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_TESTED = 1_000  # of the best-scoring slices are tested for saying something new
_CANDIDATES = 20_000  # a level is cut to its most promising ones beyond this


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceOptions:
    """What counts as a slice.

    Attributes:
        alpha: Weight of failure against size, in (0, 1].
        min_rows: Records of a slice at least.
        levels: Conditions of a slice at most.
        keep: Slices that are returned at most.
        surprise: Largest chance, corrected for all slices that were looked at, that a random group of the size has as
            many failures.
    """

    alpha: float = 0.99
    min_rows: int = 20
    levels: int = 3
    keep: int = 20
    surprise: float = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeSlice:
    """A slice that was found.

    Attributes:
        conditions: Attribute to value, all of which hold; sorted by name. They are the slice's identity.
        rows: Indices of its records, ascending.
        failure_rate: Mean failure in it.
        overall_rate: Mean failure of all records.
        score: SliceLine's.
        p_value: Chance of as many failures in a random group of the size, corrected for the slices looked at.
    """

    conditions: tuple[tuple[str, str], ...]
    rows: npt.NDArray[np.int64]
    failure_rate: float
    overall_rate: float
    score: float
    p_value: float

    @property
    def sentence(self) -> str:
        """The slice in words."""
        where = " and ".join(f"{name} is {value}" for name, value in self.conditions)
        return f"{where}: {self.failure_rate:.0%} of {len(self.rows)} fail, {self.overall_rate:.0%} overall"


def find_slices(
    attributes: Mapping[str, Sequence[str] | npt.NDArray[np.str_]],
    failure: npt.ArrayLike,
    options: SliceOptions | None = None,
) -> list[AttributeSlice]:
    """Find the slices that fail most, best first, without those that another one explains.

    Args:
        attributes: Name to one value a record, (n,) each; an empty value is "not known" and makes no slice.
        failure: (n,) 1 failed, 0 not, or P(wrong).
        options: What counts.

    Raises:
        ValueError: lengths differ, or a failure is not in [0, 1].
    """
    options = options or SliceOptions()
    e = np.asarray(failure, float)
    n = e.size
    if any(len(column) != n for column in attributes.values()):
        raise ValueError(f"every attribute needs one value for each of {n} records")
    if n and not ((e >= 0) & (e <= 1)).all():
        raise ValueError("failures must lie in [0, 1]")
    if n < 2 * options.min_rows or not 0.0 < e.mean() < 1.0:
        return []
    search = _Search(e, options)
    matrix, names = _indicators(attributes, options.min_rows)
    if not names:
        return []
    search.run(matrix, [attribute for attribute, _ in names])
    return search.found(matrix, names)


def _indicators(
    attributes: Mapping[str, Sequence[str] | npt.NDArray[np.str_]], min_rows: int
) -> tuple[scipy.sparse.csc_matrix, list[tuple[str, str]]]:
    """(n, values) 0/1, one column for each value that is common enough, and what the columns mean."""
    columns, names = [], []
    for attribute, given in attributes.items():
        values, codes, counts = np.unique(np.asarray(given, str), return_inverse=True, return_counts=True)
        for code, (value, count) in enumerate(zip(values, counts, strict=True)):
            if value and min_rows <= count < len(codes):
                columns.append((codes == code).astype(np.float64))
                names.append((attribute, str(value)))
    return scipy.sparse.csc_matrix(np.stack(columns, axis=1) if columns else np.empty((0, 0))), names


class _Search:
    """One level-wise enumeration."""

    def __init__(self, failure: Floats, options: SliceOptions) -> None:
        self.e = failure
        self.mean = float(failure.mean())
        self.options = options
        self.kept: dict[tuple[int, ...], tuple[float, int, float]] = {}  # columns: score, size, failures
        self.looked_at = 0

    def score(self, size: Floats, failures: Floats) -> Floats:
        """SliceLine's score."""
        n, alpha = self.e.size, self.options.alpha
        return alpha * (failures / size / self.mean - 1.0) - (1.0 - alpha) * (n / size - 1.0)

    def bound(self, size: Floats, failures: Floats) -> Floats:
        """The best score that any part of a slice can have: its failures, packed into as few records as allowed."""
        least = np.clip(failures, self.options.min_rows, size)
        return np.maximum(self.score(least, np.minimum(failures, least)), self.score(size, failures))

    def run(self, matrix: scipy.sparse.csc_matrix, attribute_of: Sequence[str]) -> None:
        """Enumerate all levels."""
        level: list[tuple[int, ...]] = [(column,) for column in range(matrix.shape[1])]
        indicators = matrix
        for depth in range(1, self.options.levels + 1):
            size: Floats = np.asarray(indicators.sum(axis=0), np.float64).ravel()
            failures = np.asarray(indicators.T @ self.e).ravel()
            self.looked_at += len(level)
            alive = self._keep(level, size, failures)
            if depth == self.options.levels or len(alive) < 2:
                return
            survivors = {level[i]: i for i in alive}
            level, indicators = self._next(survivors, indicators, attribute_of)
            if not level:
                return

    def _keep(self, level: Sequence[tuple[int, ...]], size: Floats, failures: Floats) -> list[int]:
        enough = size >= self.options.min_rows
        safe = np.maximum(size, 1.0)
        score = self.score(safe, failures)
        for i in np.flatnonzero(enough & (score > 0)).tolist():
            self.kept[level[i]] = (float(score[i]), int(size[i]), float(failures[i]))
        worst = sorted((s for s, _, _ in self.kept.values()), reverse=True)[: self.options.keep * 10]
        needed = worst[-1] if len(worst) == self.options.keep * 10 else 0.0
        alive = np.flatnonzero(enough & (self.bound(safe, failures) > needed))
        if alive.size > _CANDIDATES:
            alive = alive[np.argsort(-self.bound(safe, failures)[alive])[:_CANDIDATES]]
        return [int(i) for i in alive]

    def _next(
        self, survivors: Mapping[tuple[int, ...], int], indicators: scipy.sparse.csc_matrix, attribute_of: Sequence[str]
    ) -> tuple[list[tuple[int, ...]], scipy.sparse.csc_matrix]:
        """Join slices that differ in their last condition; every parent must have survived."""
        groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for columns in survivors:
            groups.setdefault(columns[:-1], []).append(columns)
        pairs: list[tuple[int, int]] = []
        level: list[tuple[int, ...]] = []
        for group in groups.values():
            for a, b in combinations(sorted(group), 2):
                joined = (*a, b[-1])
                if attribute_of[a[-1]] == attribute_of[b[-1]]:
                    continue
                if len(joined) > 2 and any(part not in survivors for part in combinations(joined, len(joined) - 1)):
                    continue
                level.append(joined)
                pairs.append((survivors[a], survivors[b]))
        if not pairs:
            return [], indicators
        left, right = (np.fromiter(side, np.int64) for side in zip(*pairs, strict=True))
        return level, indicators[:, left].multiply(indicators[:, right]).tocsc()

    def found(self, matrix: scipy.sparse.csc_matrix, names: Sequence[tuple[str, str]]) -> list[AttributeSlice]:
        """The best slices of which each says something that the ones before it, and its own parts, do not."""
        result: list[AttributeSlice] = []
        open_rows = np.ones(self.e.size, bool)  # records that no slice so far explains
        ranked = sorted(self.kept.items(), key=lambda item: (-item[1][0], len(item[0]), item[0]))
        for columns, (score, size, failures) in ranked[:_TESTED]:
            inside = _members(matrix, columns)
            chance = min(1.0, self._chance(inside & open_rows, open_rows) * self.looked_at)
            if chance > self.options.surprise or self._parent_says_it(matrix, columns, inside, open_rows):
                continue
            open_rows &= ~inside
            result.append(
                AttributeSlice(
                    conditions=tuple(sorted(names[c] for c in columns)),
                    rows=np.flatnonzero(inside),
                    failure_rate=failures / size,
                    overall_rate=self.mean,
                    score=score,
                    p_value=chance,
                )
            )
            if len(result) == self.options.keep:
                break
        return result

    def _chance(self, inside: Mask, among: Mask) -> float:
        """Chance that a random group of that size has as many failures; 1 for a group that is too small."""
        size = int(inside.sum())
        if size < self.options.min_rows:
            return 1.0
        failures, total = round(float(self.e[inside].sum())), round(float(self.e[among].sum()))
        return float(scipy.stats.hypergeom.sf(failures - 1, int(among.sum()), total, size))

    def _parent_says_it(
        self, matrix: scipy.sparse.csc_matrix, columns: tuple[int, ...], inside: Mask, open_rows: Mask
    ) -> bool:
        """Whether leaving out one condition leaves a slice that fails as much: then the condition is noise."""
        if len(columns) == 1:
            return False
        for parent in combinations(columns, len(columns) - 1):
            among = _members(matrix, parent) & open_rows
            if self._chance(inside & open_rows, among) > self.options.surprise:
                return True
        return False


def _members(matrix: scipy.sparse.csc_matrix, columns: Sequence[int]) -> Mask:
    """(n,) whether a record meets every condition."""
    return np.asarray(np.asarray(matrix[:, list(columns)].sum(axis=1)).ravel() == len(columns), bool)
