"""Bring an existing ONNX file in as a package: its signature is read from the file, its rules are checked first."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from export.admission_limits import AdmissionLimits
from export.admission_onnx import check_onnx
from export.admission_operators import ONNX_ELEMENT_TYPES
from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.manifest import Provenance, RuntimeKind, Task, Tolerance
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import InputDisplay, InputSpec, OutputRole, OutputSpec, Signature
from export.from_torchscript import import_torchscript
from export.importing import Checked, ImportOptions, bring_in
from export.onnx_runner import onnx_runner
from export.package import Package
from export.package_files import is_safe_path
from export.parity import BATCH_SIZES

__all__ = ["OnnxDescription", "describe_onnx", "import_onnx", "import_torchscript"]
ONNX_FILE = "model.onnx"
Array: TypeAlias = npt.NDArray[Any]
_DATATYPES = {number: datatype for datatype, number in ONNX_ELEMENT_TYPES.items()}
_log = logging.getLogger("hardcase.export")


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxDescription:
    """What an ONNX file says of itself.

    Attributes:
        signature: Roles are all OTHER: a file does not say what its outputs mean.
        external: Files with external data, relative to the model file.
        notes: What a person should know: fixed batch dimensions, unnamed axes.
    """

    signature: Signature
    external: tuple[str, ...]
    notes: tuple[str, ...]


def import_onnx(
    path: Path | str,
    *,
    name: str,
    version: str,
    task: Task,
    out_dir: Path | str,
    output_roles: Mapping[str, OutputRole] | None = None,
    displays: Mapping[str, InputDisplay] | None = None,
    preprocess: Mapping[str, ImageDecode] | None = None,
    samples: Any = None,
    made_up: bool = True,
    reference_inputs: Any = None,
    reference_labels: Sequence[Any] | Array | None = None,
    golden: int = 16,
    tolerance: Tolerance | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    max_batch_rows: int = 256,
    provenance: Provenance | None = None,
    overwrite: bool = False,
    seed: int = 0,
) -> Package:
    """Make a package of an ONNX file.

    The package gets golden cases, and the file must answer a row alike at every batch size: on real rows (`samples` or
    `reference_inputs`), or else on made-up ones, and the manifest's provenance says which. Made-up rows show that a
    later load computes what the file computes today; they do not show what it computes on your data.

    Args:
        path: The `.onnx` file; external data is taken from beside it.
        name: Of the model.
        version: Of the package.
        task: What is predicted; class names are counted out (0, 1, ...) when a class output has none.
        out_dir: Folder to write.
        output_roles: By output name; those not given are guessed conservatively, see `export.roles`.
        displays: How people see an input, by input name.
        preprocess: Inputs that clients send as encoded images, by input name; see `export.preprocess.image_input`. Rows
            of such an input are given as the files' bytes or paths.
        samples: Real rows by input name (or in the file's order).
        made_up: Make rows up where there are no real ones; otherwise the file is only tried on such rows, and nothing
            of them is kept.
        reference_inputs: Held-out rows for the reference profile; also serve as samples.
        reference_labels: Their labels.
        golden: Rows that are stored with their outputs.
        tolerance: Elementwise tolerance of parity and golden cases.
        batch_sizes: Sizes at which the file must answer alike.
        max_batch_rows: Largest batch that serving may form.
        provenance: Default: now, this environment, this git commit.
        overwrite: Replace a package that is at `out_dir`.
        seed: Of every random choice.

    Raises:
        AdmissionRefused: the file breaks a rule; it is not run then.
        ParityFailed: it answers differently at different batch sizes.
        PackageError: it cannot be run, or what was given does not fit.
    """
    source = Path(path)
    described = describe_onnx(source)
    for note in described.notes:
        _log.warning("%s: %s", name, note)
    sizes = {ONNX_FILE: source.stat().st_size}
    sizes |= {location: (source.parent / location).stat().st_size for location in described.external}
    check_onnx(source.read_bytes(), sizes, described.signature, AdmissionLimits())
    found = Checked(
        kind=RuntimeKind.ONNX,
        file=source,
        path=ONNX_FILE,
        beside=described.external,
        signature=described.signature,
        open=onnx_runner,
    )
    options = ImportOptions(
        name=name,
        version=version,
        task=task,
        out_dir=out_dir,
        output_roles=output_roles,
        displays=displays or {},
        preprocess=preprocess,
        samples=samples,
        made_up=made_up,
        reference_inputs=reference_inputs,
        reference_labels=reference_labels,
        golden=golden,
        tolerance=tolerance,
        batch_sizes=batch_sizes,
        max_batch_rows=max_batch_rows,
        provenance=provenance,
        overwrite=overwrite,
        seed=seed,
    )
    return bring_in(found, options)


def describe_onnx(path: Path) -> OnnxDescription:
    """Read an ONNX file's inputs and outputs without making a session.

    Raises:
        PackageError: not an ONNX file, or an input or output that no request could carry.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        model = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # protobuf and shape inference raise unrelated kinds
        raise PackageError(f"'{path.name}' is not a readable ONNX file ({type(error).__name__})") from None
    if not model.graph.node:  # a few stray bytes parse as an empty protobuf message
        raise PackageError(f"'{path.name}' is not an ONNX file: no graph is in it")
    stored = {t.name for t in model.graph.initializer}
    inputs = [(v.name, *_tensor("input", v)) for v in model.graph.input if v.name not in stored]
    outputs = [(v.name, *_tensor("output", v)) for v in model.graph.output]
    notes: list[str] = []
    fixed = [f"{n} {list(s)}" for n, _, s in (*inputs, *outputs) if not s or s[0] != -1]
    batched = not fixed
    if fixed:
        notes.append(
            f"the first dimension is fixed ({', '.join(fixed)}): requests are not merged into batches; "
            "export with a dynamic batch dimension for throughput"
        )
    try:
        signature = Signature(
            inputs=tuple(InputSpec(name=n, datatype=d, shape=s) for n, d, s in inputs),
            outputs=tuple(OutputSpec(name=n, datatype=d, shape=s) for n, d, s in outputs),
            batched=batched,
        )
    except ValueError as error:
        raise PackageError(f"signature: {error}") from None
    return OnnxDescription(signature=signature, external=_external(model, path.parent), notes=tuple(notes))


def _tensor(kind: str, value: Any) -> tuple[Datatype, tuple[int, ...]]:
    if not value.type.HasField("tensor_type"):
        hint = " (scikit-learn: convert with zipmap=False)" if value.type.HasField("sequence_type") else ""
        raise PackageError(f"{kind} '{value.name}' is not a tensor{hint}")
    tensor = value.type.tensor_type
    datatype = _DATATYPES.get(tensor.elem_type)
    if datatype is None:
        raise PackageError(f"{kind} '{value.name}' has an element type that the protocol cannot carry")
    if not tensor.HasField("shape"):
        raise PackageError(f"{kind} '{value.name}' has no stated rank: set its shape in the file")
    dims = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else -1 for d in tensor.shape.dim]
    return datatype, tuple(int(d) for d in dims)


def _external(model: Any, folder: Path) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != 1:
            continue
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        if not is_safe_path(location) or location == ONNX_FILE:
            raise PackageError("the file takes external data from outside its folder, or from an unusable name")
        if not (folder / location).is_file():
            raise PackageError(f"external data '{location}' is not beside the file")
        found[location] = None
    return tuple(found)
