"""P(wrong): the solver is right, the usual weights hold where there are few errors, and weights are never negative."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from export.contracts import scores as s
from export.contracts.scores.fitting import FOLDS, USUAL, _solve, cross_fit, effective
from export.contracts.scores.fusion import bounded
from export.contracts.scores.ranking import augrc, auroc
from export.reference_failure import choose_norm, fit_failure_model


def test_pnorm_equals_its_definition_and_survives_huge_logits() -> None:
    z = np.random.default_rng(0).normal(0, 3, (50, 7))
    for p in s.PNORM_CHOICES:
        c = z - z.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(s.pnorm(z, p), c.max(axis=1) / (np.abs(c) ** p).sum(axis=1) ** (1 / p), rtol=1e-9)
        np.testing.assert_allclose(s.pnorm(z * 1e80, p), s.pnorm(z, p), rtol=1e-9)
    assert s.pnorm(np.zeros((2, 3)), 2).tolist() == [0.0, 0.0]


def test_energy_equals_its_definition_and_survives_huge_logits() -> None:
    z = np.random.default_rng(0).normal(0, 3, (50, 7))
    np.testing.assert_allclose(s.energy(z, 2.0), -2.0 * np.log(np.exp(z / 2.0).sum(axis=1)), rtol=1e-9)
    assert s.energy(np.array([[1000.0, 0.0]])).tolist() == [-1000.0]


def test_neighbours_equal_slow_distances() -> None:
    rng = np.random.default_rng(1)
    h, bank = s.normalise(rng.normal(size=(30, 5))), s.normalise(rng.normal(size=(40, 5)))
    classes, predicted = np.sort(rng.integers(0, 3, 40)), rng.integers(0, 4, 30)
    cosines = s.likeness(h, bank)
    distance = np.linalg.norm(h[:, None] - bank[None], axis=2)
    np.testing.assert_allclose(s.knn(cosines), distance.min(axis=1), atol=1e-9)
    got = s.trust(cosines, classes, predicted)
    for i in range(30):
        own = distance[i][classes == predicted[i]].min(initial=9.0)
        own = np.sqrt(2.0) if own == 9.0 else own  # class 3 is not in the bank
        assert got[i] == pytest.approx(np.log(own / distance[i][classes != predicted[i]].min()), abs=1e-9)
    assert np.isnan(s.trust(cosines, np.zeros(40, dtype=int), predicted)).all()


@pytest.mark.parametrize("score", [lambda z: s.pnorm(z, 3), s.energy])
def test_a_row_that_is_not_finite_spoils_itself_only(score) -> None:  # type: ignore[no-untyped-def]
    z = np.random.default_rng(0).normal(size=(9, 4))
    spoiled = z.copy()
    spoiled[4, 1] = np.nan
    out = score(spoiled)
    assert np.isnan(out[4])
    np.testing.assert_array_equal(np.delete(out, 4), np.delete(score(z), 4))


def test_auroc_and_augrc_with_weights_equal_repeated_rows() -> None:
    rng = np.random.default_rng(2)
    suspicion, wrong = rng.random(60).round(1), rng.random(60) < 0.3
    times = rng.integers(1, 4, 60)
    repeated = np.repeat(suspicion, times), np.repeat(wrong, times)
    assert auroc(suspicion, wrong, times) == pytest.approx(auroc(*repeated))
    pairs = [(a > b) + 0.5 * (a == b) for a in suspicion[wrong] for b in suspicion[~wrong]]
    assert auroc(suspicion, wrong) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc(suspicion, np.zeros(60, dtype=bool)))
    assert np.isnan(augrc(np.empty(0), np.empty(0, dtype=bool)))


@pytest.mark.parametrize("pull", [0.1, 60.0])
def test_the_solver_finds_what_scipy_finds(pull: float) -> None:
    rng = np.random.default_rng(3)
    x, w, usual = rng.normal(size=(200, 4)), rng.random(200), np.array([1.0, 0.5, 0.0, 0.2])
    y = (rng.random(200) < 1 / (1 + np.exp(-(x @ [1.5, -1.0, 0.3, 0.0] - 1)))).astype(float)
    weights, level = _solve(x, y, w, usual, pull)

    def loss(t):  # type: ignore[no-untyped-def]
        z = x @ t[:4] + t[4]
        return (w * (np.logaddexp(0, z) - y * z)).sum() + pull / 2 * ((t[:4] - usual) ** 2).sum() + 5e-4 * t[4] ** 2

    best = minimize(loss, np.zeros(5), bounds=[(0, None)] * 4 + [(None, None)], method="L-BFGS-B", tol=1e-12)
    np.testing.assert_allclose([*weights, level], best.x, atol=2e-4)
    assert weights.min() >= 0


def test_weights_that_are_equal_count_as_none_do() -> None:
    np.testing.assert_allclose(effective(np.full(7, 3.0)), 1.0)
    assert effective(np.array([10.0, 1.0, 1.0])).sum() == pytest.approx(144 / 102)


def test_few_errors_leave_the_usual_weights_nearly_as_they_are() -> None:
    rng = np.random.default_rng(0)
    values = {"msp": rng.beta(8, 1, 300), "trust": rng.normal(size=300), "gen": rng.random(300)}
    wrong = np.zeros(300, dtype=bool)
    wrong[np.argsort(values["msp"])[:6]] = True
    made = cross_fit(values, ("msp", "gen", "trust"), wrong, np.arange(300) % FOLDS)
    ratio = np.array(made.model.weights) / made.model.weights[0]
    np.testing.assert_allclose(ratio, [USUAL["msp"], USUAL["gen"], USUAL["trust"]], atol=0.15)
    assert made.predicted.mean() == pytest.approx(0.02, abs=0.02)


def test_evidence_far_outside_keeps_its_order_and_stays_bounded() -> None:
    far = bounded(np.array([-1e12, -5.0, 0.0, 5.0, 1e12]))
    assert (np.diff(far) > 0).all()
    assert abs(far[-1]) < 35


def test_a_norm_is_chosen_only_where_it_beats_msp() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, (500, 5))
    p = s.msp(s.softmax(z))
    assert choose_norm(z, np.zeros(500, dtype=bool), p) is None
    wrong = s.pnorm(z, 4) < np.quantile(s.pnorm(z, 4), 0.1)
    assert choose_norm(z, wrong, p) == 4


def test_fewer_than_five_errors_are_not_enough_for_a_model() -> None:
    values = {"msp": np.linspace(0.5, 1, 100)}
    wrong = np.arange(100) < 4
    model, predicted = fit_failure_model(values, wrong, 0)
    assert model is None
    np.testing.assert_array_equal(predicted, 1 - values["msp"])
