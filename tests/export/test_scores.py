"""Scores equal slow, obvious oracles, and one bad row spoils itself only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax as scipy_softmax
from scipy.stats import entropy as scipy_entropy

from export.contracts import scores as s

rng = np.random.default_rng(0)
LOGITS = rng.normal(0, 3, (200, 10))
P = s.softmax(LOGITS)
SCORES: list[Callable[[Any], Any]] = [s.msp, s.margin, s.entropy, s.gen]


@pytest.mark.parametrize("score", SCORES, ids=lambda f: f.__name__)
def test_every_score_is_one_float64_a_row_and_leaves_its_input_alone(score: Callable[[Any], Any]) -> None:
    before = P.copy()
    out = score(P)
    assert out.shape == (200,)
    assert out.dtype == np.float64
    np.testing.assert_array_equal(P, before)
    np.testing.assert_array_equal(out, score(P))


@pytest.mark.parametrize("score", SCORES, ids=lambda f: f.__name__)
def test_every_score_keeps_the_order_of_rows(score: Callable[[Any], Any]) -> None:
    order = rng.permutation(200)
    np.testing.assert_array_equal(score(P[order]), score(P)[order])


@pytest.mark.parametrize("score", SCORES, ids=lambda f: f.__name__)
def test_a_row_that_is_not_finite_scores_nan_and_no_other_row_changes(score: Callable[[Any], Any]) -> None:
    spoiled = P.copy()
    spoiled[7] = np.nan
    out = score(spoiled)
    assert np.isnan(out[7])
    np.testing.assert_array_equal(np.delete(out, 7), np.delete(score(P), 7))


def test_softmax_equals_scipy_survives_huge_logits_and_sums_to_one() -> None:
    np.testing.assert_allclose(s.softmax(LOGITS, 1.7), scipy_softmax(LOGITS / 1.7, axis=1), rtol=1e-12)
    np.testing.assert_allclose(s.softmax(np.array([[1e308, -1e308, 0.0]])), [[1, 0, 0]])


def test_tempering_probabilities_equals_dividing_their_logits() -> None:
    np.testing.assert_allclose(s.temper(P, 2.5), s.softmax(LOGITS, 2.5), rtol=1e-9)


def test_entropy_equals_scipy_and_is_zero_for_certainty() -> None:
    np.testing.assert_allclose(s.entropy(P), scipy_entropy(P, axis=1), rtol=1e-9)
    assert s.entropy(np.eye(3)).tolist() == [0, 0, 0]


def test_margin_is_the_gap_between_the_two_largest() -> None:
    expected = [sorted(row)[-1] - sorted(row)[-2] for row in P]
    np.testing.assert_allclose(s.margin(P), expected)
    assert s.margin(np.array([[0.3]])).tolist() == [0.3]


def test_gen_follows_the_paper_and_counts_only_the_top_classes() -> None:
    row = np.sort(P[0])[::-1]
    np.testing.assert_allclose(s.gen(P)[0], np.sum(row**0.1 * (1 - row) ** 0.1))
    np.testing.assert_allclose(s.gen(P, top=3)[0], np.sum(row[:3] ** 0.1 * (1 - row[:3]) ** 0.1))


def test_rmds_equals_the_definition_with_explicit_inverses() -> None:
    h = rng.normal(size=(300, 5))
    y = rng.integers(0, 3, 300)
    h += y[:, None]
    n = s.normalise(h)
    means = np.stack([n[y == k].mean(axis=0) for k in range(3)])
    within = np.cov((n - means[y]).T, bias=True) + 1e-3 * np.eye(5)
    total = np.cov(n.T, bias=True) + 1e-3 * np.eye(5)
    factor, background = (np.linalg.cholesky(np.linalg.inv(c)) for c in (within, total))
    got = s.rmds(
        h,
        factor=factor,
        centres=means @ factor,
        background_factor=background,
        background_centre=n.mean(axis=0) @ background,
    )
    for i in (0, 17, 299):
        near = min((n[i] - m) @ np.linalg.inv(within) @ (n[i] - m) for m in means)
        far = (n[i] - n.mean(axis=0)) @ np.linalg.inv(total) @ (n[i] - n.mean(axis=0))
        np.testing.assert_allclose(got[i], near - far, rtol=1e-8)


def test_rmds_ignores_a_class_without_a_mean_and_the_length_of_embeddings() -> None:
    h = rng.normal(size=(20, 4))
    arguments: dict[str, Any] = {
        "factor": np.eye(4),
        "background_factor": np.eye(4),
        "background_centre": np.zeros(4),
    }
    centres = s.normalise(rng.normal(size=(3, 4)))
    missing = np.vstack([centres, np.full(4, np.nan)])
    np.testing.assert_allclose(
        s.rmds(h, centres=centres, **arguments), s.rmds(h * 7.5, centres=missing, **arguments), atol=1e-12
    )


def test_random_features_approximate_the_gaussian_kernel() -> None:
    h = rng.normal(size=(40, 8))
    n, bandwidth = s.normalise(h), 0.9
    features = s.random_fourier_features(h, rng.standard_normal((8, 20_000)) / bandwidth)
    square = ((n[:, None] - n[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(features @ features.T, np.exp(-square / (2 * bandwidth**2)), atol=0.03)


def test_the_failure_model_is_the_logistic_it_says() -> None:
    model = s.FailureModel(features=("msp",), mean=(0.5,), scale=(0.1,), weights=(-2.0,), intercept=0.3)
    got = model.predict({"msp": np.array([0.7])})
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-(0.3 - 2.0 * 2.0))))
    with pytest.raises(KeyError):
        model.predict({"margin": np.array([0.7])})


def test_every_score_name_says_which_tail_is_suspicious() -> None:
    sure, unsure = np.array([[0.98, 0.01, 0.01]]), np.array([[0.34, 0.33, 0.33]])
    a, b = s.softmax_scores(sure), s.softmax_scores(unsure)
    for name in a:
        assert (b[name] > a[name])[0] == s.ScoreName(name).high_is_suspicious


def test_no_rows_give_no_scores() -> None:
    for score in SCORES:
        assert score(np.empty((0, 10))).shape == (0,)
    eye = np.eye(4)
    assert s.rmds(np.empty((0, 4)), factor=eye, centres=eye, background_factor=eye, background_centre=eye[0]).shape == (
        0,
    )
