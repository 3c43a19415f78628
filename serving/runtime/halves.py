"""A batch that does not fit into the device's memory is run again in two halves, once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from serving.runtime.base import Array, OutOfMemory, Runtime

_log = logging.getLogger("hardcase.runtime")


def run_or_halve(runtime: Runtime, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
    """Run a batch with a batch axis; in two halves when it runs out of memory.

    Args:
        runtime: What runs it.
        inputs: (rows, ...) each.
        outputs: Indices of the wanted outputs.

    Raises:
        OutOfMemory: a half does not fit either, or there is a single row.
        HardcaseError: whatever else `Runtime.run` raises.
    """
    try:
        return runtime.run(inputs, outputs)
    except OutOfMemory:
        rows = len(inputs[0]) if inputs else 0
        if rows < 2:
            raise
        _log.warning("a batch of %d rows ran out of memory: it is run again in two halves", rows)
    half = (rows + 1) // 2
    parts = [
        runtime.run([np.ascontiguousarray(a[part]) for a in inputs], outputs)
        for part in (slice(0, half), slice(half, rows))
    ]
    return [np.concatenate(pair) for pair in zip(*parts, strict=True)]
