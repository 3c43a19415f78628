"""Bring an existing TorchScript file in as a package. The file carries no shapes: the signature is given."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from export.admission_archive import check_torchscript
from export.admission_limits import AdmissionLimits
from export.assemble import Assembly, assemble
from export.contracts.errors import PackageError
from export.contracts.manifest import FileRole, Provenance, RuntimeFile, RuntimeKind, Task, Tolerance
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import OutputRole, OutputSpec, Signature
from export.package import Package
from export.parity import BATCH_SIZES
from export.preprocess import Encoding
from export.roles import complete_task, with_roles
from export.runners import Runner, named_arrays, trial_outputs
from export.torch_runner import torchscript_runner

TORCHSCRIPT_FILE = "model.pt"
Array: TypeAlias = npt.NDArray[Any]


def import_torchscript(
    path: Path | str,
    *,
    name: str,
    version: str,
    task: Task,
    out_dir: Path | str,
    signature: Signature,
    output_roles: Mapping[str, OutputRole] | None = None,
    preprocess: Mapping[str, ImageDecode] | None = None,
    samples: Any = None,
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
    """Make a package of a TorchScript file; `export.from_onnx.import_onnx` explains the arguments.

    `signature` is of the model's own tensors, or of what clients send when its inputs declare preprocessing themselves.
    TorchScript is code, and it runs here: only bring in files that you trust as you trust a program.

    Raises:
        AdmissionRefused: the file breaks a rule; it is not run then.
        ParityFailed: it answers differently at different batch sizes.
        PackageError: it cannot be run, or its answers do not fit the signature.
    """
    source = Path(path)
    with source.open("rb") as file:
        check_torchscript(file, AdmissionLimits())
    inputs, outputs = [i.name for i in signature.inputs], [o.name for o in signature.outputs]
    encoding = Encoding(signature, preprocess or {})
    signature = encoding.wire
    runner = encoding.wrap(torchscript_runner(source, inputs, outputs))
    reference = None if reference_inputs is None else named_arrays(reference_inputs, signature, "reference")
    real = reference if samples is None else named_arrays(samples, signature, "samples")
    shown = trial_outputs(runner, signature, real, max_rows=max(batch_sizes))
    for spec in signature.outputs:
        if shown is not None:
            _fits(spec, shown[spec.name])
    given = {o.name: o.role for o in signature.outputs if o.role is not OutputRole.OTHER} | dict(output_roles or {})
    complete = with_roles(signature, shown, task, given, {})

    def fill(folder: Path) -> dict[str, FileRole]:
        shutil.copyfile(source, folder / TORCHSCRIPT_FILE)
        return {TORCHSCRIPT_FILE: FileRole.WEIGHTS}

    def candidates(folder: Path) -> dict[str, Runner]:
        made = torchscript_runner(folder / TORCHSCRIPT_FILE, inputs, outputs)
        return {RuntimeKind.TORCHSCRIPT.value: encoding.wrap(made)}

    return assemble(
        Assembly(
            name=name,
            version=version,
            task=complete_task(task, complete),
            signature=complete,
            runtimes=(RuntimeFile(kind=RuntimeKind.TORCHSCRIPT, path=TORCHSCRIPT_FILE),),
            trusted=runner,
            trusted_name="the imported file",
            samples=real,
            reference=reference,
            labels=reference_labels,
            golden_rows=golden,
            tolerance=tolerance or Tolerance(),
            batch_sizes=tuple(batch_sizes),
            max_batch_rows=max_batch_rows,
            provenance=provenance,
            source=f"torchscript:{source.name}",
            seed=seed,
        ),
        Path(out_dir),
        fill,
        candidates,
        overwrite=overwrite,
    )


def _fits(spec: OutputSpec, array: Array) -> None:
    shape = list(array.shape)
    if array.dtype != spec.datatype.numpy:
        raise PackageError(f"output '{spec.name}' is {array.dtype}, the signature says {spec.datatype}")
    fits = len(shape) == len(spec.shape) and all(s in (-1, n) for s, n in zip(spec.shape, shape, strict=True))
    if not fits:
        raise PackageError(f"output '{spec.name}' has shape {shape}, the signature says {list(spec.shape)}")
