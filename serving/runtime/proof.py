"""Proof that a loaded runtime does what its package promises: warm-up, golden cases, and how long a batch takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter_ns

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import HardcaseError, PackageError
from export.contracts.manifest import Tolerance
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.images import decoded_rows
from export.package import Golden, Package
from serving.options import Precision
from serving.runtime.base import Array, LoadFailed, Runtime, as_contiguous, as_float64

_TIMED_RUNS = 10
_DECODER_LEVELS = 0.5  # mean difference of one image; two builds of libjpeg-turbo differ by less
_TIMED_NS = 100_000_000  # enough runs, or enough time: a slow model is not timed ten times


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """What the proof measured.

    Attributes:
        golden_rows: Golden rows that were reproduced; 0 when the package has none.
        row_us: Best time of one row, microseconds.
        batch_us: Best time of the largest batch, microseconds; infinite when it could not be tried without real inputs.
        batch_rows: Rows of that batch.
    """

    golden_rows: int
    row_us: float
    batch_us: float
    batch_rows: int


def prove(
    runtime: Runtime,
    package: Package,
    max_rows: int,
    *,
    timed: bool = True,
    precision: Precision = Precision.AS_EXPORTED,
) -> Proof:
    """Run a fresh runtime before it may answer anybody.

    Args:
        runtime: A runtime that answers nobody yet.
        package: Its package.
        max_rows: Rows of the largest batch that will be sent to it.
        timed: Repeat runs for a stable time; without it each size runs once.
        precision: What the runtime computes in, for the reason of a refusal.

    Raises:
        LoadFailed: the model raises, an output does not fit the signature, or the golden cases are not reproduced.
    """
    golden = package.golden()
    if golden is not None:
        golden = _decoded(package.manifest.signature, golden)
    signature = package.manifest.signature.model
    rows = max_rows if signature.batched else 1
    if golden is not None:
        try:
            _check_golden(runtime, signature, golden, package.manifest.golden_tolerance, rows)
        except LoadFailed as error:
            if precision is Precision.AS_EXPORTED:
                raise
            raise LoadFailed(f"{error.message} (runtime.precision is {precision})") from None
    try:
        row_us = _time(runtime, signature, _inputs(signature, golden, 1), 1, timed)
        batch_us = _time(runtime, signature, _inputs(signature, golden, rows), rows, timed) if rows > 1 else row_us
    except HardcaseError as error:
        if golden is not None:
            raise LoadFailed(f"warm-up with {rows} rows failed: {error.message}") from None
        # Zeros are no evidence against a model. It is not known to be fast either, so it gets a thread of its own.
        row_us = batch_us = float("inf")
    return Proof(golden_rows=golden.rows if golden else 0, row_us=row_us, batch_us=batch_us, batch_rows=rows)


def check_outputs(specs: Sequence[OutputSpec], arrays: Sequence[Array], rows: int | None) -> None:
    """Hold a runtime's answer against the signature.

    Args:
        specs: The outputs that were asked for.
        arrays: What the runtime returned.
        rows: Rows that went in; None for a signature without a batch axis.

    Raises:
        LoadFailed: names the output and both versions of the fact.
    """
    if len(arrays) != len(specs):
        raise LoadFailed(f"wrong signature: {len(specs)} outputs were asked for, {len(arrays)} came back")
    for spec, array in zip(specs, arrays, strict=True):
        if array.dtype != spec.datatype.numpy:
            raise LoadFailed(f"wrong signature: output '{spec.name}' is {array.dtype}, not {spec.datatype}")
        expected = spec.shape if rows is None else (rows, *spec.shape[1:])
        same = len(expected) == array.ndim and all(e in (-1, n) for e, n in zip(expected, array.shape, strict=True))
        if not same:
            raise LoadFailed(
                f"wrong signature: output '{spec.name}' has shape {list(array.shape)}, not {list(expected)}"
            )


def _check_golden(runtime: Runtime, signature: Signature, golden: Golden, tolerance: Tolerance, max_rows: int) -> None:
    """Run the golden cases in batches of at most `max_rows` and compare.

    Raises:
        LoadFailed: says which output differs, in how many elements and by how much.
    """
    missing = [s.name for s in signature.inputs if s.name not in golden.inputs]
    if missing:
        raise LoadFailed(f"golden cases: input '{missing[0]}' is not in them")
    indices = tuple(i for i, s in enumerate(signature.outputs) if s.name in golden.outputs)
    specs = [signature.outputs[i] for i in indices]
    step = max_rows if signature.batched else golden.rows or 1
    for start in range(0, golden.rows if signature.batched else 1, step):
        part = slice(start, start + step) if signature.batched else slice(None)
        inputs = [as_contiguous(golden.inputs[s.name][part], s.datatype.numpy) for s in signature.inputs]
        try:
            answers = runtime.run(inputs, indices)
        except HardcaseError as error:
            raise LoadFailed(f"golden cases: {error.message}") from None
        check_outputs(specs, answers, len(inputs[0]) if signature.batched else None)
        for spec, answer in zip(specs, answers, strict=True):
            _compare(spec, answer, golden.outputs[spec.name][part], tolerance)


def _decoded(signature: Signature, golden: Golden) -> Golden:
    """The golden cases as the runtime sees them, once the decoder is proved to do what it did at the export.

    Image decoders differ by a level here and there, more than models may. So the two steps are proved apart: the
    decoder against the tensors that it made at the export, the runtime from those tensors on.

    Raises:
        LoadFailed: a golden image is refused, or becomes another one.
    """
    try:
        for spec in signature.inputs:
            stored = golden.tensors.get(spec.name)
            if spec.preprocess is None or spec.name not in golden.inputs:
                continue
            made = decoded_rows(golden.inputs[spec.name], spec.preprocess, spec.name)
            if stored is None:
                golden.tensors[spec.name] = made
            elif stored.shape != made.shape or stored.dtype != made.dtype:
                raise LoadFailed(f"golden cases: the decoded input '{spec.name}' has another shape or datatype")
            else:
                _check_levels(spec.name, spec.preprocess, made, stored)
    except PackageError as error:
        raise LoadFailed(f"golden cases: {error.message}") from None
    return replace(golden, inputs=golden.inputs | golden.tensors)


def _check_levels(name: str, decode: ImageDecode, made: Array, stored: Array) -> None:
    """Hold decoded images against the export's, in 8-bit levels.

    Raises:
        LoadFailed: an image differs by more than `_DECODER_LEVELS` on average.
    """
    level = min(abs(decode.scale / s) for s in decode.std or (1.0,))
    gaps = np.abs(made.astype(np.float64) - stored.astype(np.float64)).reshape(-1, decode.size[0] * decode.size[1])
    rows = gaps.reshape(gaps.shape[0] // decode.channels, -1).mean(axis=1) / level
    if not (rows <= _DECODER_LEVELS).all():
        raise LoadFailed(
            f"golden cases: input '{name}' is decoded differently from how it was at the export, by "
            f"{np.max(rows):.3g} levels of 255 on average: is it the same image library?"
        )


def _compare(spec: OutputSpec, answer: Array, truth: Array, tolerance: Tolerance) -> None:
    """Elementwise: |answer - truth| <= absolute + relative·|truth|; exact for everything that is not a float."""
    if answer.shape != truth.shape:
        raise LoadFailed(f"golden cases: output '{spec.name}' has shape {list(answer.shape)}, not {list(truth.shape)}")
    if not spec.datatype.is_float:
        wrong = int(np.sum(answer != truth.astype(answer.dtype)))
        if wrong:
            raise LoadFailed(f"golden cases: output '{spec.name}' differs in {wrong} of {answer.size} elements")
        return
    a, b = as_float64(spec.datatype, answer), as_float64(spec.datatype, truth)
    broken = int(np.sum(~np.isfinite(a) & np.isfinite(b)))
    if broken:
        raise LoadFailed(
            f"golden cases: output '{spec.name}' is not finite in {broken} of {answer.size} elements (NaN or infinity)"
        )
    with np.errstate(invalid="ignore"):  # infinity minus infinity, where the truth is infinite, too
        near = np.isclose(a, b, rtol=tolerance.relative, atol=tolerance.absolute, equal_nan=True)
        largest = float(np.max(np.abs(a - b), initial=0.0, where=np.isfinite(b)))
    if not near.all():
        raise LoadFailed(
            f"golden cases: output '{spec.name}' differs in {int(np.sum(~near))} of {answer.size} elements, "
            f"by {largest:.3g} at most"
        )


def _inputs(signature: Signature, golden: Golden | None, rows: int) -> list[Array]:
    """`rows` rows of golden inputs, repeated as needed; zeros and empty texts where there are none."""
    return [_input(spec, golden, rows, signature.batched) for spec in signature.inputs]


def _input(spec: InputSpec, golden: Golden | None, rows: int, batched: bool) -> Array:
    if golden is not None:
        array = golden.inputs[spec.name]
        if batched:
            array = np.take(array, np.arange(rows) % len(array), axis=0)
        return as_contiguous(array, spec.datatype.numpy)
    shape = [1 if d < 0 else d for d in spec.shape]
    if batched:
        shape[0] = rows
    return np.full(shape, b"" if spec.datatype is Datatype.BYTES else 0, dtype=spec.datatype.numpy)


def _time(runtime: Runtime, signature: Signature, inputs: list[Array], rows: int, timed: bool) -> float:
    """The best time of a run in microseconds. The best, because everything that disturbs a run makes it longer."""
    outputs = tuple(range(len(signature.outputs)))
    best = spent = 0
    for _ in range(1 + (_TIMED_RUNS if timed else 0)):  # the first one allocates
        started = perf_counter_ns()
        answers = runtime.run(inputs, outputs)
        took = perf_counter_ns() - started
        best = min(best, took) if best else took
        spent += took
        if spent > _TIMED_NS:
            break
    check_outputs(signature.outputs, answers, rows if signature.batched else None)
    return best / 1e3
