"""Slices by embedding, on the digits: planted failures are found, noise is not, and slices are recognised again."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from monitoring.slices.clusters import Known, find_clusters


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    data = load_digits()
    return PCA(32, random_state=0).fit_transform(data.data / 16.0), data.target


def test_planted_failures_are_found_and_the_most_typical_members_belong_to_them(
    digits: tuple[np.ndarray, np.ndarray],  # type: ignore[type-arg]
) -> None:
    """Real embeddings; the model fails on one neighbourhood of 60 images around a random one."""
    embedding, _ = digits
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    rng, hits, precise, worlds = np.random.default_rng(7), 0, [], 12
    for _ in range(worlds):
        around = np.argsort(-(unit @ unit[rng.integers(len(unit))]))[:60]
        chance = np.full(len(unit), 0.04)
        chance[around] = 0.6
        found = find_clusters(embedding, rng.random(len(unit)) < chance)
        best = max((np.isin(s.rows[:10], around).mean() for s in found), default=0.0)
        precise.append(best)
        hits += best >= 0.6
    assert hits >= worlds * 0.5, precise
    assert np.median(precise) >= 0.7


def test_failures_at_random_make_no_slice(digits: tuple[np.ndarray, np.ndarray]) -> None:  # type: ignore[type-arg]
    """Were the clusters shaped by the failures, as Domino's are, each of these worlds would have slices."""
    embedding, _ = digits
    rng = np.random.default_rng(8)
    found = [find_clusters(embedding, rng.random(len(embedding)) < 0.05) for _ in range(10)]
    assert sum(map(len, found)) <= 2, [len(f) for f in found]


def test_a_slice_is_recognised_when_its_members_change(digits: tuple[np.ndarray, np.ndarray]) -> None:  # type: ignore[type-arg]
    embedding, target = digits
    rng = np.random.default_rng(9)

    def day(failing: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        rows = rng.choice(len(embedding), 1_000, replace=False)
        return embedding[rows], rng.random(1_000) < np.where(np.isin(target[rows], failing), 0.5, 0.02)

    first = find_clusters(*day((3,)))
    assert first
    known = [Known(identity=s.identity, centre=s.centre) for s in first]
    second = find_clusters(*day((3, 6)), known)
    kept = {s.identity for s in second} & {s.identity for s in first}
    assert kept, "threes still fail, and are the same slice"
    fresh = [s for s in second if s.identity not in {k.identity for k in known}]
    assert fresh, "sixes are another one"
    assert len({s.identity for s in second}) == len(second)


def test_equal_inputs_give_equal_slices_and_bad_ones_are_refused(digits: tuple[np.ndarray, np.ndarray]) -> None:  # type: ignore[type-arg]
    embedding, target = digits
    once, again = (find_clusters(embedding, target == 3) for _ in range(2))
    assert [(s.identity, s.rows.tolist()) for s in once] == [(s.identity, s.rows.tolist()) for s in again]
    assert find_clusters(embedding[:10], target[:10] == 3) == []
    assert find_clusters(embedding, np.zeros(len(embedding))) == []
    with pytest.raises(ValueError, match="shape"):
        find_clusters(embedding, np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        find_clusters(np.full((100, 4), np.nan), np.zeros(100))
