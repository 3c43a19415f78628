"""Running one batch: how its inputs come together, and what it leaves behind for the loop that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, cast

import numpy as np

from export.contracts.errors import HardcaseError, ModelFailed
from export.contracts.signature import Signature
from serving.answer import BatchOutputs
from serving.entry import Entry
from serving.runtime.base import Array, Runtime
from serving.runtime.halves import run_or_halve


@dataclass(slots=True)
class Execution:
    """What running a batch left behind. One of `outputs` and `error` is set, unless every request was refused.

    Attributes:
        inputs: As they came in, of the requests that were run.
        refused: Requests that left the batch before it ran, by position, with the error; None: nobody waits any more.
    """

    inputs: Sequence[Array] = ()
    refused: Mapping[int, HardcaseError | None] = field(default_factory=dict)
    outputs: BatchOutputs | None = None
    error: HardcaseError | None = None
    begun_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0


Watch: TypeAlias = Callable[[list[Entry], Execution], None]
ALONE = nullcontext()  # a version's turns while nobody but its own batcher runs it


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
        flat, at = staging.reshape(-1).view(np.uint8), 0
        for part in parts:
            raw = np.frombuffer(part, np.uint8) if isinstance(part, memoryview) else part.reshape(-1).view(np.uint8)
            flat[at : at + raw.size] = raw
            at += raw.size
        return staging
    if len(parts) == 1 and isinstance(parts[0], np.ndarray):
        return parts[0]
    return np.frombuffer(b"".join(cast("list[memoryview]", parts)), dtype=spec.datatype.numpy).reshape(shape)


class Rows(Protocol):
    """Rows of one input that are made when a piece of them is asked for."""

    def __getitem__(self, part: slice) -> Array:
        """(rows of the part, ...)."""
        ...


def run(
    runtime: Runtime,
    inputs: Sequence[Array | Rows],
    rows: int,
    wanted: tuple[int, ...],
    limit: int,
    signature: Signature,
) -> list[Array | None]:
    """Run in pieces of at most the largest batch: one request may carry more rows.

    Args:
        runtime: Runs each piece.
        inputs: In signature order, (rows, ...) each. `Rows` only where there are more than `limit` rows.
        rows: Rows of the batch.
        wanted: Indices of the outputs to compute.
        limit: Rows of the largest batch.
        signature: The version's.

    Returns:
        By index into the signature's outputs; None for outputs that are not wanted.

    Raises:
        ModelFailed: another number of outputs came back than were wanted.
    """
    if not signature.batched:
        arrays = runtime.run(cast("Sequence[Array]", inputs), wanted)
    elif rows <= limit:
        arrays = run_or_halve(runtime, cast("Sequence[Array]", inputs), wanted)
    else:
        pieces = [
            run_or_halve(runtime, [np.ascontiguousarray(x[at : at + limit]) for x in inputs], wanted)
            for at in range(0, rows, limit)
        ]
        arrays = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    if len(arrays) != len(wanted):
        raise ModelFailed(f"the model returned {len(arrays)} outputs for {len(wanted)} wanted ones")
    result: list[Array | None] = [None] * len(signature.outputs)
    for index, array in zip(wanted, arrays, strict=True):
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
