"""Running one batch: how its inputs come together, and what it leaves behind for the loop that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from export.contracts.errors import HardcaseError
from export.contracts.signature import Signature
from serving.answer import BatchOutputs
from serving.entry import Entry
from serving.runtime.base import Array, Runtime


@dataclass(slots=True)
class Execution:
    """What running a batch left behind. Exactly one of `outputs` and `error` is set."""

    inputs: Sequence[Array] = ()
    outputs: BatchOutputs | None = None
    error: HardcaseError | None = None
    begun_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0


def gather(entries: Sequence[Entry], index: int, rows: int, signature: Signature, runtime: Runtime) -> Array:
    """One input of the whole batch: the one copy from request bytes to model memory.

    Args:
        entries: The batch; their row shapes are equal.
        index: Index of the input in the signature.
        rows: Rows of all entries together.
        signature: The version's.
        runtime: Asked for memory to gather in.

    Returns:
        C-contiguous, (rows, ...), or the request's own shape when unbatched.
    """
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
