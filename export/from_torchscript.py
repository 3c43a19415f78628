"""Bring an existing TorchScript file in as a package. The file carries no shapes: the signature is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from export.admission_archive import check_torchscript
from export.admission_limits import AdmissionLimits
from export.contracts.manifest import Provenance, RuntimeKind, Task, Tolerance
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import OutputRole, Signature
from export.importing import Checked, ImportOptions, bring_in
from export.package import Package
from export.parity import BATCH_SIZES
from export.torch_runner import signed_runner

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

    found = Checked(
        kind=RuntimeKind.TORCHSCRIPT, file=source, path=TORCHSCRIPT_FILE, signature=signature, open=signed_runner
    )
    options = ImportOptions(
        name=name,
        version=version,
        task=task,
        out_dir=out_dir,
        output_roles=output_roles,
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
