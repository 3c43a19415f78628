"""Models of other libraries as packages: converted to ONNX by a converter, held against the library's own answers.

What is the same for all: the file is written, every row is answered by the library and by ONNX Runtime, and where
the two part beyond the tolerance there is no package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.assemble import Assembly, assemble
from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.manifest import FileRole, Provenance, RuntimeFile, RuntimeKind, Task, TaskKind, Tolerance
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature
from export.onnx_runner import onnx_runner
from export.package import Package
from export.parity import BATCH_SIZES
from export.runners import Runner

Array: TypeAlias = npt.NDArray[Any]

INPUT, PROBABILITIES, VALUE = "x", "probabilities", "value"
ONNX_FILE = "model.onnx"
OPSET, ML_OPSET, IR_VERSION = 18, 3, 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Converted:
    """A model as its library's converter left it.

    Attributes:
        write: Writes the ONNX file.
        trusted: The library's own answers.
        library: Its name, for the report.
        source: For the provenance.
    """

    write: Callable[[Path], None]
    trusted: Runner
    library: str
    source: str
    signature: Signature
    task: Task


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportOptions:
    """What is said about a model besides the model; as in `export.from_torch.export_module`.

    Attributes:
        reference_inputs: Held-out rows: parity is measured on them, golden cases are drawn from them.
        reference_labels: Their labels; with them a reference profile is made.
    """

    name: str
    version: str
    out_dir: Path | str
    reference_inputs: Any
    reference_labels: Sequence[Any] | Array | None = None
    golden: int = 16
    tolerance: Tolerance | None = None
    batch_sizes: Sequence[int] = BATCH_SIZES
    max_batch_rows: int = 256
    provenance: Provenance | None = None
    overwrite: bool = False
    seed: int = 0


def package_converted(made: Converted, inputs: Mapping[str, Array], o: ExportOptions) -> Package:
    """Write the package.

    Raises:
        ParityFailed: the file does not compute what the library computes; nothing is written.
        PackageError: what was given does not fit together; nothing is written.
    """

    def fill(folder: Path) -> dict[str, FileRole]:
        made.write(folder / ONNX_FILE)
        return {path.name: FileRole.WEIGHTS for path in folder.iterdir()}

    def candidates(folder: Path) -> dict[str, Runner]:
        return {RuntimeKind.ONNX.value: onnx_runner(folder / ONNX_FILE, made.signature)}

    rows = dict(inputs)
    return assemble(
        Assembly(
            name=o.name,
            version=o.version,
            task=made.task,
            signature=made.signature,
            runtimes=(RuntimeFile(kind=RuntimeKind.ONNX, path=ONNX_FILE),),
            trusted=made.trusted,
            trusted_name=made.library,
            samples=rows,
            reference=rows,
            labels=o.reference_labels,
            golden_rows=o.golden,
            tolerance=o.tolerance or Tolerance(),
            batch_sizes=tuple(o.batch_sizes),
            max_batch_rows=o.max_batch_rows,
            provenance=o.provenance,
            source=made.source,
            seed=o.seed,
        ),
        Path(o.out_dir),
        fill,
        candidates,
        overwrite=o.overwrite,
    )


def columns_of(given: Any, feature_names: Sequence[str]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Rows of numbers as the one input, and the names of its columns (those of a data frame, where it has some).

    Raises:
        PackageError: no table of numbers, or names that do not fit it.
    """
    named = tuple(str(name) for name in getattr(given, "columns", ()))
    try:
        table = np.ascontiguousarray(np.asarray(given), dtype=np.float32)
    except (TypeError, ValueError):
        raise PackageError(
            "reference_inputs: only columns of numbers can be exported: encode the others first"
        ) from None
    if table.ndim != 2 or not len(table):
        raise PackageError(f"reference_inputs: expected rows and columns, got the shape {list(table.shape)}")
    names = tuple(feature_names) or named
    if names and len(names) != table.shape[1]:
        raise PackageError(f"feature_names: {len(names)} names for {table.shape[1]} columns")
    return {INPUT: table}, names


def table_signature(columns: int, names: tuple[str, ...], outputs: int, *, classes: bool) -> Signature:
    """One matrix of numbers with named columns in; class probabilities, or one value, out."""
    display = InputDisplay(kind=InputKind.TABULAR, feature_names=names)
    given = InputSpec(
        name=INPUT, datatype=Datatype.FP32, shape=(-1, columns), axes=("batch", "feature"), display=display
    )
    answer = OutputSpec(
        name=PROBABILITIES if classes else VALUE,
        datatype=Datatype.FP32,
        shape=(-1, outputs),
        role=OutputRole.PROBABILITIES if classes else OutputRole.VALUE,
        axes=("batch", "class") if classes else ("batch", "value"),
    )
    return Signature(inputs=(given,), outputs=(answer,))


def class_task(classes: Sequence[Any], class_names: Sequence[str]) -> Task:
    """A classification with the estimator's classes, in its order.

    Raises:
        PackageError: another number of names than of classes.
    """
    names = tuple(class_names) or tuple(str(one) for one in classes)
    if len(names) != len(classes):
        raise PackageError(f"class_names: {len(names)} names for {len(classes)} classes")
    return Task(kind=TaskKind.CLASSIFICATION, class_names=names)


def labels_as_names(labels: Any, classes: Sequence[Any], task: Task) -> Any:
    """Labels as the estimator was given them, as names of classes; None stays None.

    Raises:
        PackageError: a label that the estimator does not know.
    """
    if labels is None or task.kind is not TaskKind.CLASSIFICATION:
        return labels
    index = {_plain(one): i for i, one in enumerate(classes)}
    try:
        return [task.class_names[index[_plain(label)]] for label in labels]
    except KeyError as error:
        raise PackageError(f"reference_labels: the model has no class {error}") from None


def finish_onnx(model: Any, outputs: Mapping[str, str]) -> bytes:
    """The file's bytes with only the outputs that are asked for, under their new names.

    Args:
        model: As the converter left it (`onnx.ModelProto`).
        outputs: {name in the file: name in the signature}.

    Raises:
        PackageError: the converter left no such output.
    """
    import onnx

    graph = model.graph
    found = {value.name: value for value in graph.output}
    missing = set(outputs) - set(found)
    if missing:
        raise PackageError(f"the converter left no output '{min(missing)}' (there are: {', '.join(found)})")
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    kept = [found[name] for name in outputs]
    del graph.output[:]
    for value in kept:
        wanted = outputs[value.name]
        if wanted != value.name:
            if wanted in taken:
                raise PackageError(f"the name '{wanted}' is taken inside the file")
            graph.node.append(onnx.helper.make_node("Identity", [value.name], [wanted]))
            value.name = wanted
        graph.output.append(value)
    _batch_first(graph)
    domains = {entry.domain: entry.version for entry in model.opset_import}  # some converters name one twice
    domains.setdefault("", OPSET)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, number) for domain, number in sorted(domains.items()))
    model.ir_version = min(model.ir_version, IR_VERSION)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise PackageError(f"the converter left a file that is not valid ONNX: {str(error).splitlines()[0]}") from None
    return bytes(model.SerializeToString())


def _batch_first(graph: Any) -> None:
    """Name the first dimension of inputs and outputs: requests are merged along it."""
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
