"""Batch sizes that graphs are recorded for, and inputs to record them with."""

from __future__ import annotations

import numpy as np

from export.contracts.bf16 import narrow
from export.contracts.datatypes import Datatype
from export.contracts.signature import InputSpec, Signature
from serving.runtime.base import Array


def buckets(max_rows: int) -> list[int]:
    """Powers of two up to the largest batch, and that itself.

    Example:
        >>> buckets(1), buckets(8), buckets(12)
        ([1], [1, 2, 4, 8], [1, 2, 4, 8, 12])
    """
    sizes = [1 << power for power in range(max(1, max_rows).bit_length())]
    return sizes if sizes[-1] == max_rows else [*sizes, max_rows]


def bucket_of(rows: int, max_rows: int) -> int:
    """The smallest bucket that holds `rows`; for more than the largest batch: `rows` itself, which no bucket is.

    Example:
        >>> bucket_of(3, 12), bucket_of(9, 12), bucket_of(13, 12)
        (4, 12, 13)
    """
    if rows > max_rows:
        return rows
    return min(1 << (rows - 1).bit_length(), max_rows) if rows > 0 else 0


def sample_inputs(signature: Signature, rows: int) -> list[Array] | None:
    """Inputs of the signature's shapes; None when a shape is open besides the batch, or an input is BYTES.

    Integers are zero, which is an index of every table; floats are standard normal by a fixed seed.
    """
    rng = np.random.default_rng(0)
    samples = []
    for spec in signature.inputs:
        shape = (rows, *spec.shape[1:]) if signature.batched else spec.shape
        if spec.datatype is Datatype.BYTES or any(n < 0 for n in shape):
            return None
        samples.append(_sample(rng, spec, shape))
    return samples


def _sample(rng: np.random.Generator, spec: InputSpec, shape: tuple[int, ...]) -> Array:
    if not spec.datatype.is_float:
        return np.zeros(shape, dtype=spec.datatype.numpy)
    values = rng.standard_normal(shape, dtype=np.float32)
    if spec.datatype is Datatype.BF16:
        return narrow(values)
    return np.ascontiguousarray(values, dtype=spec.datatype.numpy)
