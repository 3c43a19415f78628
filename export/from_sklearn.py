"""A fitted scikit-learn estimator or pipeline → a package, by way of skl2onnx (`pip install hardcase[sklearn]`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.contracts.errors import PackageError
from export.contracts.manifest import Task, TaskKind
from export.converted import (
    INPUT,
    ML_OPSET,
    OPSET,
    PROBABILITIES,
    VALUE,
    Array,
    Converted,
    ExportOptions,
    class_task,
    columns_of,
    finish_onnx,
    labels_as_names,
    package_converted,
    table_signature,
)
from export.package import Package
from export.runners import Runner, first_line


def export_sklearn(
    estimator: Any,
    *,
    feature_names: Sequence[str] = (),
    class_names: Sequence[str] = (),
    **options: Any,
) -> Package:
    """Export a classifier with `predict_proba`, or a regressor of one value.

    Args:
        estimator: Fitted; a pipeline counts as one. Its input is a table of numbers.
        feature_names: Of the columns; default: those of the data frame.
        class_names: In the order of `classes_`; default: the classes themselves.
        options: Fields of `export.converted.ExportOptions`: name, version, out_dir, reference_inputs, ...

    Returns:
        The package; its input is `x` (FP32, a row of columns), its output `probabilities` or `value`.

    Raises:
        ParityFailed: ONNX Runtime does not answer what the estimator answers. Trees that split close to values of the
            rows do this, because ONNX compares in 32 bits: fit on float32 columns.
        PackageError: skl2onnx is not installed, or cannot convert it.
    """
    return package_estimator(
        estimator, _convert, "scikit-learn", feature_names=feature_names, class_names=class_names, **options
    )


def package_estimator(
    estimator: Any,
    convert: Any,
    library: str,
    *,
    feature_names: Sequence[str],
    class_names: Sequence[str],
    **options: Any,
) -> Package:
    """What is common to everything that looks like an estimator of scikit-learn.

    Args:
        estimator: See `export_sklearn`.
        convert: `convert(estimator, columns, classes) -> bytes` of the ONNX file with the output that is wanted.
        library: Its name.
        feature_names: See `export_sklearn`.
        class_names: See `export_sklearn`.
        options: Fields of `ExportOptions`.
    """
    rows, names = columns_of(options["reference_inputs"], feature_names)
    columns = rows[INPUT].shape[1]
    classes = getattr(estimator, "classes_", None)
    if classes is not None and not hasattr(estimator, "predict_proba"):
        raise PackageError(
            f"{type(estimator).__name__} has no predict_proba: wrap it, for one in CalibratedClassifierCV"
        )
    if classes is not None and (isinstance(classes, list) or np.ndim(classes) != 1):
        raise PackageError("several outputs at once cannot be exported: one estimator for each")
    task = Task(kind=TaskKind.REGRESSION) if classes is None else class_task(list(classes), class_names)
    answers = 1 if classes is None else len(task.class_names)
    data = convert(estimator, columns, classes is not None)

    def write(path: Path) -> None:
        path.write_bytes(data)

    made = Converted(
        write=write,
        trusted=_trusted(estimator, classes is not None),
        library=library,
        source=f"{library}:{type(estimator).__module__}.{type(estimator).__qualname__}",
        signature=table_signature(columns, names, answers, classes=classes is not None),
        task=task,
    )
    labels = labels_as_names(options.pop("reference_labels", None), [] if classes is None else list(classes), task)
    return package_converted(made, rows, ExportOptions(**options, reference_labels=labels))


def _trusted(estimator: Any, classifies: bool) -> Runner:
    """The estimator's own answers. It gets an array without column names, as ONNX does."""
    frame = getattr(estimator, "feature_names_in_", None)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows: Any = inputs[INPUT]
        if frame is not None:
            import pandas as pd

            rows = pd.DataFrame(rows, columns=list(frame))
        if classifies:
            return {PROBABILITIES: np.asarray(estimator.predict_proba(rows), dtype=np.float32)}
        return {VALUE: np.asarray(estimator.predict(rows), dtype=np.float32).reshape(len(inputs[INPUT]), -1)}

    return run


def _convert(estimator: Any, columns: int, classifies: bool) -> bytes:
    try:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType
    except ImportError:
        raise PackageError("skl2onnx is not installed: pip install 'hardcase[sklearn]'") from None
    options = {id(estimator): {"zipmap": False}} if classifies else None
    try:
        model = to_onnx(
            estimator,
            initial_types=[(INPUT, FloatTensorType([None, columns]))],
            options=options,
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )
    except Exception as error:  # skl2onnx raises kinds of its own, and those of whatever it meets
        raise PackageError(f"skl2onnx cannot convert {type(estimator).__name__}: {first_line(error)}") from error
    return finish_onnx(model, {"probabilities": PROBABILITIES} if classifies else {"variable": VALUE})
