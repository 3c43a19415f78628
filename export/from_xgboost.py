"""A fitted XGBoost model → a package, by way of onnxmltools (`pip install hardcase[xgboost]`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.contracts.errors import PackageError
from export.converted import INPUT, PROBABILITIES, VALUE, finish_onnx
from export.from_sklearn import package_estimator
from export.package import Package
from export.runners import first_line

XGBOOST_OPSET = 15  # the newest that the converter knows


def export_xgboost(
    model: Any, *, feature_names: Sequence[str] = (), class_names: Sequence[str] = (), **options: Any
) -> Package:
    """Export an `XGBClassifier` or `XGBRegressor`.

    Args:
        model: Fitted, with numeric columns. A bare `Booster` does not say what it predicts: load its file into one of
            the two.
        feature_names: Of the columns; default: those of the data frame.
        class_names: In the order of the classes.
        options: Fields of `export.converted.ExportOptions`.

    Raises:
        ParityFailed: ONNX Runtime does not answer what XGBoost answers.
        PackageError: xgboost or onnxmltools is not installed, or the model cannot be converted.
    """
    if not hasattr(model, "get_booster"):
        raise PackageError(f"{type(model).__name__} is neither an XGBClassifier nor an XGBRegressor")
    return package_estimator(
        model, _convert, "xgboost", feature_names=feature_names, class_names=class_names, **options
    )


def load_xgboost(path: Path) -> Any:
    """A model file of XGBoost (`.ubj` or `.json`) as a classifier or regressor, by its objective. Not a pickle.

    Raises:
        PackageError: not such a file, or xgboost is not installed.
    """
    try:
        from xgboost import Booster, XGBClassifier, XGBRegressor
        from xgboost.core import XGBoostError
    except ImportError:
        raise PackageError("xgboost is not installed: pip install 'hardcase[xgboost]'") from None
    try:
        booster = Booster(model_file=str(path))
        objective = str(_objective(booster))
        model = XGBClassifier() if objective.startswith(("binary:", "multi:")) else XGBRegressor()
        model.load_model(path)
    except (XGBoostError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"'{path.name}' is not a model of XGBoost: {first_line(error)}") from None
    return model


def _objective(booster: Any) -> str:
    import json

    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def _convert(model: Any, columns: int, classifies: bool) -> bytes:
    try:
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType
    except ImportError:
        raise PackageError("onnxmltools is not installed: pip install 'hardcase[xgboost]'") from None
    booster = model.get_booster()
    named = booster.feature_names
    booster.feature_names = None  # the converter wants f0, f1, ...; the columns keep their order
    try:
        made = convert_xgboost(
            model, initial_types=[(INPUT, FloatTensorType([None, columns]))], target_opset=XGBOOST_OPSET
        )
    except Exception as error:  # of the converter's own kinds
        raise PackageError(f"onnxmltools cannot convert {type(model).__name__}: {first_line(error)}") from error
    finally:
        booster.feature_names = named
    return finish_onnx(made, {"probabilities": PROBABILITIES} if classifies else {"variable": VALUE})
