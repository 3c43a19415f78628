"""The common way of a file that somebody else made: try it, learn what its outputs mean, prove it, write a package.

`export.from_onnx` and `export.from_torchscript` say what differs between the formats, as a `Checked`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from export.assemble import Assembly, assemble
from export.contracts.bf16 import numbers
from export.contracts.errors import PackageError
from export.contracts.manifest import FileRole, Provenance, RuntimeFile, RuntimeKind, SampleSource, Task, Tolerance
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import InputDisplay, InputSpec, OutputRole, OutputSpec, Signature
from export.made_up import made_up_rows
from export.package import Package
from export.parity import BATCH_SIZES
from export.preprocess import Encoding
from export.roles import complete_task, with_roles
from export.runners import Runner, in_batches, named_arrays
from export.tolerances import default_tolerance

Array: TypeAlias = npt.NDArray[Any]
_log = logging.getLogger("hardcase.export")


@dataclass(frozen=True, kw_only=True, eq=False)
class Checked:
    """A file that broke no rule, and what its format needs.

    Attributes:
        kind: Of the runtime.
        file: Where it is.
        path: What it is called in the package.
        beside: Further files of it, relative to its folder and to the package.
        signature: Of the model's own tensors, or of what clients send where inputs declare preprocessing.
        open: Makes a runner of a file on the model's own tensors.
    """

    kind: RuntimeKind
    file: Path
    path: str
    signature: Signature
    open: Callable[[Path, Signature], Runner]
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportOptions:
    """What is said about a file besides the file; `export.from_onnx.import_onnx` explains the fields."""

    name: str
    version: str
    task: Task
    out_dir: Path | str
    output_roles: Mapping[str, OutputRole] | None = None
    displays: Mapping[str, InputDisplay] = field(default_factory=dict)
    preprocess: Mapping[str, ImageDecode] | None = None
    samples: Any = None
    made_up: bool = True
    reference_inputs: Any = None
    reference_labels: Sequence[Any] | Array | None = None
    golden: int = 16
    tolerance: Tolerance | None = None
    batch_sizes: Sequence[int] = BATCH_SIZES
    max_batch_rows: int = 256
    provenance: Provenance | None = None
    overwrite: bool = False
    seed: int = 0


def bring_in(found: Checked, o: ImportOptions) -> Package:
    """Write the package of a checked file.

    Raises:
        ParityFailed: it answers differently at different batch sizes.
        PackageError: it cannot be run, or what was given does not fit.
    """
    encoding = Encoding(found.signature, o.preprocess or {})

    def opened(path: Path) -> Runner:
        return encoding.wrap(found.open(path, encoding.model))

    runner = opened(found.file)
    reference = None if o.reference_inputs is None else named_arrays(o.reference_inputs, encoding.wire, "reference")
    real = reference if o.samples is None else named_arrays(o.samples, encoding.wire, "samples")
    samples = real
    if real is None:
        samples, shown = _tried(o, with_roles(encoding.wire, None, o.task, {}, o.displays), runner)
    else:
        most = max(o.batch_sizes)
        shown = _answers(runner, {k: v[:most] for k, v in real.items()} if encoding.wire.batched else real)
    for spec in encoding.wire.outputs:
        if shown is not None:
            _check_fits(spec, shown[spec.name])
    if shown is not None:
        shown = {s.name: numbers(s.datatype, shown[s.name]) for s in encoding.wire.outputs}
    stated = {s.name: s.role for s in encoding.wire.outputs if s.role is not OutputRole.OTHER}
    specs: tuple[InputSpec | OutputSpec, ...] = (*encoding.wire.inputs, *encoding.wire.outputs)
    signature = with_roles(encoding.wire, shown, o.task, stated | dict(o.output_roles or {}), o.displays)

    def fill(folder: Path) -> dict[str, FileRole]:
        for source, path in ((found.file, found.path), *((found.file.parent / b, b) for b in found.beside)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / path)
        return dict.fromkeys([found.path, *found.beside], FileRole.WEIGHTS)

    return assemble(
        Assembly(
            name=o.name,
            version=o.version,
            task=complete_task(o.task, signature),
            signature=signature,
            runtimes=(RuntimeFile(kind=found.kind, path=found.path),),
            trusted=runner,
            trusted_name="the imported file" if real is not None else "the imported file on made-up rows",
            samples=samples,
            sample_source=SampleSource.REAL if real is not None else SampleSource.MADE_UP,
            reference=reference,
            labels=o.reference_labels,
            golden_rows=o.golden,
            tolerance=o.tolerance or default_tolerance(s.datatype for s in specs),
            batch_sizes=tuple(o.batch_sizes),
            max_batch_rows=o.max_batch_rows,
            provenance=o.provenance,
            source=f"{found.kind}:{found.file.name}",
            seed=o.seed,
        ),
        Path(o.out_dir),
        fill,
        lambda folder: {found.kind.value: opened(folder / found.path)},
        overwrite=o.overwrite,
    )


def _tried(
    o: ImportOptions, signature: Signature, runner: Runner
) -> tuple[dict[str, Array] | None, dict[str, Array] | None]:
    """Made-up rows for golden cases (None where they will not do), and the model's answers to them.

    Raises:
        PackageError: the model does not run although every dimension is fixed, so that the rows cannot be at fault.
    """
    rows = made_up_rows(signature, max(2, o.golden), o.seed)
    guessed = any(n < 0 for i in signature.inputs for n in (i.shape[1:] if signature.batched else i.shape))
    try:
        shown = _answers(runner, rows)
        if signature.batched:
            in_batches(runner, rows, 1)
    except (PackageError, ValueError):
        if not guessed:
            raise
        _log.warning("%s: no golden cases: the model does not run on made-up rows, give real ones", o.name)
        return None, None
    return (rows if o.made_up else None), shown


def _answers(runner: Runner, arrays: Mapping[str, Array]) -> dict[str, Array]:
    try:
        return runner(arrays)
    except PackageError:
        raise
    except Exception as error:  # whatever the framework raises: the model does not run on input of its signature
        raise PackageError(f"the model does not run on input of its signature ({type(error).__name__})") from error


def _check_fits(spec: OutputSpec, array: Array) -> None:
    shape = list(array.shape)
    if array.dtype != spec.datatype.numpy:
        raise PackageError(f"output '{spec.name}' is {array.dtype}, the signature says {spec.datatype}")
    fits = len(shape) == len(spec.shape) and all(s in (-1, n) for s, n in zip(spec.shape, shape, strict=True))
    if not fits:
        raise PackageError(f"output '{spec.name}' has shape {shape}, the signature says {list(spec.shape)}")
