"""The common second half of every export: parity, golden cases, reference profile, manifest, atomic write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.bf16 import numbers
from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.manifest import (
    FileRole,
    Manifest,
    Provenance,
    RuntimeFile,
    SampleSource,
    Task,
    TaskKind,
    Tolerance,
)
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import OutputRole, OutputSpec, Signature
from export.package import Golden, Package, write_package
from export.parity import run_parity
from export.preprocess import model_tensors
from export.provenance import environment, make_provenance
from export.reference import class_indices, compile_reference
from export.runners import Runner, in_batches

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Assembly:
    """What a package is made of, besides the weights. See `export.from_torch.export_module` for the fields.

    Attributes:
        signature: As clients see it. Runners and samples go by it, too: encoded images where preprocessing is declared.
        trusted: What is right by definition.
        samples: Rows for parity and golden cases, by input name; None when there are none.
        sample_source: Where they come from.
        reference: Held-out rows for the reference profile, or None.
    """

    name: str
    version: str
    task: Task
    signature: Signature
    runtimes: tuple[RuntimeFile, ...]
    trusted: Runner
    trusted_name: str
    samples: dict[str, Array] | None
    sample_source: SampleSource = SampleSource.REAL
    reference: dict[str, Array] | None
    labels: Sequence[Any] | Array | None
    golden_rows: int
    tolerance: Tolerance
    batch_sizes: tuple[int, ...]
    max_batch_rows: int
    provenance: Provenance | None
    source: str
    seed: int


def assemble(
    a: Assembly,
    dest: Path,
    fill: Callable[[Path], Mapping[str, FileRole]],
    candidates: Callable[[Path], Mapping[str, Runner]],
    *,
    overwrite: bool = False,
) -> Package:
    """Write the package, unless parity fails.

    Args:
        a: Everything but the weights.
        dest: The package's folder.
        fill: Writes the weights into a folder.
        candidates: Runners of the files in that folder, to compare with the trusted one.
        overwrite: Replace what is at `dest`.

    Raises:
        ParityFailed: nothing is at `dest` then.
        PackageError: the parts do not fit together.
    """
    try:
        manifest = Manifest(
            name=a.name,
            version=a.version,
            task=a.task,
            signature=a.signature,
            runtimes=a.runtimes,
            files=(),
            provenance=replace(
                a.provenance or make_provenance(a.source), samples=None if a.samples is None else a.sample_source
            ),
            golden_tolerance=a.tolerance,
            max_batch_rows=a.max_batch_rows,
        )
        profile, targets = _profile(a)
    except ValueError as error:
        raise PackageError(str(error)) from None
    golden = _golden(a)
    parity: list[bytes] = []

    def fill_and_compare(folder: Path) -> Mapping[str, FileRole]:
        roles = fill(folder)
        if a.samples is not None:
            report = run_parity(
                a.trusted,
                candidates(folder),
                a.samples,
                signature=a.signature,
                tolerance=a.tolerance,
                batch_sizes=a.batch_sizes,
                targets=targets if a.samples is a.reference else None,
                trusted_name=a.trusted_name,
                environment=environment(),
            )
            report.raise_if_failed()
            parity.append(report.to_json())
        return roles

    return write_package(
        dest,
        manifest,
        fill_and_compare,
        golden=golden,
        parity=lambda: parity[0] if parity else None,
        reference=profile,
        overwrite=overwrite,
    )


def _profile(a: Assembly) -> tuple[ReferenceProfile | None, Array | None]:
    """The reference profile and the labels as class indices."""
    if a.reference is None:
        if a.labels is not None:
            raise PackageError("reference_labels are given without reference_inputs")
        return None, None
    one_class = a.task.kind is not TaskKind.MULTI_LABEL
    classifies = one_class and a.signature.output_with_role(OutputRole.LOGITS, OutputRole.PROBABILITIES) is not None
    targets = class_indices(a.labels, a.task) if classifies and a.labels is not None else None
    specs = a.signature.outputs
    as_numbers = replace(a.signature, outputs=tuple(_as_numbers(s) for s in specs))

    def answer(rows: Mapping[str, Array]) -> dict[str, Array]:
        answers = in_batches(a.trusted, rows)
        return {s.name: numbers(s.datatype, answers[s.name]) for s in specs}

    outputs = answer(a.reference)
    made = compile_reference(
        as_numbers,
        a.task,
        a.reference,
        outputs,
        a.labels,
        seed=a.seed,
        answer=answer,
    )
    return made, targets


def _as_numbers(spec: OutputSpec) -> OutputSpec:
    """The spec of an output once `numbers` has read it."""
    return replace(spec, datatype=Datatype.FP32) if spec.datatype is Datatype.BF16 else spec


def _golden(a: Assembly) -> Golden | None:
    """Random real rows and what the trusted runner answers for each alone."""
    if a.samples is None or a.golden_rows < 1:
        return None
    if not a.signature.batched:
        return Golden(inputs=a.samples, outputs=a.trusted(a.samples), tensors=_tensors(a.signature, a.samples))
    rows = len(next(iter(a.samples.values())))
    chosen = np.sort(np.random.default_rng(a.seed).permutation(rows)[: a.golden_rows])
    inputs = {name: np.ascontiguousarray(array[chosen]) for name, array in a.samples.items()}
    return Golden(inputs=inputs, outputs=in_batches(a.trusted, inputs, 1), tensors=_tensors(a.signature, inputs))


def _tensors(signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
    encoded = [spec.name for spec in signature.inputs if spec.preprocess is not None]
    made = model_tensors(signature, inputs) if encoded else {}
    return {name: made[name] for name in encoded}
