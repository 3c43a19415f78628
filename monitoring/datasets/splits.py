"""Groups that must not be torn apart, and the split of each: pure functions of sets of rows.

Two rows belong together when they share any of their keys: the group that they came with, the case that stands for
them, the hash of their inputs. So near-duplicates are never on both sides of a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import xxhash

from export.contracts.dataset import Split
from export.dataset.rows import DatasetRow
from monitoring.datasets.recipes import Recipe, SplitBy

STRICTEST = (Split.TEST, Split.VALIDATION, Split.TRAIN)
"""Where rows of one group were in several splits before, all go to the first of these: nothing tested is trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A row that may go into a snapshot.

    Attributes:
        keys: Of what it must stay with.
        settled: It was in this split before, and stays.
        fresh: Not in the base snapshot.
        cls: Its class, "" where labels are no classes.
        leader: The case that stands for its group; its own where it has none.
    """

    row: DatasetRow
    keys: tuple[str, ...]
    settled: bool = False
    fresh: bool = True
    cls: str = ""
    leader: str = ""


def components(keys: Sequence[Sequence[str]]) -> list[str]:
    """The name of each row's group: the first, in the order of the alphabet, of all keys in it.

    Example:
        >>> components([("g:a", "c:1"), ("g:b", "c:2"), ("g:c", "c:1"), ("g:b",)])
        ['c:1', 'c:2', 'c:1', 'c:2']
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for own in keys:
        first = root(own[0])
        for key in own[1:]:
            other = root(key)
            low, high = sorted((first, other))
            parent[high] = first = low
    return [root(own[0]) for own in keys]


def lot(seed: int, name: str) -> int:
    """A number drawn for a name: 64 bits, the same in every run."""
    return xxhash.xxh64_intdigest(f"{seed}\0{name}".encode("utf-8", "surrogatepass"))


def with_splits(candidates: Sequence[Candidate], recipe: Recipe) -> list[DatasetRow]:
    """The rows with their groups and splits. The order of the rows leaves no trace.

    A group with a row that is settled follows it. The others are dealt out class by class, so that the shares hold for
    every class as nearly as whole groups allow: a group goes to test, or to validation, as soon as what that split
    should have by now is ahead of what it has by half of the group.
    """
    names = components([c.keys for c in candidates])
    members: dict[str, list[Candidate]] = {}
    for name, candidate in zip(names, candidates, strict=True):
        members.setdefault(name, []).append(candidate)
    split_of: dict[str, Split] = {}
    free: list[tuple[tuple[object, ...], str, int]] = []
    for name, group in members.items():
        before = {c.row.split for c in group if c.settled}
        if before:
            split_of[name] = next(s for s in STRICTEST if s in before)
        elif recipe.split_by is SplitBy.TIME:
            free.append(((-max(c.row.time_ns for c in group), name), name, len(group)))
        else:
            free.append(((min(c.cls for c in group), lot(recipe.seed, name), name), name, len(group)))
    free.sort()
    dealt = _newest(free, recipe) if recipe.split_by is SplitBy.TIME else _dealt(free, recipe)
    split_of |= dealt
    return [
        replace(candidate.row, group=name, split=split_of[name])
        for name, candidate in zip(names, candidates, strict=True)
    ]


def _dealt(groups: Sequence[tuple[tuple[object, ...], str, int]], recipe: Recipe) -> dict[str, Split]:
    found: dict[str, Split] = {}
    seen = 0
    has = {Split.TEST: 0, Split.VALIDATION: 0}
    shares = {Split.TEST: recipe.test, Split.VALIDATION: recipe.validation}
    for _, name, size in groups:
        seen += size
        found[name] = Split.TRAIN
        for split, share in shares.items():
            if share and share * seen - has[split] >= size / 2:
                found[name] = split
                has[split] += size
                break
    return found


def _newest(groups: Sequence[tuple[tuple[object, ...], str, int]], recipe: Recipe) -> dict[str, Split]:
    """Newest first: test, then validation, then training."""
    total = sum(size for _, _, size in groups)
    found: dict[str, Split] = {}
    seen = 0
    for _, name, size in groups:
        middle = (seen + size / 2) / total
        seen += size
        if middle <= recipe.test:
            found[name] = Split.TEST
        elif middle <= recipe.test + recipe.validation:
            found[name] = Split.VALIDATION
        else:
            found[name] = Split.TRAIN
    return found
