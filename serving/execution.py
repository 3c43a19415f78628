"""Running one batch: how its inputs come together, and what it leaves behind for the loop that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Semaphore
from typing import TypeAlias, cast

import numpy as np

from export.contracts.errors import HardcaseError, ModelFailed
from export.contracts.signature import Signature
from serving.answer import BatchOutputs
from serving.entry import Entry
from serving.runtime.base import Array, Runtime
from serving.runtime.halves import run_or_halve
from serving.stats import ReleaseReason, VersionStats


@dataclass(slots=True)
class PartCost:
    """What one part of a large request cost."""

    rows: int
    input_ns: int
    infer_ns: int


@dataclass(slots=True)
class Execution:
    """What running a batch left behind. One of `outputs` and `error` is set, unless every request was refused.

    Attributes:
        inputs: As they came in, of the requests that were run.
        refused: Requests that left the batch before it ran, by position, with the error; None: nobody waits any more.
        parts: What each part cost, when the batch is one request that ran in parts.
    """

    inputs: Sequence[Array] = ()
    refused: Mapping[int, HardcaseError | None] = field(default_factory=dict)
    outputs: BatchOutputs | None = None
    error: HardcaseError | None = None
    begun_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    parts: Sequence[PartCost] = ()


def part_of(entry: Entry, start: int, stop: int) -> Entry:
    """A request as if it had only some of its rows, as far as running it needs to know."""
    part = Entry.__new__(Entry)
    rows = entry.plan.rows
    part.plan = replace(entry.plan, rows=stop - start)
    part.cancelled, part.answered, part.deadline_ns = entry.cancelled, entry.answered, entry.deadline_ns
    part.buffers = tuple(
        buffer[start * (len(buffer) // rows) : stop * (len(buffer) // rows)]
        if isinstance(buffer, memoryview)
        else buffer[start:stop]
        for buffer in entry.buffers
    )
    return part


def joined(entry: Entry, ran: Sequence[tuple[int, Execution]], max_rows: int, signature: Signature) -> Execution | None:
    """One execution of the parts of a large request.

    Args:
        entry: The request.
        ran: First row of each part that has run, and what it left behind; in any order.
        max_rows: Rows of every part but the last.
        signature: The version's, batched.

    Returns:
        The whole; a failure as soon as one part has failed; None while parts are missing.
    """
    rows = entry.plan.rows
    parts = [part for _, part in sorted(ran, key=lambda part: part[0])]
    whole = Execution(
        begun_ns=parts[0].begun_ns,
        input_ns=sum(part.input_ns for part in parts),
        infer_ns=sum(part.infer_ns for part in parts),
        parts=[PartCost(len(part.inputs[0]), part.input_ns, part.infer_ns) for part in parts if part.inputs],
    )
    whole.refused = next((part.refused for part in parts if part.refused), {})
    whole.error = next((part.error for part in parts if part.error is not None), None)
    if not whole.refused and whole.error is None and len(parts) * max_rows < rows:
        return None
    whole.inputs = [
        np.frombuffer(buffer, spec.datatype.numpy).reshape(entry.plan.shapes[index])
        if isinstance(buffer, memoryview)
        else buffer
        for index, (spec, buffer) in enumerate(zip(signature.inputs, entry.buffers, strict=True))
    ]
    if whole.refused or whole.error is not None:
        return whole
    pieces = zip(*(part.outputs.arrays for part in parts if part.outputs is not None), strict=True)
    arrays = [None if some[0] is None else np.concatenate([a for a in some if a is not None]) for some in pieces]
    whole.outputs = BatchOutputs(signature.outputs, arrays, rows, signature.batched)
    return whole


def wanted(entries: Sequence[Entry], always: tuple[int, ...]) -> tuple[int, ...]:
    """Indices of the outputs to compute: those that are computed for every batch, and what these requests ask for."""
    extra = {index for e in entries for index in e.plan.answer.extra}
    return tuple(sorted({*always, *extra})) if extra else always


def count(stats: VersionStats, execution: Execution, rows: int, reason: ReleaseReason, output_ns: int = 0) -> None:
    """Count a batch that ran; of a large request, each of its parts."""
    for part in execution.parts:
        stats.executed(part.rows, reason, part.input_ns, part.infer_ns)
    if not execution.parts:
        stats.executed(rows, reason, execution.input_ns, execution.infer_ns, output_ns)


Watch: TypeAlias = Callable[[list[Entry], Execution], None]
_LARGE_BYTES = 1 << 20


def gather(entries: Sequence[Entry], rows: int, signature: Signature, runtime: Runtime) -> list[Array]:
    """The inputs of the whole batch: the one copy from request bytes to model memory.

    Args:
        entries: The batch; their row shapes are equal.
        rows: Rows of all entries together.
        signature: The version's.
        runtime: Asked for memory to gather in.

    Returns:
        In signature order, C-contiguous, (rows, ...) each, or the request's own shape when unbatched.
    """
    return [_gather(entries, index, rows, signature, runtime) for index in range(len(signature.inputs))]


def _gather(entries: Sequence[Entry], index: int, rows: int, signature: Signature, runtime: Runtime) -> Array:
    spec = signature.inputs[index]
    shape = entries[0].plan.shapes[index]
    if signature.batched:
        shape = (rows, *shape[1:])
    parts = [e.buffers[index] for e in entries]
    if not spec.datatype.itemsize:  # BYTES are object arrays
        arrays = cast("list[Array]", parts)
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    staging = runtime.buffer(index, shape)
    if staging is not None:
        _fill(staging, parts)
        return staging
    if len(parts) == 1 and isinstance(parts[0], np.ndarray):
        return parts[0]
    return np.frombuffer(b"".join(cast("list[memoryview]", parts)), dtype=spec.datatype.numpy).reshape(shape)


def _fill(staging: Array, parts: Sequence[memoryview | Array]) -> None:
    """Copy the parts into an array, one behind the other."""
    flat = staging.reshape(-1).view(np.uint8)
    view, at = flat.data, 0
    for part in parts:
        end = at + part.nbytes
        if isinstance(part, memoryview) and part.nbytes < _LARGE_BYTES:
            view[at:end] = part  # a sixth of numpy's time for a small part
        else:
            flat[at:end] = np.frombuffer(part, np.uint8)  # without the interpreter
        at = end


def run(
    runtime: Runtime,
    inputs: Sequence[Array],
    rows: int,
    indices: tuple[int, ...],
    limit: int,
    signature: Signature,
    turns: Semaphore | None = None,
) -> list[Array | None]:
    """Run in pieces of at most the largest batch.

    Args:
        runtime: Runs each piece.
        inputs: In signature order, (rows, ...) each.
        rows: Rows of the batch.
        indices: Outputs to compute.
        limit: Rows of the largest batch.
        signature: The version's.
        turns: Taken meanwhile; None while nobody but the version's own batcher runs it.

    Returns:
        By index into the signature's outputs; None for outputs that are not wanted.

    Raises:
        ModelFailed: another number of outputs came back than were wanted.
    """
    if turns is not None:
        with turns:
            return run(runtime, inputs, rows, indices, limit, signature)
    if not signature.batched:
        arrays = runtime.run(inputs, indices)
    elif rows <= limit:
        arrays = run_or_halve(runtime, inputs, indices)
    else:
        pieces = [
            run_or_halve(runtime, [np.ascontiguousarray(x[at : at + limit]) for x in inputs], indices)
            for at in range(0, rows, limit)
        ]
        arrays = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    if len(arrays) != len(indices):
        raise ModelFailed(f"the model returned {len(arrays)} outputs for {len(indices)} wanted ones")
    result: list[Array | None] = [None] * len(signature.outputs)
    for index, array in zip(indices, arrays, strict=True):
        result[index] = array
    return result


def parts(
    entries: Sequence[Entry], execution: Execution, signature: Signature
) -> Iterator[tuple[Entry, list[Array], BatchOutputs]]:
    """Each request of a batch that succeeded, with its own rows of the inputs and outputs."""
    assert execution.outputs is not None  # the batch succeeded
    batched, start = signature.batched, 0
    for entry in entries:
        span = slice(start, start + entry.plan.rows)
        start += entry.plan.rows
        inputs = [x[span] if batched else x for x in execution.inputs]
        arrays = [None if a is None else (a[span] if batched else a) for a in execution.outputs.arrays]
        yield entry, inputs, BatchOutputs(signature.outputs, arrays, entry.plan.rows, batched)
