"""Which rows are taken when not all may be, and how much each counts: pure functions of sets of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from export.contracts.dataset import Split
from export.dataset.rows import DatasetRow
from monitoring.datasets.recipes import Balance, Recipe
from monitoring.datasets.splits import Candidate, components, lot


def choose(candidates: Sequence[Candidate], recipe: Recipe) -> tuple[list[Candidate], Counter[str]]:
    """Those that quotas allow, and how many each quota left out.

    The first row of every group comes before the second of any, groups in a drawn order: what is taken is as different
    as can be. Settled rows are all taken, unless `base_rows` says how many.
    """
    left_out: Counter[str] = Counter()
    base = [c for c in candidates if not c.fresh]
    if recipe.base_rows and len(base) > recipe.base_rows:
        kept = _shares(base, recipe.base_rows, recipe.seed)
        left_out["base_rows"] += len(base) - len(kept)
        base = kept
    fresh = [c for c in candidates if c.fresh]
    per_class: Counter[str] = Counter()
    per_slice: Counter[str] = Counter()
    taken: list[Candidate] = []
    for candidate in _varied(fresh, recipe.seed):
        why = _refused(candidate, recipe, per_class, per_slice, len(taken))
        if why:
            left_out[why] += 1
            continue
        taken.append(candidate)
        per_class[candidate.cls] += 1
        per_slice.update(candidate.row.slices)
    return base + taken, left_out


def weigh(
    rows: Sequence[DatasetRow], fresh: frozenset[str], classes: Sequence[str], recipe: Recipe
) -> list[DatasetRow]:
    """The rows with their weights; of training rows the mean is 1. Others keep theirs.

    Args:
        rows: All rows.
        fresh: Ids of those that are new.
        classes: Class of each row.
        recipe: For `new_share` and `balance`.
    """
    train = [i for i, row in enumerate(rows) if row.split is Split.TRAIN]
    new = sum(rows[i].row_id in fresh for i in train)
    old = len(train) - new
    weights = {i: 1.0 for i in train}
    if recipe.new_share and new and old:
        for i in train:
            share = recipe.new_share / new if rows[i].row_id in fresh else (1.0 - recipe.new_share) / old
            weights[i] = share * len(train)
    if recipe.balance is Balance.WEIGHTS:
        total: dict[str, float] = {}
        for i in train:
            total[classes[i]] = total.get(classes[i], 0.0) + weights[i]
        for i in train:
            weights[i] *= len(train) / (len(total) * total[classes[i]])
    return [row if i not in weights else replace(row, weight=round(weights[i], 9)) for i, row in enumerate(rows)]


def _refused(candidate: Candidate, recipe: Recipe, per_class: Counter[str], per_slice: Counter[str], taken: int) -> str:
    if taken >= recipe.max_rows:
        return "max_rows"
    if recipe.class_rows and candidate.cls and per_class[candidate.cls] >= recipe.class_rows:
        return "class_rows"
    for name in candidate.row.slices:
        quota = recipe.slice_quotas.get(name, recipe.slice_rows or None)
        if quota is not None and per_slice[name] >= quota:
            return "slice_rows"
    return ""


def _varied(candidates: Sequence[Candidate], seed: int) -> list[Candidate]:
    names = components([c.keys for c in candidates])
    order = sorted(range(len(candidates)), key=lambda i: (lot(seed, candidates[i].row.row_id), i))
    seen: Counter[str] = Counter()
    placed = []
    for i in order:
        placed.append((seen[names[i]], lot(seed, names[i]), candidates[i].row.row_id, i))
        seen[names[i]] += 1
    return [candidates[i] for _, _, _, i in sorted(placed)]


def _shares(candidates: Sequence[Candidate], rows: int, seed: int) -> list[Candidate]:
    """So many of them, every class and split by its share, as nearly as whole rows allow."""
    order = sorted(candidates, key=lambda c: (c.row.split.value, c.cls, lot(seed, c.row.row_id), c.row.row_id))
    step = len(order) / rows
    return [order[int((i + 0.5) * step)] for i in range(rows)]
