"""Models of scikit-learn, XGBoost and Keras as packages: real libraries, real data, held against their own answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from export.admission import admit
from export.contracts.errors import PackageError, ParityFailed
from export.contracts.manifest import Task, TaskKind
from export.contracts.signature import InputKind, OutputRole
from export.from_estimator import export_estimator
from export.from_sklearn import export_sklearn
from export.onnx_runner import onnx_runner
from export.package import Package

pytest.importorskip("skl2onnx", reason="pip install 'hardcase[sklearn]'")
NAMES = [f"n{i}" for i in range(10)]


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    x, y = load_digits(return_X_y=True)
    return x.astype(np.float32), np.array(NAMES)[y]  # labels are words: what comes out must be in the right order


@pytest.fixture(scope="module")
def diabetes() -> tuple[Any, Any]:
    x, y = load_diabetes(return_X_y=True)
    return x.astype(np.float32), y.astype(np.float32)


def answers(package: Package, rows: Any) -> Any:
    """What ONNX Runtime makes of the file in the package."""
    run = onnx_runner(package.dir / "model.onnx", package.manifest.signature)
    (answer,) = run({"x": rows}).values()
    return answer


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
        RandomForestClassifier(n_estimators=10, max_depth=6, random_state=0),
        CalibratedClassifierCV(LinearSVC(), cv=2),
    ],
    ids=["pipeline", "forest", "calibrated"],
)
def test_a_classifier_answers_as_predict_proba_does(model: Any, digits: tuple[Any, Any], tmp_path: Path):
    x, y = digits
    model.fit(x[:600] / 16, y[:600])
    package = export_estimator(
        model, name="digits", version="1", out_dir=tmp_path / "p", reference_inputs=x[600:1000] / 16,
        reference_labels=y[600:1000], feature_names=[f"pixel_{i}" for i in range(64)],
    )  # fmt: skip
    assert answers(package, x[1000:1100] / 16) == pytest.approx(model.predict_proba(x[1000:1100] / 16), abs=1e-4)
    manifest = package.manifest
    assert manifest.task.class_names == tuple(NAMES)
    (spec,) = manifest.signature.outputs
    assert (spec.name, spec.role, spec.shape) == ("probabilities", OutputRole.PROBABILITIES, (-1, 10))
    (given,) = manifest.signature.inputs
    assert given.display.kind is InputKind.TABULAR
    assert given.display.feature_names[:2] == ("pixel_0", "pixel_1")
    assert package.reference() is not None
    assert manifest.provenance.source.startswith("scikit-learn:sklearn.")
    assert admit(package.dir).digest == package.digest


@pytest.mark.parametrize("model", [Ridge(), GradientBoostingRegressor(n_estimators=10)], ids=["ridge", "boosting"])
def test_a_regressor_answers_as_predict_does(model: Any, diabetes: tuple[Any, Any], tmp_path: Path):
    x, y = diabetes
    model.fit(x[:300], y[:300])
    package = export_estimator(
        model, name="d", version="1", out_dir=tmp_path / "p", reference_inputs=x[300:], reference_labels=y[300:]
    )
    assert answers(package, x[:9])[:, 0] == pytest.approx(model.predict(x[:9]), rel=1e-3)
    assert package.manifest.task.kind is TaskKind.REGRESSION
    assert package.manifest.signature.outputs[0].role is OutputRole.VALUE
    admit(package.dir)


def test_a_data_frame_gives_the_columns_their_names(diabetes: tuple[Any, Any], tmp_path: Path):
    import pandas as pd

    frame = pd.DataFrame(diabetes[0], columns=[f"col {i}" for i in range(10)])
    model = Ridge().fit(frame, diabetes[1])
    package = export_sklearn(model, name="d", version="1", out_dir=tmp_path / "p", reference_inputs=frame)
    assert package.manifest.signature.inputs[0].display.feature_names == tuple(frame.columns)


def test_a_conversion_that_answers_otherwise_is_stopped(digits: tuple[Any, Any], tmp_path: Path):
    """The library's own answers are right by definition: where ONNX says something else, nothing is written."""
    x, y = digits
    model = LogisticRegression(max_iter=300).fit(x[:300] / 16, y[:300])
    export_sklearn(model, name="d", version="1", out_dir=tmp_path / "a", reference_inputs=x[:50] / 16)
    model.predict_proba = _rolled(model)
    with pytest.raises(ParityFailed, match="probabilities"):
        export_sklearn(model, name="d", version="2", out_dir=tmp_path / "b", reference_inputs=x[:50] / 16)
    assert not (tmp_path / "b").exists()


def _rolled(model: Any) -> Any:
    honest = type(model).predict_proba

    def predict_proba(rows: Any) -> Any:
        return np.roll(honest(model, rows), 1, axis=1)

    return predict_proba


class Unknown(BaseEstimator):
    """Nothing that skl2onnx knows."""

    def predict(self, x: Any) -> Any:
        return np.zeros(len(x))


def test_what_cannot_be_exported_says_why(digits: tuple[Any, Any], tmp_path: Path):
    x, y = digits
    x, options = x[:200] / 16, {"name": "d", "version": "1", "out_dir": tmp_path / "p"}
    svc = LinearSVC().fit(x, y[:200])
    with pytest.raises(PackageError, match="no predict_proba"):
        export_estimator(svc, reference_inputs=x, **options)
    many = MultiOutputClassifier(LogisticRegression(max_iter=300)).fit(x, np.stack([y[:200], y[:200]], axis=1))
    with pytest.raises(PackageError, match="several outputs"):
        export_estimator(many, reference_inputs=x, **options)
    with pytest.raises(PackageError, match="skl2onnx cannot convert Unknown"):
        export_estimator(Unknown(), reference_inputs=x, **options)
    ridge = Ridge().fit(x, np.arange(200.0))
    with pytest.raises(PackageError, match="columns of numbers"):
        export_estimator(ridge, reference_inputs=np.array([["a"] * 64]), **options)
    with pytest.raises(PackageError, match="3 names for 64 columns"):
        export_estimator(ridge, reference_inputs=x, feature_names=["a", "b", "c"], **options)
    with pytest.raises(PackageError, match="no model of scikit-learn"):
        export_estimator(object(), reference_inputs=x, **options)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("task", ["binary", "many", "value"])
def test_xgboost_answers_as_it_does_itself(task: str, digits: tuple[Any, Any], tmp_path: Path):
    xgboost = pytest.importorskip("xgboost", reason="pip install 'hardcase[xgboost]'")
    x, names = digits
    numbers = np.array([NAMES.index(name) for name in names])
    target = {"binary": (numbers > 4).astype(int), "many": numbers, "value": numbers.astype(np.float32)}[task]
    make = xgboost.XGBRegressor if task == "value" else xgboost.XGBClassifier
    model = make(n_estimators=4, max_depth=3, n_jobs=1).fit(x[:600], target[:600])
    package = export_estimator(
        model, name="d", version="1", out_dir=tmp_path / "p", reference_inputs=x[600:900],
        reference_labels=target[600:900],
    )  # fmt: skip
    wanted = model.predict(x[:9])[:, None] if task == "value" else model.predict_proba(x[:9])
    assert answers(package, x[:9]) == pytest.approx(wanted, abs=1e-4)
    admit(package.dir)

    # The same from its own file format, as `hardcase import model.ubj` reads it.
    from export.from_xgboost import export_xgboost, load_xgboost

    model.save_model(tmp_path / "model.ubj")
    loaded = load_xgboost(tmp_path / "model.ubj")
    again = export_xgboost(loaded, name="d", version="2", out_dir=tmp_path / "q", reference_inputs=x[600:900])
    assert answers(again, x[:9]) == pytest.approx(wanted, abs=1e-4)
    (tmp_path / "bad.ubj").write_bytes(b"nothing")
    with pytest.raises(PackageError, match=r"'bad\.ubj' is not a model of XGBoost"):
        load_xgboost(tmp_path / "bad.ubj")


@pytest.mark.slow  # tracing takes its time
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras' backend about numpy
def test_keras_answers_as_it_does_itself(digits: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    keras = pytest.importorskip("keras", reason="pip install 'hardcase[keras]'")
    x, names = digits
    images = (x / 16).reshape(-1, 8, 8, 1)
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    task = Task(kind=TaskKind.CLASSIFICATION, class_names=tuple(NAMES))
    package = export_estimator(
        model, task=task, name="digits", version="1", out_dir=tmp_path / "p", reference_inputs=images[:200],
        reference_labels=list(names[:200]),
    )  # fmt: skip
    (given,), (answer,) = package.manifest.signature.inputs, package.manifest.signature.outputs
    assert answer.role is OutputRole.PROBABILITIES
    got = onnx_runner(package.dir / "model.onnx", package.manifest.signature)({given.name: images[200:220]})
    assert got[answer.name] == pytest.approx(model.predict(images[200:220], verbose=0), abs=1e-5)
    admit(package.dir)

    from export.from_keras import export_keras, load_keras

    model.save(tmp_path / "model.keras")
    again = export_keras(
        load_keras(tmp_path / "model.keras"), task=task, name="digits", version="2", out_dir=tmp_path / "q",
        reference_inputs=images[:50],
    )  # fmt: skip
    assert again.manifest.version == "2"
