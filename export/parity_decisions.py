"""The other half of parity: the files decide as the module does, not only answer with near numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.bf16 import numbers
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Tolerance
from export.contracts.signature import OutputRole, OutputSpec, Signature
from export.runners import Runner, in_batches

MIN_AGREEMENT = 0.999
MAX_ACCURACY_GAP = 0.001
Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMetric:
    """The task's own figure: argmax agreement (and accuracy, with labels) over all samples."""

    runtime: str
    rows: int
    agreement: float
    accuracy: float | None = None
    expected_accuracy: float | None = None

    @property
    def passed(self) -> bool:
        """Whether decisions agree."""
        if self.agreement < MIN_AGREEMENT:
            return False
        if self.accuracy is None or self.expected_accuracy is None:
            return True
        return abs(self.accuracy - self.expected_accuracy) <= MAX_ACCURACY_GAP


def task_metrics(
    trusted: Runner,
    candidates: Mapping[str, Runner],
    inputs: Mapping[str, Array],
    signature: Signature,
    targets: Array | None,
    tolerance: Tolerance,
) -> tuple[TaskMetric, ...]:
    """How each candidate decides, beside the trusted runner; nothing for models without classes."""
    spec = signature.output_with_role(OutputRole.LOGITS, OutputRole.PROBABILITIES)
    if spec is None:
        return ()
    scores = numbers(spec.datatype, in_batches(trusted, inputs)[spec.name])
    wanted = scores.argmax(axis=-1)
    found = []
    for runtime, runner in candidates.items():
        try:
            got = numbers(spec.datatype, in_batches(runner, inputs)[spec.name]).argmax(axis=-1)
        except Exception:  # the comparisons carry the error; here the decision counts as different
            found.append(TaskMetric(runtime=runtime, rows=len(wanted), agreement=0.0))
            continue
        flat = targets is not None and wanted.ndim == 1
        found.append(
            TaskMetric(
                runtime=runtime,
                rows=len(wanted),
                agreement=_agreement(got, wanted, scores, spec, tolerance),
                accuracy=float((got == targets).mean()) if flat else None,
                expected_accuracy=float((wanted == targets).mean()) if flat else None,
            )
        )
    return tuple(found)


def _agreement(got: Array, wanted: Array, scores: Array, spec: OutputSpec, tolerance: Tolerance) -> float:
    """The share of rows with the same decision.

    BF16 scores tie, or nearly: with 8 bits the best two classes often have neighbouring numbers, or one. There a class
    is the same decision when the trusted runner's score of it is the best within the tolerance.
    """
    if got.shape != wanted.shape:
        return 0.0
    same = got == wanted
    if spec.datatype is Datatype.BF16:
        best, chosen = (np.take_along_axis(scores, c[..., None], axis=-1)[..., 0] for c in (wanted, got))
        same |= chosen >= best - (tolerance.absolute + tolerance.relative * np.abs(best))
    return float(same.mean())
