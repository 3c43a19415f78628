"""How much reviewers agree where several looked at the same case.

References:
    Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20, 1960.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from monitoring.review.machine import Opinion

Pair = tuple[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Agreement between two opinions on one case, over all such pairs.

    Attributes:
        pairs: How many there are.
        share: Of the pairs, those that say the same; None without pairs.
        kappa: Cohen's: 1 is complete agreement, 0 what chance would give; None without pairs, or where everybody
            always says the same one thing, so that chance explains all.
    """

    pairs: int
    share: float | None
    kappa: float | None


def pairs_of(cases: Iterable[Iterable[Opinion]]) -> list[Pair]:
    """Two people's words on one case, for every two people; the people in the order of their names."""
    found: list[Pair] = []
    for opinions in cases:
        known = sorted(opinions, key=lambda x: x.actor)
        found += [(a.says, b.says) for a, b in combinations(known, 2)]
    return found


def agreement(pairs: Iterable[Pair]) -> Agreement:
    """Share and Cohen's kappa.

    Example:
        >>> yes, no = ("label", "yes"), ("label", "no")
        >>> agreement([(yes, yes), (no, no), (yes, no), (no, no)])
        Agreement(pairs=4, share=0.75, kappa=0.5)
    """
    known = list(pairs)
    n = len(known)
    if not n:
        return Agreement(pairs=0, share=None, kappa=None)
    same = sum(a == b for a, b in known) / n
    first, second = Counter(a for a, _ in known), Counter(b for _, b in known)
    chance = sum(first[word] * second[word] for word in first) / (n * n)
    return Agreement(pairs=n, share=same, kappa=None if chance >= 1.0 else (same - chance) / (1.0 - chance))
