"""A Keras 3 model → a package, by Keras' own ONNX export (`pip install hardcase[keras]`, `KERAS_BACKEND=torch`)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from export.contracts.errors import PackageError
from export.contracts.manifest import Task
from export.contracts.signature import InputDisplay, OutputRole
from export.converted import Array, Converted, ExportOptions, package_converted
from export.from_onnx import describe_onnx
from export.package import Package
from export.roles import complete_task, with_roles
from export.runners import Runner, first_line, named_arrays


def export_keras(
    model: Any,
    *,
    task: Task,
    displays: Mapping[str, InputDisplay] | None = None,
    output_roles: Mapping[str, OutputRole] | None = None,
    **options: Any,
) -> Package:
    """Export a model that takes and returns arrays with the batch as their first axis.

    Args:
        model: Built, and trained.
        task: What is predicted, with the class names.
        displays: How people see an input, by its name in the file.
        output_roles: By the output's name in the file; those not given are guessed conservatively.
        options: Fields of `export.converted.ExportOptions`.

    Raises:
        ParityFailed: ONNX Runtime does not answer what Keras answers.
        PackageError: Keras cannot export it with this backend.
    """
    given = options["reference_inputs"]
    arrays = list(given.values()) if isinstance(given, Mapping) else list(_several(given))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        try:
            _call(model, [a[:2] for a in arrays])  # a model that was never called cannot be exported
            with warnings.catch_warnings():  # tracing warns of what Keras' own layers do
                warnings.simplefilter("ignore")
                model.export(str(file), format="onnx", verbose=False)
        except Exception as error:  # of Keras, of its backend, and of that one's exporter
            raise PackageError(f"Keras cannot export {type(model).__name__}: {first_line(error)}") from error
        data = file.read_bytes()
        described = describe_onnx(file)
    if described.external or not described.signature.batched:
        raise PackageError("Keras left a file with a fixed batch, or in pieces: it cannot be used")
    names = [spec.name for spec in described.signature.inputs]
    if not isinstance(given, Mapping) or sorted(given) != sorted(names):
        given = dict(zip(names, arrays, strict=True))
    rows = named_arrays(given, described.signature, "reference_inputs")
    outputs = [spec.name for spec in described.signature.outputs]
    trusted = _runner(model, names, outputs)
    shown = trusted({name: array[:64] for name, array in rows.items()})
    signature = with_roles(described.signature, shown, task, output_roles or {}, displays or {})
    signature = replace(
        signature,
        outputs=tuple(replace(o, shape=(-1, *shown[o.name].shape[1:])) for o in signature.outputs),
    )

    def write(path: Path) -> None:
        path.write_bytes(data)

    made = Converted(
        write=write,
        trusted=trusted,
        library="keras",
        source=f"keras:{type(model).__module__}.{type(model).__qualname__}",
        signature=signature,
        task=complete_task(task, signature),
    )
    return package_converted(made, rows, ExportOptions(**options))


def load_keras(path: Path) -> Any:
    """A `.keras` file as a model. It may hold no code: Keras' safe mode stays on.

    Raises:
        PackageError: not such a file, or Keras is not installed.
    """
    try:
        import keras
    except ImportError:
        raise PackageError("Keras is not installed: pip install 'hardcase[keras]'") from None
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # of Keras' own kinds
        raise PackageError(f"'{path.name}' is not a model of Keras: {first_line(error)}") from None


def _several(given: Any) -> Sequence[Array]:
    return [np.asarray(a) for a in given] if isinstance(given, tuple | list) else [np.asarray(given)]


def _runner(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Runner:
    def run(arrays: Mapping[str, Array]) -> dict[str, Array]:
        found = _call(model, [arrays[name] for name in inputs])
        return dict(zip(outputs, found, strict=True))

    return run


def _call(model: Any, arrays: Sequence[Array]) -> list[Array]:
    """One call in inference mode; `predict` would set up a loop for each."""
    import keras

    with warnings.catch_warnings():  # of Keras' backends, about each other
        warnings.simplefilter("ignore")
        answer = model(arrays[0] if len(arrays) == 1 else list(arrays), training=False)
        if isinstance(answer, Mapping):
            answer = list(answer.values())
        every = answer if isinstance(answer, tuple | list) else [answer]
        return [np.asarray(keras.ops.convert_to_numpy(one)) for one in every]
