"""Rehearsed changes: seeded, within range, never in place; and what a reference learns from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.contracts import accuracy as a
from export.contracts.reference import ReferenceProfile
from export.rehearsal import rehearse
from tests.support import monitor_world as w

CASES = {
    "picture, channels first": np.random.default_rng(0).random((12, 1, 8, 8)).astype(np.float32),
    "picture, channels last": np.random.default_rng(1).integers(0, 256, (12, 10, 9, 3)).astype(np.uint8),
    "table": np.random.default_rng(2).normal(size=(12, 5)).astype(np.float64),
}


@pytest.mark.parametrize("name", CASES)
def test_changes_are_seeded_keep_shape_and_type_and_leave_the_rows_alone(name: str) -> None:
    rows = CASES[name]
    before = rows.copy()
    first, again, other = (dict(rehearse({"x": rows}, seed)) for seed in (1, 1, 2))
    assert first
    assert (rows == before).all()
    for kind, made in first.items():
        assert made["x"].shape == rows.shape
        assert made["x"].dtype == rows.dtype
        assert np.isfinite(made["x"]).all()
        np.testing.assert_array_equal(made["x"], again[kind]["x"])
        if "picture" in name:
            assert rows.min() - 1e-6 <= made["x"].min() <= made["x"].max() <= rows.max() + 1e-6
    assert any((first[kind]["x"] != other[kind]["x"]).any() for kind in first)
    changed = [kind for kind, made in first.items() if (made["x"] != rows).any()]
    assert len(changed) >= 0.9 * len(first), "the weakest ones may miss all of twelve rows"


def test_stronger_is_farther() -> None:
    rows = CASES["picture, channels first"]
    made = dict(rehearse({"x": rows}, 0))
    for kind in ("blur", "noise", "swap", "mix"):
        distances = [float(np.abs(made[f"{kind} {step}"]["x"] - rows).mean()) for step in (1, 4, 8)]
        assert distances == sorted(distances)


def test_inputs_that_cannot_be_changed_are_left_and_alone_give_nothing() -> None:
    tokens, texts = np.arange(24).reshape(12, 2), np.array([b"a"] * 12, dtype=object)
    assert list(rehearse({"ids": tokens, "text": texts}, 0)) == []
    for _, made in rehearse({"x": CASES["table"], "ids": tokens}, 0):
        assert made["ids"] is tokens


def test_rehearsed_windows_survive_the_disk_and_their_errors_are_their_own(tmp_path: Path) -> None:
    profile = w.digits().profile
    profile.save(tmp_path)
    loaded, made = ReferenceProfile.load(tmp_path).accuracy, profile.accuracy
    assert loaded is not None
    assert made is not None
    assert loaded.kinds == made.kinds
    for name in ("prior", "features", "accuracy", "errors"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(made, name))
    transport = a.base_of(made, made.features) - made.accuracy
    np.testing.assert_allclose(made.errors[:, a.ESTIMATES.index("transport")], transport)
    # With its own window among the neighbours an estimate is nearly right; its stored error was made without that kind.
    own = made.errors[:, a.ESTIMATES.index("rehearsal")]
    at = int(np.argmax(np.abs(own)))
    found = a.read(made, made.features[at])
    assert found is not None
    assert abs(found.accuracy - made.accuracy[at]) < abs(own[at]) / 5


def test_transport_is_the_optimum_of_the_assignment() -> None:
    from scipy.optimize import linear_sum_assignment

    reference = w.digits().profile.accuracy
    assert reference is not None
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(10, 0.2), 40)
    prior = np.full(10, 0.1)
    one_each = replace(reference, prior=prior)
    # Each row forty times, so that cells of several rows cannot hide behind their mean: rows of a cell are alike.
    counts = a.count_sureness(one_each, np.repeat(p[:1], 40, axis=0))
    assert a.transport(one_each, counts) == pytest.approx(0.1, abs=1e-4), "all mass on one row: each class gets its p"
    counts = a.count_sureness(one_each, p)
    cost = 1.0 - p[:, np.repeat(np.arange(10), 4)]
    exact = 1.0 - cost[linear_sum_assignment(cost)].mean()
    pooled = a.transport(one_each, counts)
    assert pooled is not None
    assert exact - 0.25 <= pooled <= exact + 1e-4, "rows that move together cost at least as much"


def test_how_sure_the_model_was_adds_up_whatever_the_batches() -> None:
    reference = w.digits().profile.accuracy
    assert reference is not None
    p = np.random.default_rng(1).dirichlet(np.full(10, 0.3), 101)
    p[7] = np.nan
    whole = a.count_sureness(reference, p)
    parts = sum((a.count_sureness(reference, p[i : i + 13]) for i in range(0, 101, 13)), np.zeros_like(whole))
    np.testing.assert_array_equal(whole, parts)
    assert whole[0] == 100
    assert a.mean_confidence(whole) == pytest.approx(np.nanmax(p[np.isfinite(p).all(axis=1)], axis=1).mean(), abs=1e-5)
    assert a.count_sureness(reference, p[:0]).sum() == 0
