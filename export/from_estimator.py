"""A trained model of any library that can be exported: which one it is decides how."""

from __future__ import annotations

from typing import Any

from export.contracts.errors import PackageError
from export.package import Package


def export_estimator(model: Any, **options: Any) -> Package:
    """Export a model of scikit-learn, XGBoost or Keras; see `export_sklearn`, `export_xgboost`, `export_keras`.

    Raises:
        ParityFailed: the file does not compute what the model computes.
        PackageError: a model of another library, or one that cannot be exported.
    """
    roots = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    if "keras" in roots:
        from export.from_keras import export_keras

        return export_keras(model, **options)
    if "xgboost" in roots:  # before scikit-learn: it is an estimator of that, too
        from export.from_xgboost import export_xgboost

        return export_xgboost(model, **options)
    if "sklearn" in roots:
        from export.from_sklearn import export_sklearn

        return export_sklearn(model, **options)
    raise PackageError(
        f"{type(model).__name__} is no model of scikit-learn, XGBoost or Keras; modules of PyTorch go to export_module"
    )
