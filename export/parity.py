"""The parity gate: the exported files compute what the module computes, at every batch size, or the export stops.

The expectation is the trusted runner (the eager module; for an imported file, the file itself) on one row at a time.
Each candidate, and the trusted runner itself, must give the same rows at every batch size: so a module whose rows
influence each other (a batch norm left in training mode, a reduction over the wrong axis) does not pass either, because
serving merges requests of different clients into one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts import codec
from export.contracts.bf16 import numbers
from export.contracts.datatypes import Datatype
from export.contracts.errors import ParityFailed
from export.contracts.manifest import Tolerance
from export.contracts.signature import Signature
from export.parity_decisions import MAX_ACCURACY_GAP, MIN_AGREEMENT, TaskMetric, task_metrics
from export.runners import Runner, in_batches

BATCH_SIZES = (1, 2, 7, 32)
MAX_ROWS = 256  # rows that are compared one by one; the task metric takes all
PARITY_SCHEMA_VERSION = 1
Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One output of one runtime at one batch size, against the trusted runner row by row.

    Attributes:
        elements: Elements compared.
        share_out: Share of elements out of tolerance.
        max_absolute: Largest |a - b|.
        max_relative: Largest |a - b| / |b| over b != 0.
        index: Where |a - b| exceeds the tolerance most, in the whole comparison; axis 0 is the sample's row.
        got: The runtime's value there, as text, because it may be NaN.
        expected: The trusted runner's value there.
        problem: A difference in shape, datatype or count, or the runtime's error; then nothing was compared.
    """

    runtime: str
    output: str
    batch_size: int
    elements: int
    share_out: float = 0.0
    max_absolute: float = 0.0
    max_relative: float = 0.0
    index: tuple[int, ...] = ()
    got: str = ""
    expected: str = ""
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every element is within tolerance."""
        return self.problem is None and self.share_out == 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityReport:
    """Everything that was compared; `parity.json` in the package."""

    trusted: str
    tolerance: Tolerance
    batch_sizes: tuple[int, ...]
    rows: int
    comparisons: tuple[Comparison, ...]
    metrics: tuple[TaskMetric, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    schema_version: int = PARITY_SCHEMA_VERSION

    @property
    def passed(self) -> bool:
        """Whether nothing parts."""
        return all(c.passed for c in self.comparisons) and all(m.passed for m in self.metrics)

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return codec.dumps(self)

    def raise_if_failed(self) -> None:
        """Raise for the worst place.

        Raises:
            ParityFailed: where they part, by how much; `report` holds all.
        """
        bad = [c for c in self.comparisons if not c.passed]
        if bad:
            worst = max(bad, key=lambda c: (c.problem is not None, c.share_out))
            raise ParityFailed(_explain(worst, self, len(bad)), self)
        for metric in self.metrics:
            if not metric.passed:
                raise ParityFailed(
                    f"runtime '{metric.runtime}' decides as {self.trusted} does on {metric.agreement:.2%} of "
                    f"{metric.rows} samples (accuracy {metric.accuracy} instead of {metric.expected_accuracy}); "
                    f"at least {MIN_AGREEMENT:.1%} and {MAX_ACCURACY_GAP} are asked for",
                    self,
                )


def run_parity(
    trusted: Runner,
    candidates: Mapping[str, Runner],
    inputs: Mapping[str, Array],
    *,
    signature: Signature,
    tolerance: Tolerance,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    targets: Array | None = None,
    trusted_name: str = "eager",
    environment: Mapping[str, str] | None = None,
) -> ParityReport:
    """Compare candidates with the trusted runner; never raises for a difference, see `raise_if_failed`.

    Args:
        trusted: The runner that is right by definition, called with one row at a time for the expectation.
        candidates: By runtime name.
        inputs: Real samples, (rows, ...) each; repeated where a batch size needs more.
        signature: Of the model. An unbatched model is compared on the one sample.
        tolerance: Elementwise.
        batch_sizes: Each candidate runs at each of them.
        targets: Class indices, (rows,), for accuracy.
        trusted_name: How messages call the trusted runner.
        environment: Library versions to keep in the report.
    """
    rows = len(next(iter(inputs.values()))) if signature.batched else 1
    if signature.batched:
        wanted = min(max(rows, *batch_sizes), MAX_ROWS)
        samples = {k: np.resize(v, (wanted, *v.shape[1:])) for k, v in inputs.items()}
        expected = in_batches(trusted, samples, 1)
        sizes = tuple(batch_sizes)
    else:
        samples, expected, sizes = dict(inputs), trusted(inputs), (1,)
    comparisons: list[Comparison] = []
    for runtime, runner in {trusted_name: trusted, **candidates}.items():
        for size in sizes:
            comparisons += _compare_at(runtime, runner, samples, expected, signature, size, tolerance)
    metrics = task_metrics(trusted, candidates, inputs, signature, targets, tolerance) if signature.batched else ()
    return ParityReport(
        trusted=trusted_name,
        tolerance=tolerance,
        batch_sizes=sizes,
        rows=rows,
        comparisons=tuple(comparisons),
        metrics=metrics,
        environment=dict(environment or {}),
    )


def _compare_at(
    runtime: str,
    runner: Runner,
    samples: Mapping[str, Array],
    expected: Mapping[str, Array],
    signature: Signature,
    size: int,
    tolerance: Tolerance,
) -> list[Comparison]:
    try:
        got = in_batches(runner, samples, size) if signature.batched else runner(samples)
    except Exception as error:  # whatever a framework raises is a finding, and the report says which
        text = f"it raised {type(error).__name__}"
        return [
            Comparison(runtime=runtime, output=signature.outputs[0].name, batch_size=size, elements=0, problem=text)
        ]
    return [
        compare(runtime, o.name, size, got.get(o.name), expected[o.name], tolerance, o.datatype)
        for o in signature.outputs
    ]


def compare(
    runtime: str,
    output: str,
    size: int,
    got: Array | None,
    expected: Array,
    tolerance: Tolerance,
    datatype: Datatype | None = None,
) -> Comparison:
    """Compare two arrays of one output. NaN equals NaN, an infinity equals the same infinity, nothing else.

    `datatype` is what the arrays carry where numpy does not say it: BF16.

    Example:
        >>> t = Tolerance(absolute=0.1, relative=0.0)
        >>> c = compare("onnx", "y", 1, np.array([1.0, 2.5]), np.array([1.0, 2.0]), t)
        >>> c.passed, c.share_out, c.index, c.got, c.expected
        (False, 0.5, (1,), '2.5', '2.0')
    """
    base: dict[str, Any] = {"runtime": runtime, "output": output, "batch_size": size}
    if got is None:
        return Comparison(**base, elements=0, problem="the output is missing")
    if got.shape != expected.shape:
        return Comparison(**base, elements=0, problem=f"shape {list(got.shape)} instead of {list(expected.shape)}")
    if got.dtype != expected.dtype:
        return Comparison(**base, elements=0, problem=f"datatype {got.dtype} instead of {expected.dtype}")
    if not expected.size:
        return Comparison(**base, elements=0)
    if datatype is not None:
        got, expected = numbers(datatype, got), numbers(datatype, expected)
    if expected.dtype.kind not in "fiub":
        excess = (got != expected).astype(np.float64)
        absolute = relative = excess
    else:
        a, b = got.astype(np.float64), expected.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            absolute = np.where(same, 0.0, np.abs(a - b))
            absolute = np.where(np.isnan(absolute), np.inf, absolute)
            limit = tolerance.absolute + tolerance.relative * np.abs(b)
            limit = np.where(np.isfinite(limit), limit, 0.0)
            excess = np.maximum(absolute - limit, 0.0)
            relative = np.where(b != 0, absolute / np.abs(b), 0.0)
            relative = np.where(np.isnan(relative), np.inf, relative)
    worst = np.unravel_index(int(np.argmax(excess if excess.any() else absolute)), expected.shape)
    return Comparison(
        **base,
        elements=int(expected.size),
        share_out=float((excess > 0).mean()),
        max_absolute=_finite(absolute.max()),
        max_relative=_finite(relative.max()),
        index=tuple(int(i) for i in worst),
        got=str(got[worst]),
        expected=str(expected[worst]),
    )


def _explain(worst: Comparison, report: ParityReport, count: int) -> str:
    place = f"runtime '{worst.runtime}', output '{worst.output}', batch size {worst.batch_size}"
    total = len(report.comparisons)
    if worst.problem is not None:
        return f"{place}: {worst.problem} ({count} of {total} comparisons failed)"
    hint = " (its rows influence each other: is it in eval mode?)" if worst.runtime == report.trusted else ""
    t = report.tolerance
    return (
        f"{place}, index {list(worst.index)}: {worst.got} instead of {worst.expected}{hint}; {worst.share_out:.1%} of "
        f"{worst.elements} elements are out of |a-b| <= {t.absolute:g} + {t.relative:g}*|b|, largest difference "
        f"{worst.max_absolute:.3g} absolute, {worst.max_relative:.3g} relative; {count} of {total} comparisons failed"
    )


def _finite(value: Any) -> float:
    """JSON has no infinity: the largest float stands for it."""
    return float(min(float(value), np.finfo(np.float64).max))
