"""The compiled reference: fits what it claims, is held to out-of-fold honesty, and survives the disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasketches import kll_floats_sketch

from export.contracts.reference import MMD_LEVELS, QUANTILE_LEVELS, REFERENCE_FILE, ReferenceProfile
from export.contracts.scores import ScoreName, normalise, rmds, softmax
from export.reference import compile_reference, fit_temperature
from export.reference_failure import augrc, fit_failure_model
from tests.support import packages as p

Arrays = dict[str, np.ndarray[Any, Any]]


def world(rows: int, seed: int, noise: float = 1.2) -> tuple[Arrays, Arrays, np.ndarray[Any, Any]]:
    """Digits-shaped inputs, a model's answers and labels: ten Gaussian classes in a 64-dimensional embedding."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(10, 64))
    y = rng.integers(0, 10, rows)
    h = centres[y] + noise * rng.normal(size=(rows, 64)) * 2.0
    logits = 0.5 * (h @ centres.T) / noise
    x = rng.random((rows, 1, 8, 8)).astype(np.float32)
    return {"x": x}, {"logits": logits.astype(np.float32), "embedding": h.astype(np.float32)}, y


@cache
def profile() -> ReferenceProfile:
    inputs, outputs, y = world(600, 0)
    return compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, inputs, outputs, y)


def assert_equal(a: Any, b: Any) -> None:
    if is_dataclass(a):
        for f in fields(a):
            assert_equal(getattr(a, f.name), getattr(b, f.name))
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    elif isinstance(a, dict):
        assert set(a) == set(b)
        for key in a:
            assert_equal(a[key], b[key])
    else:
        assert a == b


def test_a_profile_survives_the_disk_and_stays_small(tmp_path: Path) -> None:
    names = profile().save(tmp_path)
    assert_equal(ReferenceProfile.load(tmp_path), profile())
    assert sum((tmp_path / n).stat().st_size for n in names) < 1_000_000


def test_a_profile_of_another_schema_or_with_a_lost_array_is_refused(tmp_path: Path) -> None:
    profile().save(tmp_path)
    good = (tmp_path / REFERENCE_FILE).read_text()
    (tmp_path / REFERENCE_FILE).write_text(good.replace('"schema_version":1', '"schema_version":2'))
    with pytest.raises(ValueError, match="schema version 2"):
        ReferenceProfile.load(tmp_path)
    (tmp_path / REFERENCE_FILE).write_text(good.replace('"scores":[', '"scores":["kindness",'))
    with pytest.raises(ValueError, match="kindness"):
        ReferenceProfile.load(tmp_path)


def test_the_same_data_and_seed_give_the_same_numbers() -> None:
    inputs, outputs, y = world(600, 0)
    again = compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, inputs, outputs, y)
    assert again.embedding is not None
    np.testing.assert_array_equal(again.embedding.mmd_scaled, profile().embedding.mmd_scaled)
    np.testing.assert_array_equal(again.frame, profile().frame)
    assert_equal(again.score_quantiles, profile().score_quantiles)


def test_counts_confusion_and_accuracy_are_those_of_the_data() -> None:
    _, outputs, y = world(600, 0)
    c, predicted = profile().classes, outputs["logits"].argmax(axis=1)
    assert c is not None
    assert c.label_counts.tolist() == np.bincount(y, minlength=10).tolist()
    assert c.predicted_counts.tolist() == np.bincount(predicted, minlength=10).tolist()
    assert c.confusion[3, 5] == ((y == 3) & (predicted == 5)).sum()
    assert c.accuracy == pytest.approx((y == predicted).mean())


def test_sketches_and_quantiles_describe_the_columns() -> None:
    inputs, _, _ = world(600, 0)
    column = profile().columns.index("x[17]")
    values = inputs["x"].reshape(600, -1)[:, 17]
    sketch = kll_floats_sketch.deserialize(profile().sketches[column])
    assert sketch.n == 600
    assert sketch.get_quantile(0.5) == pytest.approx(np.median(values), abs=0.06)
    assert profile().column_quantiles[column, 25] == pytest.approx(np.quantile(values, 0.25), abs=1e-6)
    assert profile().column_mean[column] == pytest.approx(values.mean(), abs=1e-6)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true_temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (6000, 5))
    chance = softmax(logits, true_temperature)
    y = np.array([rng.choice(5, p=row) for row in chance])
    temperature, nll, before = fit_temperature(logits, y)
    assert temperature == pytest.approx(true_temperature, rel=0.1)
    assert nll <= before + 1e-6


def test_a_model_without_errors_is_not_made_infinitely_sure() -> None:
    y = np.arange(300) % 5
    temperature, _, _ = fit_temperature(np.eye(5)[y] * 8.0, y)
    assert softmax(np.eye(5)[:1] * 8.0, temperature).max() < 0.9999


@pytest.mark.parametrize("name", [ScoreName.MSP, ScoreName.ENTROPY, ScoreName.GEN, ScoreName.RMDS, ScoreName.P_WRONG])
def test_fresh_healthy_rows_pass_a_quantile_about_as_often_as_it_says(name: ScoreName) -> None:
    _, outputs, _ = world(4000, 7)
    values = profile().scores(outputs["logits"], outputs["embedding"])[name]
    for level in (0.5, 0.95):
        threshold = profile().score_at(name, level)
        assert threshold is not None
        assert (values > threshold).mean() == pytest.approx(1 - level, abs=0.08 if level == 0.5 else 0.03)


def test_out_of_fold_distances_promise_less_wrongly_than_in_sample_ones() -> None:
    """The classic mistake: quantiles of a distance on the very rows that its Gaussians were fitted on."""
    from export.reference_embedding import fit_gaussians, out_of_fold_rmds

    off = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        _, outputs, y = world(150, seed)
        fresh = world(3000, 100 + seed)[1]["embedding"]
        fitted = fit_gaussians(normalise(outputs["embedding"]), y, 10)
        values = rmds(fresh, **fitted)
        for level in (0.25, 0.5, 0.75, 0.95):
            honest = np.quantile(out_of_fold_rmds(outputs["embedding"], y, 10, rng), level)
            naive = np.quantile(rmds(outputs["embedding"], **fitted), level)
            off.append([abs((values <= t).mean() - level) for t in (honest, naive)])
    honest_gap, naive_gap = np.mean(off, axis=0)
    assert honest_gap < 0.05
    assert honest_gap < 0.5 * naive_gap


def test_embeddings_of_no_class_are_novel() -> None:
    inputs, outputs, y = world(600, 0, noise=0.4)
    made = compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, inputs, outputs, y)
    stranger = np.random.default_rng(0).normal(size=(500, 64))
    assert (made.embedding.rmds(stranger) > made.score_at(ScoreName.RMDS, 0.99)).mean() > 0.95


def test_wrong_answers_are_suspicious() -> None:
    _, outputs, y = world(2000, 8)
    values = profile().scores(outputs["logits"], outputs["embedding"])
    wrong = outputs["logits"].argmax(axis=1) != y
    assert values["p_wrong"][wrong].mean() > 2 * values["p_wrong"][~wrong].mean()


@pytest.mark.parametrize("rows", [50, 500])
def test_healthy_windows_pass_the_mmd_threshold_at_the_stated_rate(rows: int) -> None:
    e = profile().embedding
    assert e is not None
    exceeded = [
        e.mmd_squared(e.features(world(rows, 1000 + i)[1]["embedding"]).mean(axis=0)) > e.mmd_threshold(rows, 0.95)
        for i in range(400)
    ]
    assert 0.01 <= np.mean(exceeded) <= 0.11


def test_a_shifted_window_is_far_over_the_mmd_threshold() -> None:
    e = profile().embedding
    assert e is not None
    shifted = world(200, 5)[1]["embedding"] + 2.0
    assert e.mmd_squared(e.features(shifted).mean(axis=0)) > 5 * e.mmd_threshold(200, 0.999)
    with pytest.raises(ValueError, match="level"):
        e.mmd_threshold(200, 0.5)
    assert sorted(e.mmd_scaled) == list(e.mmd_scaled)
    assert len(e.mmd_scaled) == len(MMD_LEVELS)


def test_few_errors_give_no_failure_model_and_p_wrong_is_one_minus_msp() -> None:
    inputs, outputs, y = world(300, 3, noise=0.3)
    made = compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, inputs, outputs, y)
    assert made.classes is not None
    assert made.classes.failure_model is None
    values = made.scores(outputs["logits"], outputs["embedding"])
    np.testing.assert_allclose(values["p_wrong"], 1 - values["msp"])


def test_the_failure_model_never_ranks_worse_than_msp_out_of_fold() -> None:
    rng = np.random.default_rng(4)
    for seed in range(5):
        n = 400
        values = {name.value: rng.random(n) for name in ScoreName if name is not ScoreName.P_WRONG}
        wrong = rng.random(n) < 1 - values["msp"]  # only MSP says anything
        model, predicted = fit_failure_model(values, wrong, seed)
        assert model is not None
        assert augrc(predicted, wrong) <= augrc(1 - values["msp"], wrong) * 1.02


def test_calibrated_p_wrong_predicts_the_number_of_errors() -> None:
    _, outputs, y = world(4000, 11)
    values = profile().scores(outputs["logits"], outputs["embedding"])
    wrong = outputs["logits"].argmax(axis=1) != y
    assert profile().classes.failure_model is not None
    assert values["p_wrong"].mean() == pytest.approx(wrong.mean(), abs=0.03)


def test_augrc_equals_its_definition_and_shares_risk_among_ties() -> None:
    rng = np.random.default_rng(2)
    s, wrong = rng.random(50), rng.random(50) < 0.3
    order = np.argsort(s)
    expected = np.mean([wrong[order][: k + 1].sum() / 50 for k in range(50)])
    assert augrc(s, wrong) == pytest.approx(expected)
    tied = [augrc(np.zeros(4), np.array(w, dtype=bool)) for w in ([1, 0, 1, 0], [0, 0, 1, 1])]
    assert tied[0] == pytest.approx(tied[1])


def test_labels_may_be_names_and_wrong_ones_are_refused_by_name() -> None:
    inputs, outputs, y = world(60, 0)
    by_name = compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, inputs, outputs, [str(i) for i in y])
    assert by_name.classes is not None
    assert by_name.classes.label_counts.tolist() == np.bincount(y, minlength=10).tolist()
    bad: list[tuple[Any, str]] = [
        (y[:-1], "59 labels for 60 rows"),
        (y + 5, r"0\.\.9"),
        (["seven"] * 60, "seven"),
        (np.eye(10)[y], "one label a row"),
    ]
    for labels, text in bad:
        with pytest.raises(ValueError, match=text):
            compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, inputs, outputs, labels)


def test_rows_that_are_not_finite_do_not_spoil_the_profile() -> None:
    inputs, outputs, y = world(600, 0)
    inputs["x"][0], outputs["logits"][1], outputs["embedding"][2] = np.nan, np.nan, np.inf
    made = compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, inputs, outputs, y)
    for grid in made.score_quantiles.values():
        assert np.isfinite(grid).all()
        assert len(grid) == len(QUANTILE_LEVELS)
    assert np.isfinite(made.column_quantiles).all()
    assert np.isfinite(made.embedding.feature_mean).all()
    assert np.isfinite(made.classes.temperature)


def test_a_few_rows_are_enough_to_compile_and_say_that_mmd_has_no_threshold() -> None:
    inputs, outputs, y = world(8, 0)
    made = compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, inputs, outputs, y)
    assert np.isnan(made.embedding.mmd_scaled).all()
    with pytest.raises(ValueError, match="no rows"):
        compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, {"x": inputs["x"][:0]}, outputs, None)


def test_embeddings_wider_than_the_rank_stay_within_the_size_bound(tmp_path: Path) -> None:
    from export.reference_embedding import compile_embedding, out_of_fold_rmds

    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 500)
    h = rng.normal(size=(500, 1024)) + 2 * np.eye(4, 1024)[y]
    made = compile_embedding("e", h, y, 4, rng)
    assert made is not None
    assert made.basis.shape == (1024, 256)
    assert made.factor.shape == (256, 256)
    assert all(v.nbytes <= 4 << 20 for v in vars(made).values() if isinstance(v, np.ndarray))
    assert np.isfinite(out_of_fold_rmds(h, y, 4, rng)).all()


MODELS: list[Callable[[Path], Any]] = [
    p.multi_input_package,
    p.echo_package,
    p.all_dtypes_package,
    p.regression_package,
    p.variable_length_package,
]


@pytest.mark.parametrize("factory", MODELS, ids=lambda f: f.__name__)
def test_models_of_every_kind_have_a_profile_with_the_parts_they_allow(factory: Any, tmp_path: Path) -> None:
    package = factory(tmp_path)
    golden, manifest = package.golden(), package.manifest
    labels = [0.5] * golden.rows if manifest.task.kind == "regression" else None
    made = compile_reference(manifest.signature, manifest.task, golden.inputs, golden.outputs, labels)
    made.save(tmp_path)
    assert_equal(ReferenceProfile.load(tmp_path), made)
    assert made.classes is None
    assert (made.value_quantiles is not None) == (manifest.task.kind == "regression")
    assert made.scores(None, None) == {}


@pytest.mark.parametrize("silent", [1, 10_000])
def test_changes_to_which_a_model_answers_nan_teach_nothing(silent: int) -> None:
    """Some of the rehearsed changes, or all of them: the reference is made without."""
    inputs, outputs, y = world(600, 0)
    calls = 0

    def answer(changed: Arrays) -> Arrays:
        nonlocal calls
        calls += 1
        rows = len(changed["x"])
        made = {name: array[:rows].copy() for name, array in outputs.items()}
        if calls <= silent:
            made["logits"][:] = np.nan
        return made

    made = compile_reference(p.DIGITS_SIGNATURE, p.DIGITS_TASK, inputs, outputs, y, answer=answer)
    assert calls > 5
    assert made.accuracy is not None
    learnt = {kind for kind in made.accuracy.kinds if kind not in ("none", "classes")}
    assert bool(learnt) is (silent == 1)
    assert np.isfinite(made.accuracy.features).all()
