"""Slices by answer favour neither of two equal versions."""

from __future__ import annotations

import numpy as np

from export.contracts.manifest import TaskKind
from monitoring.gate import paired
from monitoring.gate.contracts import SetKind
from monitoring.gate.evaluated import Asked, compare
from monitoring.gate.job import GateSet
from monitoring.gate.judge import Judged
from monitoring.gate.paired import Paired

CLASSES = ("common", "rare")


def two_equals(rng: np.random.Generator, n: int = 2_000) -> tuple[list[str], Judged, Judged]:
    """Two versions that both find half of the rare class, independently, and call nothing else so."""
    truths = ["rare" if x else "common" for x in rng.random(n) < 0.1]

    def judged() -> Judged:
        found = rng.random(n) < 0.5
        answers = ["rare" if t == "rare" and f else "common" for t, f in zip(truths, found, strict=True)]
        good: list[float | None] = [float(a == t) for a, t in zip(answers, truths, strict=True)]
        return Judged(goodness=good, finite=[True] * n, confidence=[None] * n, answers=answers, facts=[{}] * n)

    return truths, judged(), judged()


def test_what_either_version_answers_favours_neither() -> None:
    rng = np.random.default_rng(0)
    either = of_champion = 0
    for _ in range(100):
        truths, champion, candidate = two_equals(rng)
        ids = [str(i) for i in range(len(truths))]
        nothing = [()] * len(ids)
        asked = Asked(digest="", ids=ids, records=ids, truths=truths, slices=nothing, left_out=[False] * len(ids))
        given = GateSet(name="audited", kind=SetKind.AUDITED, folder="")
        made = compare(given, asked, champion, candidate, TaskKind.CLASSIFICATION, CLASSES, {}).evaluated
        either += worse(made.champion, made.candidate, made.slices["answered rare"])
        called = np.array([answer == "rare" for answer in champion.answers])
        of_champion += worse(made.champion, made.candidate, called)
    assert either <= 5
    assert of_champion == 100  # the slice that nobody must make


def worse(champion: np.ndarray, candidate: np.ndarray, mask: np.ndarray) -> bool:
    old, new = champion[mask], candidate[mask]
    counts = Paired(n=len(old), gains=int((new > old).sum()), losses=int((new < old).sum()))
    return paired.worse_p(counts) <= 0.01


def test_a_slice_that_is_the_whole_set_is_not_asked_twice() -> None:
    rng = np.random.default_rng(1)
    truths, champion, candidate = two_equals(rng, 100)
    ids = [str(i) for i in range(100)]
    asked = Asked(
        digest="", ids=ids, records=ids, truths=truths, slices=[("all", f"s{i % 2}") for i in range(100)],
        left_out=[False] * 100,
    )  # fmt: skip
    given = GateSet(name="audited", kind=SetKind.AUDITED, folder="")
    made = compare(given, asked, champion, candidate, TaskKind.CLASSIFICATION, CLASSES, {"s0": "even"}).evaluated
    assert "slice all" not in made.slices
    assert {"slice even", "slice s1", "class rare", "answered rare"} <= set(made.slices)
