"""Behind `hardcase export` and `import`: models of scikit-learn, XGBoost and Keras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.errors import UsageError
from export.package import Package

TRAINED = (".ubj", ".json", ".keras")  # files of other libraries that hold no code


def export_trained(target: str, given: dict[str, Any], out: Path) -> Package:
    """A model of scikit-learn, XGBoost or Keras."""
    from export.from_estimator import export_estimator

    for needed in ("reference_inputs", "name", "version"):
        if given.get(needed) is None:
            raise UsageError(f"{target} returned no '{needed}'", "see export.converted.ExportOptions")
    given.setdefault("out_dir", out / f"{given['name']}-{given['version']}")
    try:
        return export_estimator(given.pop("estimator"), **given)
    except TypeError as error:
        if "argument" in str(error):
            raise UsageError(f"{target}: {error}", "see export.converted.ExportOptions") from None
        raise


def import_trained(file: Path, common: Mapping[str, Any], class_names: tuple[str, ...]) -> Package:
    """A model file of XGBoost or Keras: converted, and held against the library's own answers on the samples."""
    rows = common["samples"] if common["reference_inputs"] is None else common["reference_inputs"]
    if rows is None:
        raise UsageError("give real rows with --samples: the ONNX file is held against the library's answers on them")
    options = {name: common[name] for name in ("name", "version", "out_dir", "reference_labels")}
    if file.suffix.lower() == ".keras":
        from export.from_keras import export_keras, load_keras

        roles = common["output_roles"]
        return export_keras(load_keras(file), task=common["task"], output_roles=roles, reference_inputs=rows, **options)
    from export.from_xgboost import export_xgboost, load_xgboost

    if isinstance(rows, Mapping):
        rows = next(iter(rows.values()))
    return export_xgboost(load_xgboost(file), class_names=class_names, reference_inputs=rows, **options)
